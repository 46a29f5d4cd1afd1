import math

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from celllm.corpus.expressed import CellsInMemory, concatenate, from_csr
from celllm.corpus.tokens import CellBatch, Tokeniser, bins
from celllm.errors import UserError
from tests.corpus.test_expressed import COUNTS, stored


@pytest.mark.parametrize("boundary", range(1, 10))
def test_bins_are_exact_on_both_sides_of_an_integer(boundary: int) -> None:
    """At the share where ln(1 + 10^4 share) crosses an integer, to the last places of a double."""
    share = math.expm1(boundary) / 1e4
    for step, expected in ((1 - 1e-12, boundary - 1), (1 + 1e-12, boundary)):
        expression = from_csr(np.array([[share * step, 1 - share * step]]), [0, 1]).ragged.expression
        assert expression[0] >> 12 == expected
        assert bins(expression)[0] == min(expected, 5)


def test_bins_of_base_two_are_those_of_log2() -> None:
    x = np.linspace(0.001, 9.2, 20001)
    away = np.abs(x / math.log(2) - np.round(x / math.log(2))) > 1e-3
    expected = np.minimum(np.floor(x / math.log(2)), 5)
    got = bins(np.floor(4096 * x).astype(np.uint16), 6, "2")
    assert (got == expected)[away].all()
    exactly_three = np.array([math.floor(4096 * math.log(8))], dtype=np.uint16)
    assert bins(exactly_three, 6, "2")[0] == 3


def test_bins_stop_at_the_last() -> None:
    assert bins(stored([0.0, 0.99, 1.0, 4.5, 5.0, 9.2])).tolist() == [0, 0, 1, 4, 5, 5]
    assert bins(stored([4.5, 3.0]), n_bins=4).tolist() == [3, 3]


def test_batches_have_cls_first_and_are_padded() -> None:
    batch = Tokeniser(4)(from_csr(csr_matrix(COUNTS), np.arange(4)).ragged)
    assert batch.gene_ids.tolist() == [
        [4, 1, 2, 5, 5],
        [4, 0, 3, 5, 5],
        [4, 5, 5, 5, 5],
        [4, 0, 1, 2, 3],
    ]
    high, low = int(math.log(1 + 7500)), int(math.log(101))
    assert batch.bins.tolist() == [
        [6, min(high, 5), 5, 7, 7],
        [6, 5, 5, 7, 7],
        [6, 7, 7, 7, 7],
        [6, low, low, low, 5],
    ]
    assert batch.mask.tolist() == [[True] * n + [False] * (5 - n) for n in (3, 3, 1, 5)]
    assert str(batch.gene_ids.dtype) == str(batch.bins.dtype) == "torch.int64"


@pytest.mark.parametrize(("keep", "genes"), [("first", [0, 1]), ("highest", [0, 3])])
def test_the_longest_sequence_counts_cls(keep: str, genes: list[int]) -> None:
    """As in the released code: [CLS] takes one of the places."""
    ragged = from_csr(csr_matrix(COUNTS), np.arange(4)).ragged
    tokeniser = Tokeniser(4, max_length=3, keep=keep)  # type: ignore[arg-type]
    assert tokeniser(ragged).gene_ids[3].tolist() == [4, *genes]
    assert tokeniser.lengths(CellsInMemory(ragged)).tolist() == [2, 2, 0, 2]


def test_full_vectors_hold_the_zeros() -> None:
    ragged = from_csr(csr_matrix(COUNTS), np.arange(4)).ragged
    tokeniser = Tokeniser(4, zeros=True, genes=np.array([3, 1]), log_base="2")
    batch = tokeniser(ragged)
    assert batch.gene_ids.tolist() == [[4, 3, 1]] * 4
    assert batch.bins.tolist() == [[6, 0, 5], [6, 5, 0], [6, 0, 0], [6, 5, 5]]
    assert batch.mask.all()
    assert tokeniser.lengths(CellsInMemory(ragged)).tolist() == [2] * 4
    assert Tokeniser(4, zeros=True)(ragged).gene_ids[0].tolist() == [4, 0, 1, 2, 3]


def test_slices_are_cut_to_their_longest_cell() -> None:
    batch = Tokeniser(4)(from_csr(csr_matrix(COUNTS), np.arange(4)).ragged)
    part = batch.slice(0, 2)
    assert len(part) == 2
    assert part.gene_ids.tolist() == [[4, 1, 2], [4, 0, 3]]
    assert isinstance(part.to("cpu"), CellBatch)
    gene_ids, _, mask = part
    assert gene_ids.shape == mask.shape


def test_no_cell_makes_an_empty_batch() -> None:
    assert Tokeniser(4)(concatenate([])).gene_ids.shape == (0, 1)


def test_settings_out_of_range_are_told() -> None:
    for settings in ({"max_length": 1}, {"keep": "last"}, {"n_bins": 7}):
        with pytest.raises(UserError, match=f"tokens.{next(iter(settings))}"):
            Tokeniser(4, **settings)  # type: ignore[arg-type]
