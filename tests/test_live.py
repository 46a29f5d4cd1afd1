"""The line that stands in for Snakemake's output."""

import io
import logging
import time
from typing import Any

import pytest

from celllm.live import LiveView, show


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


def view(stream: io.StringIO, said: io.StringIO) -> LiveView:
    plain = logging.StreamHandler(said)
    return LiveView(plain, total=210, log="a.log", stream=stream)


def send(
    handler: LiveView, event: str | None, level: int = logging.INFO, text: str = "", **fields: Any
) -> None:
    record = logging.LogRecord("snakemake", level, "", 0, text, None, None)
    record.__dict__.update(fields, event=event)
    handler.handle(record)


def test_line_names_what_is_done_failed_and_running(said: io.StringIO) -> None:
    handler = view(Terminal(), said)
    handler.started = time.time() - 60
    send(
        handler, "job_info", jobid=1, rule_name="annotate", wildcards={"data_set": "baron", "model": "celllm"}
    )
    send(handler, "job_info", jobid=2, rule_name="fetch", wildcards={"path": "x" * 80})
    assert handler.line() == f"[  0/210]  annotate baron/celllm, fetch ...{'x' * 37}"
    send(handler, "job_finished", job_id=2)
    send(handler, "progress", done=10, total=220)
    assert handler.line().startswith("[ 10/220]  ends at about ")
    assert handler.line().endswith("  annotate baron/celllm")
    send(handler, "job_error", logging.ERROR, "Error in rule annotate", jobid=1)
    assert "1 failed" in handler.line() and "annotate" not in handler.line()
    assert "Error in rule annotate" in said.getvalue()
    for job in range(3, 7):
        send(handler, "job_info", jobid=job, rule_name="figure" if job < 6 else "table", wildcards={})
    assert handler.line().endswith("figure x 3, table")


def test_end_is_foreseen_from_the_rate(said: io.StringIO) -> None:
    handler = view(Terminal(), said)
    handler.started = time.time() - 100
    handler.done, handler.total = 100, 200
    wanted = time.time() + 100
    shown = [time.strftime("%H:%M", time.localtime(wanted + shift)) for shift in (-2, 2)]
    assert any(f"ends at about {moment}" in handler.line() for moment in shown)


def test_without_a_terminal_lines_are_few_and_plain(said: io.StringIO) -> None:
    stream = io.StringIO()
    handler = view(stream, said)
    for done in range(1, 101):
        send(handler, "progress", done=done, total=100)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "210 jobs; Snakemake's own log: a.log"
    assert lines[-1].startswith("100 of 100 jobs done in 0 min 0 s")
    assert len(lines) == 3 and "\x1b" not in stream.getvalue()


def test_warnings_are_printed_and_information_is_not(said: io.StringIO) -> None:
    handler = view(Terminal(), said)
    send(handler, None, logging.INFO, "Select jobs to execute...")
    send(handler, None, logging.WARNING, "disk nearly full")
    assert said.getvalue() == "disk nearly full\n"


def test_only_the_printing_handler_is_replaced() -> None:
    logger = logging.Logger("snakemake.test")
    printing, to_file = logging.StreamHandler(io.StringIO()), logging.StreamHandler(io.StringIO())
    printing.name = "DefaultStreamHandler"
    logger.addHandler(printing)
    logger.addHandler(to_file)
    show(logger, 3, "a.log")
    assert to_file in logger.handlers and printing not in logger.handlers
    assert [type(handler) for handler in logger.handlers] == [logging.StreamHandler, LiveView]
