"""A data set of one's own: a row of the catalogue, no code."""

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.sparse import csr_matrix

from celllm.cells import h5ad
from celllm.cells.prepare import run_prepare
from celllm.errors import UserError
from celllm.sources.catalogue import Catalogue
from celllm.sources.fetch import run_fetch
from celllm.sources.samples import run_samples

ROOT = Path(__file__).resolve().parents[2]
ROWS = yaml.safe_load((ROOT / "examples/own_data/data_sets.yaml").read_text())
COUNTS = np.array([[1, 0, 20, 4], [0, 3, 0, 0], [5, 6, 0, 7]], dtype=np.float32)
SYMBOLS = ["ACTB", "CD4", "GATA1", "SEPTIN2"]
IDS = ["ENSG00000075624", "ENSG00000010610", "ENSG00000102145", "ENSG00000168385"]


def label_counts(path: Path) -> dict[str, int]:
    return json.loads(h5ad.read(path).uns["celllm"]["label_counts"])


def _cellxgene(path: Path) -> None:
    """Index Ensembl, symbols in feature_name, logarithms in X, counts in raw.X."""
    obs = pd.DataFrame(
        {"cell_type": pd.Categorical(["B", "T", "T"]), "donor_id": pd.Categorical(["d1", "d1", "d2"])},
        index=["c1", "c2", "c3"],
    )
    adata = anndata.AnnData(
        csr_matrix(COUNTS), obs=obs, var=pd.DataFrame({"feature_name": SYMBOLS}, index=IDS)
    )
    adata.raw = adata.copy()
    adata.X = csr_matrix(np.log1p(COUNTS))
    path.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(path)


def _prepare(
    files: dict[str, Path], gene_files: Any, out: Path, settings: dict[str, Any], **more: Any
) -> Any:
    names = {"genes": gene_files.genes, "aliases": gene_files.aliases}
    run_prepare("my_atlas", files, settings=settings, out=out, **names, **more)
    return h5ad.read(out)


@pytest.mark.parametrize(
    ("settings", "samples"),
    [
        ({}, ["cells"] * 3),
        ({"sample_key": "donor_id", "gene_key": "feature_name", "layer": "raw.X"}, ["d1", "d1", "d2"]),
    ],
)
def test_a_file_as_cellxgene_serves_it_is_prepared(
    tmp_path: Path, gene_files: Any, settings: dict[str, Any], samples: list[str]
) -> None:
    _cellxgene(tmp_path / "cells.h5ad")
    settings = {"label_key": "cell_type", **settings}
    made = _prepare({"cells": tmp_path / "cells.h5ad"}, gene_files, tmp_path / "out.h5ad", settings)
    np.testing.assert_array_equal(made.X.toarray(), COUNTS)
    assert (made.var_names.tolist(), made.obs["label"].tolist()) == (SYMBOLS, ["B", "T", "T"])
    assert made.obs["sample"].tolist() == samples
    assert (made.uns["celllm"]["source"], made.uns["celllm"]["values"]) == ("my_atlas", "counts")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"label_key": "celltype"},
            r"obs has no column 'celltype' \(label_key\); it has cell_type, donor_id",
        ),
        ({"sample_key": "x"}, r"obs has no column 'x' \(sample_key\)"),
        ({"gene_key": "symbol"}, r"var has no column 'symbol' \(gene_key\); it has feature_name"),
        ({"layer": "counts"}, r"there are no values in 'counts'; expected one of X, raw\.X"),
        ({"layer": "X"}, r"no raw counts found; X: the values are ln\(x \+ 1\) of whole counts"),
        ({"labels": "x"}, "options of my_atlas.*labels.*unknown"),
    ],
)
def test_a_row_that_does_not_fit_the_file_is_one_line(
    tmp_path: Path, gene_files: Any, settings: dict[str, Any], message: str
) -> None:
    _cellxgene(tmp_path / "cells.h5ad")
    with pytest.raises(UserError, match=message):
        _prepare({"cells": tmp_path / "cells.h5ad"}, gene_files, tmp_path / "out.h5ad", settings)
    assert not (tmp_path / "out.h5ad").exists()


def test_cells_without_a_sample_are_no_sample(tmp_path: Path, gene_files: Any) -> None:
    path = tmp_path / "cells.h5ad"
    _cellxgene(path)
    adata = anndata.read_h5ad(path)
    adata.obs["donor"] = [None, "d1", "d2"]
    adata.write_h5ad(path)
    with pytest.raises(UserError, match=r"1 of 3 cells have no sample in obs\['donor'\], e.g. 'c1'"):
        _prepare({"cells": path}, gene_files, tmp_path / "out.h5ad", {"sample_key": "donor"})


def test_the_rows_of_the_example_go_from_the_raw_folder_to_prepared_files(
    tmp_path: Path, gene_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catalogue, raw = (
        [ROOT / "config/data_sets.yaml", ROOT / "examples/own_data/data_sets.yaml"],
        tmp_path / "raw",
    )
    _cellxgene(tmp_path / "my_atlas.h5ad")
    for sample in ("a", "b"):
        _cellxgene(tmp_path / f"tumours/{sample}.h5ad")
    (tmp_path / "tumours/samples.tsv").write_text("sample\ttumour\na\t1\nb\t0\n")
    run_fetch(catalogue, raw, only=["my_atlas", "my_tumours"])
    assert len(json.loads((raw / "data.lock").read_text())["files"]) == 4
    read = Catalogue.read(catalogue)
    options = dict(read.source("my_atlas")["options"])
    made = _prepare({"cells": raw / "my_atlas/my_atlas.h5ad"}, gene_files, tmp_path / "atlas.h5ad", options)
    assert label_counts(tmp_path / "atlas.h5ad") == {"T": 2, "B": 1}
    assert made.obs["sample"].nunique() == 2
    table = tmp_path / "samples.tsv"
    run_samples("my_tumours", {"samples": raw / "my_tumours/samples.tsv"}, table, catalogue=catalogue)
    files = {"samples": raw / "my_tumours/samples.tsv", "matrix": raw / "my_tumours/a.h5ad"}
    made = _prepare(files, gene_files, tmp_path / "a.h5ad", {"max_unknown": 0.5}, sample="a", samples=table)
    assert made.obs["tumour"].all()
    assert made.obs_names.tolist() == ["a:c1", "a:c2", "a:c3"]
