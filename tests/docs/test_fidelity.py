"""docs/fidelity.md: current, with a source in every cell, and true of the configurations that are run."""

import importlib.util
import re
from typing import Any

import pytest

from celllm.io import read_yaml
from tests.places import CONFIG, ROOT

spec = importlib.util.spec_from_file_location("fidelity", ROOT / "docs/fidelity.py")
assert spec and spec.loader
fidelity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fidelity)

PARTS = read_yaml(ROOT / "docs/fidelity.yaml")
ROWS = [row for part in PARTS for row in part["rows"]]
NO_SOURCE = re.compile(r"\bnot given\b")
PAPER = re.compile(
    r"(?:\(|section |[Aa]ppendix |Table )(?:abstract|section|appendix|Table|[A-F]?\.?\d)|\babstract\)"
)
RELEASED = re.compile(r"\b[\w/.-]+\.(?:py|json|sh)\b|issue 64")


@pytest.fixture(scope="module")
def filled() -> dict[str, Any]:
    return {name: fidelity.Filled(CONFIG / f"{name}.yaml") for name in ("paper", "corrected")}


def test_the_page_is_made_of_the_list() -> None:
    assert (ROOT / "docs/fidelity.md").read_text() == fidelity.page(PARTS), "run python docs/fidelity.py"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["what"])
def test_no_cell_is_without_a_source(row: dict[str, Any]) -> None:
    assert set(row) <= {"what", "paper", "released", "here", "paper_yaml", "corrected_yaml", "code", "effect"}
    assert PAPER.search(row["paper"]) or NO_SOURCE.search(row["paper"]), row["paper"]
    assert RELEASED.search(row["released"]) or NO_SOURCE.search(row["released"]), row["released"]
    assert row["effect"]
    assert "paper_yaml" in row or (ROOT / row["code"]).is_file()


@pytest.mark.parametrize("row", [row for row in ROWS if "paper_yaml" in row], ids=lambda row: row["what"])
def test_the_settings_are_those_that_are_run(row: dict[str, Any], filled: dict[str, Any]) -> None:
    literal, corrected = row["paper_yaml"], row["paper_yaml"] | row.get("corrected_yaml", {})
    assert {key: filled["paper"][key] for key in literal} == literal
    assert {key: filled["corrected"][key] for key in corrected} == corrected


def test_every_correction_has_its_row() -> None:
    """What corrected.yaml changes of the literal run stands in the table."""

    def leaves(values: dict[str, Any], path: str = "") -> set[str]:
        return {
            leaf
            for key, value in values.items()
            for leaf in (leaves(value, f"{path}{key}.") if isinstance(value, dict) else {path + key})
        }

    changed = leaves(read_yaml(CONFIG / "corrected.yaml")) - {"run", "pretraining.settings.geometry_steps"}
    changed = {re.sub(r"\.baselines\.(\w+)\.", r"@\1.", key) for key in changed}
    listed = {
        key.replace("catalogue.", "reader_options.") for row in ROWS for key in row.get("corrected_yaml", {})
    }
    assert changed == listed | {key.replace("warm", "cold") for key in listed}
