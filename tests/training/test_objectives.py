from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from celllm.corpus.expressed import Ragged
from celllm.corpus.tokens import CLS_BIN, MASK_BIN, CellBatch, Tokeniser
from celllm.training.objectives import MaskedCells, hide_expressions

N_GENES = 300


def cells(lengths: list[int]) -> Ragged:
    rng = np.random.default_rng(0)
    genes = [np.sort(rng.choice(N_GENES, n, replace=False)) for n in lengths]
    return Ragged(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate(genes).astype(np.uint16),
        rng.integers(0, 5 * 4096, sum(lengths)).astype(np.uint16),
    )


def numbers(n: int, seed: int = 0) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(2**64, size=n, dtype=np.uint64)


def hide(batch: CellBatch, seed: int = 0, **options: Any) -> MaskedCells:
    n = len(batch)
    return hide_expressions(batch, numbers(n, seed), np.zeros(n, dtype=np.uint8), **options)


@pytest.fixture
def batch() -> CellBatch:
    return Tokeniser(N_GENES)(cells([1, 6, 7, 20, 40, 100, 140, 200]))


@pytest.mark.parametrize("seed", range(5))
def test_fifteen_percent_of_each_cell_are_chosen(batch: CellBatch, seed: int) -> None:
    # ceil(0.15 n) for 1, 6, 7, 20, 40, 100, 140 and 200 tokens
    assert hide(batch, seed).chosen.sum(1).tolist() == [1, 1, 2, 3, 6, 15, 21, 30]


def test_only_real_expression_tokens_are_chosen(batch: CellBatch) -> None:
    for seed in range(50):
        masked = hide(batch, seed)
        assert not masked.chosen[:, 0].any()
        assert not (masked.chosen & ~batch.mask).any()
        assert (masked.bins[:, 0] == CLS_BIN).all()


def test_targets_are_what_stood_there(batch: CellBatch) -> None:
    before = batch.bins.clone()
    masked = hide(batch)
    assert torch.equal(batch.bins, before), "the batch itself stays as it is"
    assert torch.equal(masked.targets, before[masked.chosen])
    assert torch.equal(masked.bins[~masked.chosen], before[~masked.chosen])
    hidden = masked.bins != before
    assert (masked.bins[hidden] == MASK_BIN).all()
    assert torch.equal(masked.gene_ids, batch.gene_ids)


def test_ninety_percent_become_mask_and_all_places_are_alike() -> None:
    batch = Tokeniser(N_GENES)(cells([200] * 100))
    n_hidden = n_chosen = 0
    by_place = torch.zeros(201)
    for seed in range(20):
        masked = hide(batch, seed)
        n_chosen += int(masked.chosen.sum())
        n_hidden += int((masked.bins == MASK_BIN).sum())
        by_place += masked.chosen.sum(0)
    assert n_chosen == 20 * 100 * 30
    assert n_hidden / n_chosen == pytest.approx(0.9, abs=4 * (0.9 * 0.1 / n_chosen) ** 0.5)
    # 2000 draws at 0.15 for each place: a standard deviation of 16.
    assert (by_place[1:] - 300).abs().max() < 5 * 16


@pytest.mark.parametrize(("rate", "n_hidden"), [(0.0, 0), (1.0, 79)])
def test_replace_rate_at_its_limits(batch: CellBatch, rate: float, n_hidden: int) -> None:
    masked = hide(batch, replace_rate=rate)
    assert int((masked.bins == MASK_BIN)[masked.chosen].sum()) == n_hidden


def test_masks_do_not_depend_on_the_chunk(batch: CellBatch) -> None:
    """A cell's tokens follow from its own number, wherever it stands and however far it is padded."""
    together = hide(batch)
    of_all = numbers(len(batch))
    for start, stop in ((0, 1), (1, 4), (4, 8)):
        part = batch.slice(start, stop)
        alone = hide_expressions(part, of_all[start:stop], np.zeros(stop - start, dtype=np.uint8))
        length = part.bins.shape[1]
        assert torch.equal(alone.bins, together.bins[start:stop, :length])
        assert torch.equal(alone.chosen, together.chosen[start:stop, :length])


def test_zeros_can_be_spared() -> None:
    batch = Tokeniser(N_GENES, zeros=True)(cells([40, 100]))
    n_expressed = (batch.bins[:, 1:] > 0).sum(1)
    masked = hide(batch, spare_zeros=True)
    assert masked.chosen.sum(1).tolist() == torch.ceil(0.15 * n_expressed.double()).int().tolist()
    assert (masked.targets > 0).all()
    assert hide(batch).chosen.sum(1).tolist() == [45, 45]


def test_a_cell_without_genes_has_nothing_to_hide() -> None:
    masked = hide(Tokeniser(N_GENES)(cells([0, 3])))
    assert masked.chosen.sum(1).tolist() == [0, 1]
