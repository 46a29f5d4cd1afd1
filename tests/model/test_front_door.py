"""What a user types: import, load, embed, annotate, check; and the same as commands."""

import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from pandas import DataFrame
from scipy.sparse import csr_matrix

import celllm
from celllm.cli import main
from celllm.errors import UserError
from celllm.model.embedder import Embedder
from tests.model.conftest import N_GENES, SYMBOLS


def labelled(n: int, seed: int) -> AnnData:
    """Cells of two types; each has ten genes of its own."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(2, size=n)
    rates = np.full((n, N_GENES), 0.5)
    for of in range(2):
        rates[kind == of, 10 * of : 10 * of + 10] = 8.0
    obs = DataFrame({"type": np.array(["T cell", "B cell"])[kind]}, index=[f"{seed}-{i}" for i in range(n)])
    return AnnData(
        csr_matrix(rng.poisson(rates).astype(np.float32)), obs=obs, var=DataFrame(index=list(SYMBOLS))
    )


def test_import_is_quick_and_lazy() -> None:
    code = "import time; t = time.perf_counter(); import celllm; t = time.perf_counter() - t; import sys; "
    code += "print(t < 0.1, sorted({'torch', 'numpy', 'anndata', 'pandas'} & set(sys.modules)), *dir(celllm))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith("True []")
    assert {"load", "tl", "pp"} <= set(told.split())
    assert celllm.load.__module__ == "celllm.model.folder"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        celllm.nothing  # noqa: B018


def test_five_lines(run_folder: Path) -> None:
    cells, reference = labelled(80, 1), labelled(200, 2)
    truth = cells.obs.pop("type")
    before = cells.copy()
    model = celllm.load(run_folder)
    vectors = model.embed(cells, progress=False)
    assert vectors.shape == (80, 16)
    celllm.tl.embed(cells, run_folder, progress=False)
    assert np.array_equal(cells.obsm["X_celllm"], vectors)
    assert cells.uns["X_celllm"] == {"model": "small", "how": "mean"}
    celllm.tl.annotate(cells, reference=reference, label_key="type", model=model, progress=False)
    right = cells.obs["celllm_label"].astype(str) == truth
    assert right.mean() > 0.7
    assert isinstance(cells.obs["celllm_label"].dtype, pd.CategoricalDtype)
    assert cells.obs["celllm_confidence"].between(0, 1).all()
    said = cells.uns["celllm_annotate"]
    assert said["n_reference"] == 200
    assert said["held_out_accuracy"] == pytest.approx(right.mean(), abs=0.08)
    assert "held-out reference cells" in said["method"]
    assert (cells.X != before.X).sum() == 0
    assert list(cells.obs_names) == list(before.obs_names)


def test_reference_cells_without_a_label_take_no_part(embedder: Embedder) -> None:
    cells, reference = labelled(20, 1), labelled(100, 2)
    reference.obs["type"] = reference.obs["type"].where(np.arange(100) > 50)
    celllm.tl.annotate(cells, reference, "type", embedder, progress=False)
    assert cells.uns["celllm_annotate"]["n_reference"] == 49
    assert set(cells.obs["celllm_label"]) <= {"T cell", "B cell"}


@pytest.mark.parametrize(
    ("key", "labels", "message"),
    [
        ("kind", ["a", "b"], "reference: obs has no column 'kind'; there are type"),
        ("type", ["a", "a"], r"obs\['type'\] has 1 label\(s\); expected two or more"),
        ("type", [None, ""], r"obs\['type'\] has 0 label\(s\)"),
        ("type", ["T cell", "T Cell"], r"the labels 'T cell' and 'T Cell' differ only in capitals"),
    ],
)
def test_a_reference_that_teaches_nothing_is_refused(
    key: str, labels: list[str | None], message: str, embedder: Embedder
) -> None:
    reference = labelled(30, 1)
    reference.obs["type"] = labels * 15
    with pytest.raises(UserError, match=message):
        celllm.tl.annotate(labelled(5, 2), reference, key, embedder, progress=False)


@pytest.mark.parametrize("form", ["backed", "a view", "stored by gene", "dense integers"])
def test_labels_are_the_same_in_every_form(form: str, embedder: Embedder, tmp_path: Path) -> None:
    cells, reference = labelled(30, 1), labelled(100, 2)
    reference.obs.loc[reference.obs_names[::7], "type"] = None
    expected = cells.copy()
    celllm.tl.annotate(expected, reference, "type", embedder, progress=False)
    if form == "backed":
        reference.write_h5ad(tmp_path / "reference.h5ad")
        reference = anndata.read_h5ad(tmp_path / "reference.h5ad", backed="r")
    elif form == "a view":
        reference = anndata.concat([reference, labelled(20, 3)])[:100]
    else:
        reference.X = reference.X.tocsc() if form == "stored by gene" else reference.X.toarray().astype(int)
    celllm.tl.annotate(cells, reference, "type", embedder, progress=False)
    assert list(cells.obs["celllm_label"]) == list(expected.obs["celllm_label"])
    assert np.allclose(cells.obs["celllm_confidence"], expected.obs["celllm_confidence"], atol=1e-4)


def test_chosen_cells_are_embedded_alone_and_in_order(adata: AnnData, embedder: Embedder) -> None:
    everything = embedder.embed(adata, progress=False)
    rows = np.array([0, 3, 4, 31, 49])
    blocks = list(embedder.blocks(adata, rows=rows, progress=False))
    assert np.allclose(np.concatenate([x for _, x in blocks]), everything[rows], atol=1e-6)
    assert (blocks[0][0] != adata.X[rows]).nnz == 0


def test_cells_of_another_species_are_named(
    adata: AnnData, embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    adata.var_names = [name.capitalize() for name in adata.var_names]  # as mouse genes are written
    embedder.embed(adata, progress=False)
    assert (
        "most genes match only when case is ignored ('Gene00', 'Gene01', 'Gene02'): are they human?"
        in caplog.text
    )
    adata.var_names = [f"ENSMUSG{i:011d}" for i in range(adata.n_vars)]
    with pytest.raises(UserError, match=r"no gene in common with the vocabulary \(names here: 'ENSMUSG0"):
        embedder.embed(adata, progress=False)


def test_check_tells_what_is_there(adata: AnnData, embedder: Embedder, capsys: pytest.CaptureFixture) -> None:
    assert celllm.pp.check(adata, embedder) == []
    assert "50 cells x 60 genes; values in X: whole counts" in capsys.readouterr().out
    adata.obs_names = ["c"] * 50
    assert "the cell id 'c' occurs twice" in celllm.pp.check(adata)[0]


@pytest.mark.parametrize("suffix", [".h5ad", ".npy"])
def test_embed_as_a_command(suffix: str, run_folder: Path, tmp_path: Path, adata: AnnData) -> None:
    adata.write_h5ad(tmp_path / "in.h5ad")
    out = tmp_path / f"out{suffix}"
    arguments = ["--model", str(run_folder), "--out", str(out)]
    assert main(["embed", str(tmp_path / "in.h5ad"), *arguments]) == 0
    expected = celllm.load(run_folder).embed(adata, progress=False)
    if suffix == ".npy":
        assert np.array_equal(np.load(out), expected)
    else:
        made = anndata.read_h5ad(out)
        assert np.array_equal(made.obsm["X_celllm"], expected)
        assert list(made.obs_names) == list(adata.obs_names)


def test_annotate_as_a_command(run_folder: Path, tmp_path: Path) -> None:
    cells, reference = labelled(30, 1), labelled(100, 2)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    reference.write_h5ad(tmp_path / "reference.h5ad")
    arguments = [
        "--reference",
        str(tmp_path / "reference.h5ad"),
        "--label-key",
        "type",
        "--model",
        str(run_folder),
    ]
    out = tmp_path / "labels.csv"
    assert main(["annotate", str(tmp_path / "cells.h5ad"), *arguments, "--out", str(out)]) == 0
    table = pd.read_csv(out)
    celllm.tl.annotate(cells, reference, "type", run_folder, progress=False)
    assert list(table["cell"]) == list(cells.obs_names)
    assert list(table["label"]) == list(cells.obs["celllm_label"])
    assert np.allclose(table["confidence"], cells.obs["celllm_confidence"], atol=1e-4)


def test_a_command_refuses_in_one_line(
    run_folder: Path, tmp_path: Path, adata: AnnData, capsys: pytest.CaptureFixture
) -> None:
    adata.write_h5ad(tmp_path / "in.h5ad")
    arguments = ["--model", str(run_folder), "--out", str(tmp_path / "out.txt")]
    assert main(["embed", str(tmp_path / "in.h5ad"), *arguments]) == 2
    assert "out.txt: expected a name that ends in .h5ad or .npy" in capsys.readouterr().err
