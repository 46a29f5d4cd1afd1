"""Counts beside the paper's: what is the same, what is accepted, what ends a full run."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from celllm.errors import UserError
from celllm.io import read_yaml
from celllm.report.check_counts import CountSettings, compared, expected, name_of, run_check_counts
from celllm.report.claims import run_claims
from celllm.report.ledger import NOT_RUN, OTHER_DATA
from celllm.report.published import load
from celllm.report.settings import ClaimSettings, TableSettings
from celllm.report.tables import run_table
from celllm.settings import as_settings
from tests.places import ROOT

BOOK = load()


def facts_of_paper() -> dict[str, Any]:
    """Facts of a run that has exactly the cells of the paper."""
    facts: dict[str, Any] = {}
    for path, value in expected(BOOK).items():
        here = facts
        for key in path[:-1]:
            here = here.setdefault(key, {})
        here[path[-1]] = value
    return facts


@pytest.fixture
def facts(tmp_path: Path):
    """A file of the paper's own counts; keywords replace counts of data sets."""

    def write(zheng68k: dict[str, int] | None = None, **counts: dict[str, Any]) -> Path:
        content = facts_of_paper()
        content["data_sets"]["zheng68k"]["labels"] |= zheng68k or {}
        for name, changed in counts.items():
            content["data_sets"][name] |= changed
        path = tmp_path / "facts.json"
        path.write_text(json.dumps(content))
        return path

    return write


def verdicts(path: Path, **settings: Any) -> dict[str, str]:
    lines = compared(json.loads(path.read_text()), CountSettings(**settings), BOOK)
    return {line["count"]: line["verdict"] for line in lines}


def test_every_printed_count_is_compared() -> None:
    names = {name_of(path): value for path, value in expected(BOOK).items()}
    assert len(names) == 11 + 13 + 2 + 12
    assert (
        sum(v for n, v in names.items() if n.startswith("zheng68k/labels/"))
        == names["zheng68k/n_cells"]
        == 68450
    )
    assert sum(v for n, v in names.items() if n.startswith("baron/labels/")) == names["baron/n_cells"] == 8562
    assert (names["panglaodb/n_cells"], names["panglaodb/n_tissues"]) == (1126580, 74)
    assert (names["cancerscem/n_cells"], names["cancerscem/n_samples"]) == (638341, 208)
    assert (names["gdsc_ccle/n_pairs"], names["gdsc_ccle/n_lines"], names["gdsc_ccle/n_drugs"]) == (
        106405,
        555,
        223,
    )
    assert names["vocabulary/n_genes"] == 19379


def test_the_papers_own_counts_pass(facts, tmp_path) -> None:
    run_check_counts([facts()], CountSettings(), tmp_path / "counts.json")
    written = json.loads((tmp_path / "counts.json").read_text())
    assert {line["verdict"] for line in written["counts"]} == {"same"}
    assert written["toy"] is False


def test_other_counts_end_the_run_and_are_named(facts, tmp_path) -> None:
    path = facts({"CD34+": 262, "CD56+ NK": 5859}, baron={"n_cells": 8569})
    with pytest.raises(UserError) as caught:
        run_check_counts(
            [path],
            as_settings(CountSettings, {"accept": {"zheng68k/labels/CD34+": [242, 277]}}),
            tmp_path / "counts.json",
        )
    message = str(caught.value)
    assert "\n" not in message
    assert "2 of 38 are neither the paper's nor accepted" in message
    assert "zheng68k/labels/CD56+ NK is 5,859, paper 8,775" in message
    assert "baron/n_cells is 8,569, paper 8,562" in message
    assert not (tmp_path / "counts.json").exists()


def test_a_toy_is_compared_and_passes(facts, tmp_path) -> None:
    run_check_counts([facts(baron={"n_cells": 3})], CountSettings(toy=True), tmp_path / "counts.json")
    lines = {line["count"]: line for line in json.loads((tmp_path / "counts.json").read_text())["counts"]}
    assert (lines["baron/n_cells"]["ours"], lines["baron/n_cells"]["verdict"]) == (3, "differs")


