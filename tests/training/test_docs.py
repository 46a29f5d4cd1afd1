"""The example of docs/contrastive.md runs as it stands."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "contrastive.md"


def test_example_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    *_, example = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})
    *losses, accuracy = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines())
    assert losses[-1] < losses[0] - 1
    assert accuracy > 0.94
