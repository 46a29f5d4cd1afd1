from pathlib import Path

import pandas as pd
import pytest

from celllm.errors import UserError
from celllm.io import read_json
from celllm.report.gate import last_words, run_gate
from celllm.report.settings import GateSettings, TableSettings
from celllm.report.tables import run_table
from celllm.settings import as_settings

GOOD = {("celllm", "baron", "strict", m): [0.5, 0.6] for m in ("macro_f1", "accuracy")}
FAILURE = {
    ("scbert", "baron", "strict", m): {
        0: ("out-of-memory", "needs 40 GiB"),
        3: ("out-of-memory", "needs 40 GiB"),
    }
    for m in ("macro_f1", "accuracy")
}


def test_good_scores_pass(tmp_path, score_file) -> None:
    run_gate([score_file(GOOD)], GateSettings(), tmp_path / "complete.json")
    summary = read_json(tmp_path / "complete.json")
    assert summary["complete"] is True
    assert (summary["rows"], summary["statuses"], summary["allowed_failures"]) == (4, {"ok": 4}, [])


def test_what_does_not_apply_is_no_failure(tmp_path, score_file) -> None:
    missing = {("drug_mean", "baron", "strict", "macro_f1"): {0: ("not-applicable", "no drug in this task")}}
    run_gate([score_file(GOOD, missing)], GateSettings(), tmp_path / "complete.json")
    assert read_json(tmp_path / "complete.json")["statuses"] == {"ok": 4, "not-applicable": 1}


def test_a_failure_ends_the_run_and_writes_nothing(tmp_path, score_file) -> None:
    with pytest.raises(UserError) as told:
        run_gate([score_file(GOOD, FAILURE)], GateSettings(), tmp_path / "complete.json")
    message = str(told.value)
    assert message.startswith(
        "2 unexpected failures: scbert on baron (strict, split 0, 3): out-of-memory, needs 40 GiB. "
    )
    assert "\n" not in message
    assert not (tmp_path / "complete.json").exists()


@pytest.mark.parametrize("failing", [("scbert",), ("scbert", "celllm")])
def test_the_table_is_made_whatever_fails(tmp_path, score_file, models, failing: tuple[str, ...]) -> None:
    """One method, or all of them."""
    metrics = ("macro_f1", "weighted_f1", "accuracy")
    chosen = {name: models[name] for name in ("scbert", "celllm")}
    keys = {name: [(name, "baron", "strict", metric) for metric in metrics] for name in chosen}
    good = {key: [0.5, 0.6] for name in chosen if name not in failing for key in keys[name]}
    bad = {key: {0: ("failed", "no reason")} for name in failing for key in keys[name]}
    scores = score_file(good, bad)
    run_table("table1", [scores], chosen, TableSettings(run="test"), tmp_path / "table1")
    frame = pd.read_csv(tmp_path / "table1.csv", keep_default_na=False)
    for name in failing:
        here = (frame["model"] == name) & (frame["data_set"] == "baron") & (frame["protocol"] == "strict")
        assert len(frame[here]) == len(metrics) and set(frame[here]["status"]) == {"failed"}
    with pytest.raises(UserError, match="unexpected failure"):
        run_gate([scores], GateSettings(), tmp_path / "complete.json")


@pytest.mark.parametrize(
    "pattern", ["scbert/baron", "scbert/*", "*/out-of-memory", "scbert/baron/out-of-memory"]
)
def test_an_allowed_failure_is_written_down(tmp_path, score_file, pattern) -> None:
    run_gate(
        [score_file(GOOD, FAILURE)],
        as_settings(GateSettings, {"allowed": [pattern]}),
        tmp_path / "complete.json",
    )
    summary = read_json(tmp_path / "complete.json")
    assert [row["split"] for row in summary["allowed_failures"]] == ["0", "3"]
    assert summary["allowed"] == [pattern]


@pytest.mark.parametrize("pattern", ["scbert/zheng68k", "scbert/baron/failed", "celllm/*"])
def test_other_patterns_allow_nothing(tmp_path, score_file, pattern) -> None:
    with pytest.raises(UserError, match="unexpected failures"):
        run_gate(
            [score_file(GOOD, FAILURE)],
            as_settings(GateSettings, {"allowed": [pattern]}),
            tmp_path / "complete.json",
        )


def test_no_scores_are_no_success(tmp_path) -> None:
    with pytest.raises(UserError, match="nothing was scored"):
        run_gate([], GateSettings(), tmp_path / "complete.json")


def test_the_reason_is_found_in_the_log_of_this_run_only(tmp_path: Path) -> None:
    log = tmp_path / "gate.log"
    assert last_words(log, 0) == ""
    log.write_text(
        "12:00:00 something\ncelllm gate: 1 unexpected failure: old\ncelllm gate: 2 unexpected failures\n"
    )
    assert last_words(log, log.stat().st_mtime - 1) == "celllm gate: 2 unexpected failures"
    assert last_words(log, log.stat().st_mtime + 1) == ""
    log.write_text("12:00:00 fine\n")
    assert last_words(log, 0) == ""
