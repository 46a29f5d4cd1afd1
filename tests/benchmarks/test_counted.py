"""Benchmarks that count rather than time: hours of a row, cost of planning."""

import importlib
import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_hours_of_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    assert importlib.import_module("row_hours").main([]) == 0
    lines = re.findall(r"\| `celllm`, (Table \d) \| (\S+) \| (\S+) \| (\S+) \|", capsys.readouterr().out)
    hours = {table: tuple(map(float, numbers)) for table, *numbers in lines}
    assert set(hours) == {"Table 1", "Table 2", "Table 3"}
    # Nine of ten layers are frozen: kept states spare up to 9/10 of the forward passes, and none of the rest.
    every, kept, _ = hours["Table 1"]
    assert 3 < every / kept < 10
    # Random pairs of 16 lines against 128 pairs of 8 lines.
    _, random_pairs, few_lines = hours["Table 3"]
    assert random_pairs / few_lines == pytest.approx(16, rel=0.1)


def test_cost_of_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    line = importlib.import_module("snakemake_cost").planned("paper.yaml", 20, 0)
    found = re.fullmatch(r"controller: \S+ s, (\S+) s of the processor, (\d+) MiB, (\d+) jobs", line)
    assert found and 0.5 < float(found[1]) < 60 and 50 < int(found[2]) < 1000
    assert int(found[3]) > 4 * 20  # four jobs of each sample: two downloads, its preparation, its shard
