import csv
import json
from pathlib import Path

import pytest

from celllm.errors import UserError
from celllm.model.settings import EncoderConfig
from celllm.probes.memory import GIB, Fit, Point, run_memory
from celllm.probes.peak_memory import PeakMeter
from celllm.probes.settings import MemorySettings
from celllm.report.published import load
from celllm.scores.columns import MEMORY
from celllm.scores.facts import find
from celllm.settings import as_settings

SIZE = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8}
SETTINGS = {
    "budget_gib": 0.25,
    "n_cells": 64,
    "batch_sizes": [4, 64],
    "size": SIZE,
    "n_genes": 400,
    "attention": ["favor"],
    "tracker": "meta",
}


def line(base: float, per_token: float, per_cell: float) -> Fit:
    def at(n: int, length: int) -> Point:
        return Point(n, length, int(base + per_token * 2 * n * (length + 1) + per_cell * n + n * n))

    points = (at(8, 10), at(8, 50), at(32, 5))
    return Fit("end_to_end", points, (at(16, 100),), lambda n: n * n)


def test_a_line_gives_back_what_it_was_made_of() -> None:
    fit = line(1000, 7, 30)
    assert list(fit.coefficients) == pytest.approx([1000, 7, 30])
    assert fit.residual == pytest.approx(0, abs=1e-9)
    for length in (1, 17, 400):
        budget = fit.peak(16, length)
        assert fit.max_length(budget + 1, 16) == length
        assert fit.max_length(budget - 1, 16) == length - 1
    assert fit.max_length(100, 16) == 0


def test_the_longest_cells_fit_and_longer_ones_do_not(tmp_path: Path) -> None:
    run_memory(tmp_path / "memory.json", tmp_path / "memory.csv", as_settings(MemorySettings, SETTINGS))
    facts = json.loads((tmp_path / "memory.json").read_text())["memory"]
    meter = PeakMeter(EncoderConfig(n_genes=400, **SIZE))
    for contrast, name in (
        ("end_to_end", "max_length_end_to_end"),
        ("divide_and_conquer", "max_length_divided"),
    ):
        n_cells = 64 if contrast == "end_to_end" else 1
        length = facts[name]
        assert meter.peak(contrast, n_cells, length) <= 0.25 * GIB * 1.01
        assert meter.peak(contrast, n_cells, int(1.05 * length) + 1) > 0.25 * GIB
    assert facts["largest_error_of_the_line"] < 0.02
    assert facts["by_attention"]["favor"]["max_length_divided"] == facts["max_length_divided"]


def test_the_table_holds_measured_steps_and_curves(tmp_path: Path) -> None:
    run_memory(tmp_path / "memory.json", tmp_path / "memory.csv", as_settings(MemorySettings, SETTINGS))
    with open(tmp_path / "memory.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == MEMORY
    curve = {(r["contrast"], r["n_cells"]): int(r["length"]) for r in rows if r["what"] == "curve"}
    assert set(curve) == {(c, n) for c in ("end_to_end", "divide_and_conquer") for n in ("4", "64")}
    assert curve["end_to_end", "4"] == pytest.approx(16 * curve["end_to_end", "64"], rel=0.25)
    assert curve["divide_and_conquer", "4"] == pytest.approx(curve["divide_and_conquer", "64"], rel=0.02)
    measured = [r for r in rows if r["what"] != "curve"]
    assert all(float(r["peak_mib"]) > 0 for r in measured)
    for row in measured:
        if row["what"] == "checked":
            assert float(row["fitted_mib"]) == pytest.approx(float(row["peak_mib"]), rel=0.02)


def test_claims_find_their_facts(tmp_path: Path) -> None:
    settings = SETTINGS | {"attention": ["favor", "released"]}
    run_memory(tmp_path / "memory.json", tmp_path / "memory.csv", as_settings(MemorySettings, settings))
    facts = json.loads((tmp_path / "memory.json").read_text())
    wanted = [claim.fact for claim in load().claims if claim.fact and claim.fact[0] == "memory"]
    assert len(wanted) == 2
    assert all(find(facts, path) > 0 for path in wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget_gib": 0}, r"budget_gib: expected more than 0, got 0"),
        ({"n_cells": 2}, "n_cells: expected at least 4"),
        ({"attention": []}, "attention: expected at least 1 item"),
        ({"attention": ["flash"]}, r"attention\.0: expected 'favor'"),
    ],
)
def test_slips_are_told_in_one_line(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run_memory(
            tmp_path / "memory.json", tmp_path / "memory.csv", as_settings(MemorySettings, SETTINGS | change)
        )
