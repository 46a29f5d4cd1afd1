"""Two runs cell by cell."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from celllm.cli import main
from celllm.errors import UserError
from celllm.io import write_text
from celllm.report.compare import differences, same, tensors_hash

SCRIPT = Path(__file__).parents[1] / "workflow" / "same_results.py"
SCORE = "scores/annotation/baron/celllm/strict.csv"
COLUMNS = "table,task,data_set,model,protocol,split,seed,metric,value,status,seconds,peak_mib,reason"
S5 = "title,column,value\nCellLM,accuracy,0.5\nCellLM,seconds,3.1\nCellLM,peak GiB,0.3\n"


def score(split: int, value: str, seconds: str = "3.5") -> str:
    return f"table1,annotation,baron,celllm,strict,{split},0,accuracy,{value},ok,{seconds},480.0,"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a"
    write_text(folder / SCORE, "\n".join([COLUMNS, score(0, "0.5"), score(1, "0.25")]) + "\n")
    write_text(folder / "claims.csv", "run,id,verdict,note\na,few-shot,holds,74.0 ± 1.0 of 5\n")
    write_text(folder / "tables/table_s5.csv", S5)
    write_text(folder / "figures/fig4.csv", "source,length\nfitted,149\nfitted,149\n")
    (folder / "checkpoints/celllm").mkdir(parents=True)
    save_file({"w": np.arange(4.0), "b": np.zeros(2)}, folder / "checkpoints/celllm/encoder.safetensors")
    return folder


@pytest.fixture
def other(run: Path) -> Path:
    return Path(shutil.copytree(run, run.parent / "b"))


def found(a: Path, b: Path, tolerance: float = 0.0) -> list[str]:
    return [str(difference) for difference in differences(a, b, tolerance)]


def test_a_copy_is_equal_whatever_it_cost_and_is_called(run: Path, other: Path) -> None:
    write_text(other / SCORE, "\n".join([COLUMNS, score(1, "0.25", "99"), score(0, "0.5", "1")]) + "\n")
    write_text(other / "tables/table_s5.csv", S5.replace("3.1", "7.5").replace("0.3", "0.4"))
    write_text(other / "claims.csv", "run,id,verdict,note\nb,few-shot,holds,74.0 ± 1.0 of 5\n")
    save_file(
        {"b": np.zeros(2), "w": np.arange(4.0)},
        other / "checkpoints/celllm/encoder.safetensors",
        {"made": "later"},
    )
    assert found(run, other) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (SCORE, "0.25", "0.26", "strict / 1 / 0 / accuracy: value: 0.25 | 0.26"),
        (SCORE, score(1, "0.25") + "\n", "", "strict / 1 / 0 / accuracy: a row | nothing"),
        (SCORE, "peak_mib", "peak", f"{SCORE}: peak: nothing | a column"),
        ("claims.csv", "holds", "fails", "claims.csv: few-shot: verdict: holds | fails"),
        ("tables/table_s5.csv", "0.5", "0.6", "CellLM / accuracy: value: 0.5 | 0.6"),
        ("figures/fig4.csv", "149\nfitted,149", "149\nfitted,150", "(row 2): length: 149 | 150"),
        ("figures/fig4.csv", "149\nfitted,149", "149", "(row 2): a row | nothing"),
    ],
)
def test_a_changed_cell_is_named(
    run: Path, other: Path, file: str, old: str, new: str, expected: str
) -> None:
    path = other / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert any(line.endswith(expected) for line in found(run, other)), found(run, other)


def test_a_missing_file_and_other_tensors_are_named(run: Path, other: Path) -> None:
    (other / "figures/fig4.csv").unlink()
    encoder = other / "checkpoints/celllm/encoder.safetensors"
    changed = np.arange(4.0)
    changed[3] = np.nextafter(3.0, 4.0)
    save_file({"w": changed, "b": np.zeros(2)}, encoder)
    hashes = [tensors_hash(folder / "checkpoints/celllm/encoder.safetensors")[:12] for folder in (run, other)]
    assert found(run, other) == [
        "figures/fig4.csv: there | nothing",
        f"checkpoints/celllm/encoder.safetensors: tensors: {hashes[0]} | {hashes[1]}",
    ]


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "expected"),
    [
        ("0.5", "0.5", 0, True),
        ("0.5", "0.50", 0, False),
        ("0.5", "0.50", 1e-9, True),
        ("0.5", "0.5009", 1e-3, True),
        ("0.5", "0.502", 1e-3, False),
        ("1000", "1000.9", 1e-3, True),
        ("1000", "1002", 1e-3, False),
        ("", "0", 1.0, False),
        ("nan", "nan", 1e-3, True),
        ("nan", "1", 1e-3, False),
        ("holds", "fails", 1.0, False),
        ("71.8 ± 1.0", "71.9 ± 1.0", 1e-6, True),  # the last printed digit
        ("71.8 ± 1.0", "72.0 ± 1.0", 1e-6, False),
        ("20,757 cells", "20,758 cells", 1e-3, True),
        ("20,757 cells", "20,857 cells", 1e-3, False),
        ("split 1: a", "split 1: b", 1.0, False),
    ],
)
def test_tolerance(a: str, b: str, tolerance: float, expected: bool) -> None:
    assert same(a, b, tolerance) is expected
    assert same(b, a, tolerance) is expected


def test_a_folder_that_is_no_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no score files"):
        found(run, tmp_path / "nothing")


def test_damaged_tensors_are_refused(run: Path, other: Path) -> None:
    (other / "checkpoints/celllm/encoder.safetensors").write_bytes(json.dumps({}).encode())
    with pytest.raises(UserError, match="not a safetensors file"):
        found(run, other)


def test_the_script_says_equal_or_what_differs(run: Path, other: Path) -> None:
    def script(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), str(run), str(other), *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    assert (script().returncode, script().stdout) == (0, "equal\n")
    (other / SCORE).write_text((run / SCORE).read_text().replace("0.25", "0.2501"))
    assert script().returncode == 1 and "0.25 | 0.2501" in script().stdout
    assert script("--tolerance", "0.001").stdout == "equal\n"


def test_the_command_names_verdicts_that_flip_first(run: Path, other: Path, capsys) -> None:
    assert main(["compare", str(run), str(other)]) == 0
    assert capsys.readouterr().out.startswith("equal: ")
    claims = other / "claims.csv"
    claims.write_text(claims.read_text().replace("holds", "fails").replace("74.0", "70.0"))
    (other / SCORE).write_text((run / SCORE).read_text().replace("0.25", "0.26").replace("0.5", "0.6"))
    assert main(["compare", str(run), str(other), "--tolerance", "0.001", "--lines", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["verdicts: 1 difference", "  claims.csv: few-shot: verdict: holds | fails"]
    assert "scores: 2 differences" in lines and "  ... and 1 more" in lines
    assert main(["compare", str(run), str(run / "claims.csv")]) == 2
