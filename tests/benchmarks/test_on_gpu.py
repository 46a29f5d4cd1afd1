"""The script for a GPU runs on a CPU at small sizes, so that it is known to run when there is a GPU."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "on_gpu.py"


@pytest.mark.parametrize("part", ["right", "fast", "memory", "epoch", "several"])
def test_every_part_runs_small_on_a_cpu(part: str, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("on_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--device", "cpu", "--small", "--parts", part, "--out", str(tmp_path)]) == 0
    page = (tmp_path / "cpu.md").read_text()
    assert f"## {part}: " in page
    assert "FAILED" not in page
    wanted = {
        "right": [
            "float32: output off by",
            "bfloat16: output off by",
            "divide_and_conquer, a step in float32 against the CPU's",
            "moco, a step in float32 against the CPU's",
            "divide-and-conquer against end-to-end on this device",
            "a fine-tuning step in float32 against the CPU's",
            "killed and resumed: ",
        ],
        "fast": ["Zheng68k, performer-pytorch padded to 6,000", "divide-and-conquer over end-to-end"],
        "memory": ["divide_and_conquer: "],
        "epoch": ["an epoch over 64 cells", "Table 3, 16 random pairs", "Table 3, 128 pairs of 8 lines"],
        "several": ["nothing to compare"],
    }
    assert [line for line in wanted[part] if line not in page] == []


def test_no_part_begins_when_the_time_is_up(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("on_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.main(["--device", "cpu", "--small", "--minutes", "-1", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "cpu.md").read_text().count("no time left") == 5
