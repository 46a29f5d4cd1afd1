"""docs/reliability.md names the test of each promise."""

import re

from tests.places import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(?:tests/)?([\w/]*test_\w+\.py)(?:::(\w+))?`", PAGE)))


def test_the_tests_that_the_page_names_exist() -> None:
    assert len([name for _, name in NAMED if name]) > 50
    missing = []
    for file, name in NAMED:
        path = ROOT / "tests" / file
        if not path.is_file() or (name and not re.search(rf"^def {name}\(", path.read_text(), re.M)):
            missing.append(f"{file}::{name}")
    assert missing == []


def test_every_fault_has_a_test() -> None:
    tables = PAGE.partition("## Killed")[2].partition("## Damaged")[0]
    lines = [line for line in tables.splitlines() if line.startswith("| ") and "| test" not in line]
    assert len(lines) > 30
    assert [line for line in lines if "::test_" not in line] == []