@pytest.mark.parametrize(
    ("ours", "settings", "verdict"),
    [
        (8562, {}, "same"),
        (8563, {}, "differs"),
        (8647, {"tolerance": 0.01}, "within tolerance"),
        (8648, {"tolerance": 0.01}, "differs"),
        (8476, {"tolerance": 0.01}, "differs"),
        (8569, {"accept": {"baron/n_cells": 8569}}, "accepted"),
        (8568, {"accept": {"baron/n_cells": 8569}}, "differs"),
        (8565, {"accept": {"baron/*": [8562, 8569]}}, "accepted"),
        (8570, {"accept": {"baron/*": [8562, 8569]}}, "differs"),
        (8565, {"accept": {"baron/*": 1, "baron/n_cells": [8562, 8569]}}, "accepted"),
        (None, {}, "not-measured"),
    ],
)
def test_verdict_on_a_count(facts, ours, settings, verdict) -> None:
    assert verdicts(facts(baron={"n_cells": ours}), **settings)["baron/n_cells"] == verdict


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        ({"baron/cells": 3}, "'baron/cells' is not a count in the paper; known are gse149383/n_cells, "),
        ({"baron/n_cells": "many"}, r"'baron/n_cells': expected a number or \[lowest, highest\], got 'many'"),
        ({"baron/n_cells": [9, 8]}, r"expected a number or \[lowest, highest\], got \[9, 8\]"),
    ],
)
def test_a_slip_in_the_accepted_numbers_is_one_line(facts, tmp_path, accept, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run_check_counts([facts()], as_settings(CountSettings, {"accept": accept}), tmp_path / "counts.json")
    assert "\n" not in str(caught.value)


def test_the_full_run_takes_the_papers_labels_and_no_others(facts, tmp_path) -> None:
    """All public counts pass config/paper.yaml; the other labelling of the same 68,579 cells does not."""
    settings = read_yaml(ROOT / "config/paper.yaml")["counts"]
    public = {
        "CD8+ Cytotoxic T": 20773, "CD8+/CD45RA+ Naive Cytotoxic": 16666, "CD56+ NK": 8776,
        "CD4+/CD25 T Reg": 6187,
        "CD19+ B": 5908, "CD4+/CD45RO+ Memory": 3061, "CD14+ Monocyte": 2862, "Dendritic": 2099,
        "CD4+/CD45RA+/CD25- Naive T": 1873, "CD34+": 277, "CD4+ T Helper2": 97,
    }  # fmt: skip
    found = {
        "panglaodb": {"n_cells": 1070580},
        "cancerscem": {"n_cells": 700079, "n_samples": 212},
        "gdsc_ccle": {"n_pairs": 107446, "n_lines": 561},
    }
    path = facts(public, **found)
    content = json.loads(path.read_text())
    content["data_sets"]["zheng68k"]["n_cells"] = sum(public.values())
    content["vocabulary"]["n_genes"] = 19283
    path.write_text(json.dumps(content))
    run_check_counts([path], as_settings(CountSettings, settings), tmp_path / "counts.json")
    content["data_sets"]["zheng68k"]["labels"] |= {"CD8+ Cytotoxic T": 11445, "CD4+/CD25 T Reg": 14112}
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"2 of 38 .*Cytotoxic T is 11,445, paper 20,757, accepted 20,757 to 20,773"
    ):
        run_check_counts([path], as_settings(CountSettings, settings), tmp_path / "other.json")


def test_tables_print_difference_and_reason(facts, tmp_path) -> None:
    path = facts({"CD34+": 262})
    run_table("tabled1", [], {}, TableSettings(run="x"), tmp_path / "d1", [path])
    frame = pd.read_csv(tmp_path / "d1.csv", dtype=str, keep_default_na=False).set_index(["title", "column"])
    cell = frame.loc[("CD34+", "Cells")]
    assert list(cell[["paper", "ours", "difference", "status"]]) == ["242", "262", "+20", "differs"]
    assert cell["reason"].startswith("The public file has 277; ")
    assert list(frame.loc[("CD56+ NK", "Cells"), ["difference", "status", "reason"]]) == ["0", "same", ""]
    text = (tmp_path / "d1.md").read_text()
    assert re.search(r"\| CD34\+ \| 242 \| \*\*262\*\* <sup>\d</sup> \| \+20 \| 0.35 \|", text)
    assert "| **Row** | **paper**  | **this run**  | **Δ**  |" in text
    assert r"$\Delta$" in (tmp_path / "d1.tex").read_text()


def test_a_toys_tables_give_no_reason_for_other_cells(facts, tmp_path) -> None:
    run_table("tabled1", [], {}, TableSettings(run="x", toy=True), tmp_path / "d1", [facts({"CD34+": 2})])
    frame = pd.read_csv(tmp_path / "d1.csv", dtype=str, keep_default_na=False)
    assert (frame["reason"] == "").all()
    assert frame.loc[frame["title"] == "CD34+", "difference"].iloc[0] == "−240"


def test_claims_on_data_get_their_verdicts(facts, score_file, tmp_path) -> None:
    path = facts(panglaodb={"n_cells": 1070580}, gdsc_ccle={"n_lines": 561})
    run_claims([score_file({})], {}, ClaimSettings(run="x"), tmp_path / "claims", [path])
    frame = pd.read_csv(tmp_path / "claims.csv").set_index("id")
    verdict = frame["verdict"]
    counts = [claim.id for claim in load().claims if claim.undecidable == OTHER_DATA]
    assert {"zheng-cells", "panglaodb-cells", "response-lines", "genes"} <= set(counts)
    counted = verdict[counts] != NOT_RUN
    assert set(verdict[counts][counted]) == {OTHER_DATA} and counted.sum() > 10
    assert float(frame.loc["panglaodb-cells", "our_value"]) == 1070580
    assert verdict["pretraining-cells"] == NOT_RUN
