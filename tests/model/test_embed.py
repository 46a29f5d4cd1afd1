"""Cells of one's own: whatever AnnData they come in, the embeddings are those of the raw counts."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import torch
from anndata import AnnData
from pandas import DataFrame
from scipy.sparse import csc_matrix, csr_matrix, random_array

from celllm.corpus.expressed import from_csr
from celllm.errors import UserError
from celllm.model.embedder import Embedder
from celllm.model.heads import cell_embedding
from tests.model.conftest import ENSEMBL, N_GENES, SYMBOLS, counts

QUIET = {"progress": False}


def logged(adata: AnnData) -> np.ndarray:
    dense = adata.X.toarray()
    return np.log1p(1e4 * dense / dense.sum(1, keepdims=True))


@pytest.fixture
def expected(embedder: Embedder) -> np.ndarray:
    """Cell by cell, by hand."""
    cells = from_csr(csr_matrix(counts()), np.arange(N_GENES))
    rows = []
    for row in range(50):
        batch = embedder.tokeniser(cells.take([row]))
        with torch.no_grad():
            rows.append(cell_embedding(embedder.encoder(*batch), batch.mask, "mean")[0].numpy())
    return np.stack(rows)


def with_layer(a: AnnData) -> AnnData:
    return AnnData(logged(a), obs=a.obs, var=a.var, layers={"counts": a.X})


def with_raw(a: AnnData) -> AnnData:
    made = AnnData(logged(a)[:, :20], obs=a.obs, var=a.var[:20])
    made.raw = a
    return made


def with_genes(a: AnnData, names: list[str], **columns: list[str]) -> AnnData:
    return AnnData(a.X, obs=a.obs, var=DataFrame(columns, index=names))


def split_gene(a: AnnData) -> AnnData:
    """Counts of one gene in two columns of the same name."""
    x = a.X.toarray()
    part = np.floor(x[:, [1]] / 2)
    x[:, [1]] -= part
    return AnnData(csr_matrix(np.hstack([x, part])), obs=a.obs, var=DataFrame(index=[*SYMBOLS, SYMBOLS[1]]))


FORMS: dict[str, Callable[[AnnData], AnnData]] = {
    "csr": lambda a: a,
    "csc": lambda a: AnnData(csc_matrix(a.X), obs=a.obs, var=a.var),
    "dense": lambda a: AnnData(a.X.toarray(), obs=a.obs, var=a.var),
    "integers": lambda a: AnnData(a.X.astype(np.int32), obs=a.obs, var=a.var),
    "counts in a layer": with_layer,
    "counts in raw": with_raw,
    "a view": lambda a: a[:, ::-1],
    "ensembl": lambda a: with_genes(a, list(ENSEMBL)),
    "ensembl with versions": lambda a: with_genes(a, [f"{e}.{i}" for i, e in enumerate(ENSEMBL)]),
    "symbols in a column": lambda a: with_genes(a, [f"g{i}" for i in range(60)], feature_name=[*SYMBOLS]),
    "both, each for some": lambda a: with_genes(
        a, [*ENSEMBL[:40], *["x"] * 20], gene_symbols=["y"] * 40 + [*SYMBOLS[40:]]
    ),
    "an older name": lambda a: with_genes(a, [s.replace("GENE07", "OLD7") for s in SYMBOLS]),
    "other genes too": lambda a: AnnData(
        csr_matrix(np.hstack([a.X.toarray(), np.full((50, 1), 999.0)])),
        obs=a.obs,
        var=DataFrame(index=[*SYMBOLS, "?"]),
    ),
    "a gene in two columns": split_gene,
    "doubled cell names": lambda a: AnnData(a.X, obs=DataFrame(index=["c"] * 50), var=a.var),
}


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_counts(
    form: str, adata: AnnData, embedder: Embedder, expected: np.ndarray
) -> None:
    made = FORMS[form](adata)
    before = made.copy()
    found = embedder.embed(made, **QUIET)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    assert (made.X != before.X).sum() == 0
    assert made.obs.equals(before.obs)
    assert made.var.equals(before.var)
    assert not made.obsm


@pytest.mark.filterwarnings("ignore:(Observation|Variable) names are not unique")
@pytest.mark.parametrize("form", ["csr", "csc", "dense", "counts in a layer", "counts in raw", "ensembl"])
@pytest.mark.parametrize("how", ["a path", "backed", "a view of backed"])
def test_every_form_on_disk(
    form: str, how: str, adata: AnnData, embedder: Embedder, expected: np.ndarray, tmp_path: Path
) -> None:
    FORMS[form](adata).write_h5ad(tmp_path / "a.h5ad")
    if how == "a path":
        found = embedder.embed(tmp_path / "a.h5ad", **QUIET)
    else:
        backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
        rows = slice(10, 30) if how == "a view of backed" else slice(None)
        found = embedder.embed(backed[rows] if how == "a view of backed" else backed, **QUIET)
        expected = expected[rows]
        backed.file.close()
    assert np.abs(found - expected).max() < 1e-5


def test_blocks_and_budgets_change_nothing(adata: AnnData, embedder: Embedder, expected: np.ndarray) -> None:
    many = adata[np.tile(np.arange(50), 100)].copy()
    many.obs_names_make_unique()
    found = embedder.embed(many, token_budget=300, **QUIET)
    assert np.abs(found - np.tile(expected, (100, 1))).max() < 1e-5


def test_a_layer_or_column_that_is_named_is_taken(
    adata: AnnData, embedder: Embedder, expected: np.ndarray
) -> None:
    other = csr_matrix(counts(seed=1))
    made = AnnData(
        adata.X, obs=adata.obs, var=DataFrame({"mine": SYMBOLS}, index=SYMBOLS[::-1]), layers={"new": other}
    )
    by_column = embedder.embed(made, gene_key="mine", layer="X", **QUIET)
    assert np.abs(by_column - expected).max() < 1e-5
    assert np.abs(embedder.embed(made, **QUIET) - expected).max() > 0.01
    second = embedder.embed(AnnData(other, obs=adata.obs, var=adata.var), **QUIET)
    assert np.abs(embedder.embed(made, layer="new", gene_key="mine", **QUIET) - second).max() < 1e-5


def test_cls_is_another_embedding(adata: AnnData, embedder: Embedder) -> None:
    assert np.abs(embedder.embed(adata, "cls", **QUIET) - embedder.embed(adata, **QUIET)).max() > 0.01


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda a: a[:0], {}, "there is no cell in it"),
        (lambda a: AnnData(logged(a), obs=a.obs, var=a.var), {}, "no raw counts found"),
        (lambda a: with_genes(a, [f"g{i}" for i in range(60)]), {}, r"no gene in common .*'g0', 'g1', 'g2'"),
        (lambda a: a, {"layer": "counts"}, "there are no values in 'counts'; expected one of X"),
        (lambda a: a, {"gene_key": "symbol"}, "var has no column 'symbol'"),
        (lambda a: a, {"how": "max"}, "how: expected 'mean' or 'cls', got 'max'"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_one_line(
    change: Callable[[AnnData], AnnData], options: dict, message: str, adata: AnnData, embedder: Embedder
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        embedder.embed(change(adata), **options, **QUIET)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"not hdf5"])
def test_a_file_that_is_none_is_refused(content: bytes | None, embedder: Embedder, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.h5ad").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.h5ad: (no such file|not a complete \.h5ad file)") as caught:
        embedder.embed(tmp_path / "a.h5ad", **QUIET)
    assert "\n" not in str(caught.value)


def test_a_bad_value_far_into_a_file_is_named(adata: AnnData, embedder: Embedder, tmp_path: Path) -> None:
    x = np.tile(counts(), (100, 1))
    x[4321, 5] = -3
    obs = DataFrame(index=[f"c{i}" for i in range(len(x))])
    AnnData(csr_matrix(x), obs=obs, var=adata.var).write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(UserError, match=r"X: the value -3 of cell 'c4321', gene 'GENE05' is negative"):
        embedder.embed(tmp_path / "a.h5ad", **QUIET)


def test_empty_cells_are_told(
    adata: AnnData, embedder: Embedder, expected: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    x = counts()
    x[3] = 0
    found = embedder.embed(AnnData(csr_matrix(x), obs=adata.obs, var=adata.var), **QUIET)
    assert (found[3] == 0).all()
    assert np.abs(np.delete(found - expected, 3, 0)).max() < 1e-5
    assert "1 cells express no gene" in caplog.text


@pytest.mark.parametrize("place", ["X", "counts in a layer"])
def test_memory_does_not_grow_with_the_file(
    place: str, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy tells tracemalloc of its arrays; the embeddings themselves are not counted."""
    peaks = []
    monkeypatch.setattr(
        Embedder, "embed_cells", lambda self, cells, budget: {"mean": torch.zeros(cells.n_cells, 16)}
    )
    for n in (10_000, 40_000):
        x = random_array((n, N_GENES), density=0.5, format="csr", dtype=np.float32, rng=0)
        x.data = np.ceil(x.data * 9)
        obs = DataFrame(index=[f"c{i}" for i in range(n)])
        made = AnnData(csr_matrix(x), obs=obs, var=DataFrame(index=list(SYMBOLS)))
        if place != "X":
            made = AnnData(made.X.log1p(), obs=obs, var=made.var, layers={"counts": made.X})
        made.write_h5ad(tmp_path / f"{n}.h5ad")
        tracemalloc.start()
        out = embedder.embed(tmp_path / f"{n}.h5ad", **QUIET)
        peaks.append(tracemalloc.get_traced_memory()[1] - out.nbytes - 200 * n)  # and the names of the cells
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
