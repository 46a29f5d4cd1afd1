"""The head of the report: what is told of a run with everything, with gaps, with nothing."""

import re
from pathlib import Path

import pytest

from celllm.report import published
from celllm.report.claims import run_claims
from celllm.report.ledger import read_ledger
from celllm.report.render import read_table
from celllm.report.settings import ClaimSettings, TableSettings
from celllm.report.summary import summary_view
from celllm.report.tables import run_table
from celllm.settings import as_settings

MANIFEST = {
    "size": "full", "finished": "2026-11-25T20:01:02+00:00", "celllm": "0.1.0", "job_seconds": 900.0,
    "git": {"commit": "0123456789abcdef", "dirty": True}, "machine": {"n_cpus": 2, "gpus": []},
}  # fmt: skip
KEYS = [
    (data_set, metric)
    for data_set in ("zheng68k", "baron")
    for metric in ("macro_f1", "weighted_f1", "accuracy")
]


@pytest.fixture
def summary(tmp_path: Path, score_file, spread, models):
    """The summary of a run with Table 1 from (model, protocol) -> mean, and Table D.1 without facts."""

    def make(means: dict[tuple[str, str], float], toy: bool = False) -> dict:
        values = {
            (model, data_set, protocol, metric): spread(mean, 0.01)
            for (model, protocol), mean in means.items()
            for data_set, metric in KEYS
        }
        scores, settings = [score_file(values)], {"run": "test", "toy": toy}
        for name in ("table1", "tabled1"):
            run_table(name, scores, models, as_settings(TableSettings, settings), tmp_path / name)
        run_claims(scores, models, as_settings(ClaimSettings, settings), tmp_path / "claims")
        views = [read_table(tmp_path / f"{name}.csv") for name in ("table1", "tabled1")]
        return summary_view(views, read_ledger(tmp_path / "claims.csv"), MANIFEST, published.load())

    return make


def test_origin_and_time(summary) -> None:
    told = " ".join(summary({("celllm", "strict"): 0.7})["facts"]["What this run is"])
    assert "finished 2026-11-25 20:01 UTC" in told
    assert "celllm 0.1.0 (commit 0123456789 with changed files)" in told
    assert "15.0 minutes of jobs on 2 cores, no GPU" in told


def test_controls_that_lead_and_the_optimism(summary) -> None:
    means = {
        ("celllm", "strict"): 0.70,
        ("celllm", "paper"): 0.72,
        ("scbert", "strict"): 0.60,
        ("scbert", "paper"): 0.59,
        ("logistic", "strict"): 0.75,
        ("logistic", "paper"): 0.75,
    }
    found = summary(means)
    assert "A control is best in 6 of 6 columns of Table 1." in found["facts"]["What it says"]
    assert "what that choice adds" in " ".join(found["facts"]["What this run is"])
    line = found["tables"][0]
    assert line["filled"] == "18 of 36 numbers"
    assert line["best"] == "L1 logistic_regression & more (6)"
    assert line["optimism"] == "+0.5 on average (−1.0 to +2.0)"


def test_what_is_missing_is_told_with_its_reason(summary) -> None:
    gaps = summary({("celllm", "strict"): 0.7})["facts"]["What was not run"]
    assert gaps[0] == "Not made in this run: Table 2, Table 3, Table B.1, Table B.2."
    assert "Table 1: 30 of 36 numbers are missing (no scores in this run)." in gaps
    assert any(gap.startswith("Table D.1: 22 of 22 numbers are missing") for gap in gaps)


def test_a_run_without_any_score(summary) -> None:
    found = summary({})
    assert found["tables"][0]["filled"] == "0 of 36 numbers"
    assert found["tables"][0]["best"] == found["tables"][0]["optimism"] == ""
    assert found["facts"]["What it says"][0].endswith(
        "0 were decidable in this run: 0 hold, 0 fail, 0 are too close to call over its splits."
    )


def test_what_holds_by_construction_or_by_other_data_is_left_out_of_the_totals(
    tmp_path: Path, score_file, spread, models
) -> None:
    """A run with one score, which holds, and two facts that would."""
    facts = tmp_path / "facts.json"
    facts.write_text('{"model": {"n_parameters": 52000000}, "data_sets": {"zheng68k": {"n_cells": 68450}}}')
    scores = [score_file({("celllm", "zheng68k", "strict", "macro_f1"): spread(0.718, 0.01)})]
    run_claims(scores, models, ClaimSettings(run="x"), tmp_path / "claims", [facts])
    told = summary_view([], read_ledger(tmp_path / "claims.csv"), MANIFEST, published.load())
    said = told["facts"]["What it says"]
    assert " 1 were decidable in this run: 1 hold, 0 fail, 0 are too close" in said[0]
    assert "1 set by the configuration, 1 counts that depend on the release of a data set" in said[1]


def test_verdicts_in_words_add_up(summary) -> None:
    told = summary({("celllm", "strict"): 0.718, ("scbert", "strict"): 0.68})["facts"]["What it says"][:3]
    total, decidable, *verdicts = (int(n) for n in re.findall(r"\d+", told[0]))
    others = [int(n) for n in re.findall(r"\b\d+\b", told[1])]
    own = sum(claim.source == "benchmark" for claim in published.load().claims)
    assert total == len(published.load().claims) - own == decidable + sum(others)
    assert len(verdicts) == 3 and decidable == sum(verdicts) > 0
    assert told[2].startswith(f"Of {own} orders in the paper's tables")
    assert "none is judged" in summary({("celllm", "strict"): 0.7}, toy=True)["facts"]["What it says"][0]
