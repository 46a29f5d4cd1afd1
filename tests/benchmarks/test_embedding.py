"""The benchmark of embedding runs at small sizes and prints what RESULTS.md quotes."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("embedding")


def test_speed(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--cells", "5", "--depth", "1", "--rounds", "1", "--genes", "700", "--longest", "400"]
    assert script.main(["--median", "200", *small]) == 0
    text = capsys.readouterr().out
    off = re.search(r"the same vector of \[CLS\] to (\S+)\n", text)
    assert off and float(off[1]) < 1e-5
    assert text.count(" cells/s (") == 3 and text.count("ours over performer-pytorch") == 2


def test_memory_does_not_grow_with_the_cells(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--part", "memory", "--sizes", "5000", "20000"]) == 0
    few, many = map(int, re.findall(r"peak (\d+) MiB", capsys.readouterr().out))
    assert 0 < many < few + 40  # the larger file has 12 MiB of counts more, in memory 16


def test_the_import_is_light(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--part", "import", "--rounds", "1"]) == 0
    assert "(PyTorch with it: False)" in capsys.readouterr().out
