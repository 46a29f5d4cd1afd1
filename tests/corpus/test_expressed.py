import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix, random

from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.corpus.expressed import CellsInMemory, Ragged, blocks, concatenate, from_csr, tokens_of, truncate
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError

COUNTS = np.array([[0, 3, 1, 0], [2, 0, 0, 2], [0, 0, 0, 0], [1, 1, 1, 97]], dtype=np.float32)


def stored(values: list[float]) -> NDArray[np.uint16]:
    return np.array([math.floor(4096 * x) for x in values], dtype=np.uint16)


def random_cells(n: int = 30, n_genes: int = 50) -> tuple[csr_matrix, CellsInMemory]:
    counts = random(n, n_genes, 0.4, format="csr", random_state=0, dtype=np.float32)
    counts.data = np.ceil(counts.data * 20)
    return counts, from_csr(counts, np.arange(n_genes))


def test_expression_is_the_logarithm_of_the_share() -> None:
    ragged = from_csr(csr_matrix(COUNTS), np.arange(4)).ragged
    assert ragged.indptr.tolist() == [0, 2, 4, 4, 8]
    assert ragged.gene_ids.tolist() == [1, 2, 0, 3, 0, 1, 2, 3]
    shares = [0.75, 0.25, 0.5, 0.5, 0.01, 0.01, 0.01, 0.97]
    assert ragged.expression.tolist() == stored([math.log(1 + 1e4 * s) for s in shares]).tolist()
    assert ragged.gene_ids.dtype == ragged.expression.dtype == np.uint16


def test_the_largest_expression_fits() -> None:
    assert from_csr(np.array([[7.0]]), [0]).ragged.expression.tolist() == stored([math.log(10001)]).tolist()


def test_columns_outside_the_vocabulary_leave_the_sum_too() -> None:
    counts = np.array([[5.0, 1.0, 3.0]])
    ragged = from_csr(counts, [9, -1, 2]).ragged
    assert ragged.gene_ids.tolist() == [2, 9]
    assert (
        ragged.expression.tolist() == stored([math.log(1 + 1e4 * 3 / 8), math.log(1 + 1e4 * 5 / 8)]).tolist()
    )


def test_the_input_matrix_stays_as_it_is() -> None:
    counts = csr_matrix((np.array([1.0, 0.0, 2.0]), np.array([2, 1, 0]), np.array([0, 2, 3])), shape=(2, 3))
    before = (counts.data.copy(), counts.indices.copy(), counts.indptr.copy())
    assert from_csr(counts, [0, 1, 2]).lengths.tolist() == [1, 1]
    assert all(
        np.array_equal(a, b)
        for a, b in zip(before, (counts.data, counts.indices, counts.indptr), strict=True)
    )
    assert from_csr(csc_matrix(counts), [0, 1, 2]).ragged.gene_ids.tolist() == [2, 0]


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_values_that_are_no_counts_are_refused(bad: float) -> None:
    with pytest.raises(UserError, match="negative or not a number"):
        from_csr(np.array([[1.0, bad]]), [0, 1])
    with pytest.raises(UserError, match="two columns of the same gene"):
        from_csr(np.array([[1.0, 1.0]]), [3, 3])


def test_take_follows_the_order_asked_for() -> None:
    counts, cells = random_cells()
    rows = [4, 0, 29, 4]
    ragged = cells.take(rows)
    for i, row in enumerate(rows):
        place = slice(ragged.indptr[i], ragged.indptr[i + 1])
        assert ragged.gene_ids[place].tolist() == sorted(counts[row].indices)
        assert np.array_equal(
            ragged.expression[place], from_csr(counts[row], np.arange(50)).ragged.expression
        )
    assert len(cells.take([])) == 0


@pytest.mark.parametrize("limit", [5, 20])
@pytest.mark.parametrize("keep", ["highest", "first"])
def test_truncation_keeps_the_genes_it_says_in_their_order(keep: str, limit: int) -> None:
    _, cells = random_cells()
    assert 12 < np.median(cells.lengths) < 25
    kept = truncate(cells.ragged, limit, keep)  # type: ignore[arg-type]
    for i in range(30):
        old, new = (slice(r.indptr[i], r.indptr[i + 1]) for r in (cells.ragged, kept))
        values = cells.ragged.expression[old].astype(int)
        ranked = np.argsort(-values, kind="stable") if keep == "highest" else np.arange(len(values))
        chosen = ranked[:limit]
        assert kept.gene_ids[new].tolist() == cells.ragged.gene_ids[old][np.sort(chosen)].tolist()
        assert kept.expression[new].tolist() == values[np.sort(chosen)].tolist()


def test_truncation_to_enough_places_is_nothing() -> None:
    _, cells = random_cells()
    assert truncate(cells.ragged, 50, "highest") is cells.ragged
    tokeniser = Tokeniser(50, max_length=9)
    assert tokeniser(cells.ragged).mask.sum(1).tolist() == (1 + tokeniser.lengths(cells)).tolist()
    assert tokeniser.lengths(cells).max() == 8


def test_parts_are_put_behind_each_other() -> None:
    _, cells = random_cells()
    parts = [cells.take(np.arange(0, 10)), cells.take([]), cells.take(np.arange(10, 30))]
    whole = concatenate(parts)
    for name in ("indptr", "gene_ids", "expression"):
        assert np.array_equal(getattr(whole, name), getattr(cells.ragged, name))
    assert isinstance(whole, Ragged)


def test_prepared_files_are_read_in_blocks(tmp_path: Path) -> None:
    counts, cells = random_cells()
    symbols = [f"G{i}" for i in range(50)]
    obs = pd.DataFrame({"sample": "s"}, index=[f"c{i}" for i in range(30)])
    provenance = {**dict.fromkeys(PROVENANCE, 0), "values": "counts"}
    data = anndata.AnnData(counts, obs=obs, uns={"celllm": provenance})
    data.var_names = symbols
    h5ad.write(data, tmp_path / "cells.h5ad")
    index_of = {symbol: 49 - i for i, symbol in enumerate(symbols) if i != 3}
    vocabulary: Any = SimpleNamespace(index_of=index_of)
    with h5ad.opened(tmp_path / "cells.h5ad") as file:
        parts = [tokens_of(part).ragged for part in blocks(file, vocabulary, block=7)]
        with pytest.raises(UserError, match=r"cells\.h5ad: none of its 50 genes is in the vocabulary"):
            next(blocks(file, SimpleNamespace(index_of={"X": 0})))  # type: ignore[arg-type]
    got = CellsInMemory(concatenate(parts))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 2]
    expected = from_csr(counts, [index_of.get(symbol, -1) for symbol in symbols])
    assert np.array_equal(got.ragged.indptr, expected.ragged.indptr)
    assert np.array_equal(got.ragged.gene_ids, expected.ragged.gene_ids)
    assert np.array_equal(got.ragged.expression, expected.ragged.expression)
    assert got.n_cells == cells.n_cells
