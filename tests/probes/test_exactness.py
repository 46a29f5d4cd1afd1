"""The measurement of the gradient that the claims ledger prints."""

import json

import pytest

from celllm.errors import UserError
from celllm.probes.exactness import (
    ExactnessSettings,
    gradient,
    gradient_error,
    random_chunks,
    run_gradient_error,
)
from celllm.settings import as_settings
from celllm.training import contrastive

SMALL = ExactnessSettings(n_cells=7, n_genes=30, chunk_sizes=(1, 3))


def test_the_fact_is_the_largest_error_of_all_chunk_sizes(tmp_path) -> None:
    run_gradient_error(
        tmp_path / "gradient.json",
        as_settings(ExactnessSettings, {"n_cells": 7, "n_genes": 30, "chunk_sizes": [1, 3]}),
    )
    facts = json.loads((tmp_path / "gradient.json").read_text())["contrastive"]
    by_chunk = facts["gradient_relative_error_by_chunk"]
    assert set(by_chunk) == {"1", "3"}
    assert facts["gradient_relative_error"] == max(by_chunk.values())
    assert 0 <= facts["gradient_relative_error"] < 1e-12


def test_other_dropout_in_the_second_pass_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive.RandomState, "restore", lambda self: None)
    monkeypatch.setattr(contrastive, "_check_replay", lambda passes: None)
    assert gradient_error(SMALL, 3) > 0.01


def test_the_gradient_holds_all_objectives() -> None:
    chunks = random_chunks(SMALL, 3)
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert not all(chunk.mask.all() for chunk in chunks), "no chunk is padded"
    with_contrast, without = (gradient(name, SMALL, chunks) for name in ("end_to_end", "none"))
    assert with_contrast.dtype.itemsize == 8
    assert len(with_contrast) > len(without) > 0


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(UserError, match="expected at least 1"):
        SMALL.changed(chunk_sizes=(0,))
