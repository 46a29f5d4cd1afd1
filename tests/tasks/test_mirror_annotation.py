"""Reference figures on measured cells: real signal is told from a leak, a reader's fault from a method's."""

from pathlib import Path

import pytest

from celllm.cells.genes import run_genes
from celllm.cells.prepare import run_prepare
from celllm.io import read_yaml
from celllm.scores import metrics, scores
from celllm.tasks.score import run_score, run_splits
from tests.places import ROOT


@pytest.fixture(scope="module")
def genes(mirror: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("genes")
    (hgnc,) = (mirror / "hgnc").glob("hgnc_complete_set_*.txt")
    run_genes(hgnc, folder / "genes.tsv", folder / "aliases.tsv")
    return folder / "genes.tsv", folder / "aliases.tsv"


# Logistic regression, L2, C = 1, no scaling, all genes: scores of the pooled predictions of five folds.
@pytest.mark.mirror
@pytest.mark.slow
@pytest.mark.parametrize(
    ("data_set", "n_cells", "n_classes", "macro_f1", "accuracy"),
    [("zheng68k", 683, 10, 0.698, 0.835), ("baron", 238, 7, 0.974, 0.983)],
)
def test_logistic_regression_on_measured_cells(
    mirror: Path,
    genes: tuple[Path, Path],
    tmp_path: Path,
    data_set: str,
    n_cells: int,
    n_classes: int,
    macro_f1: float,
    accuracy: float,
) -> None:
    row = read_yaml(ROOT / "config/data_sets.yaml")[data_set]
    raw = {name: mirror / file["path"] for name, file in row["files"].items() if "only_with" not in file}
    run_prepare(data_set, raw, *genes, row["options"], tmp_path / "cells.h5ad")
    run_splits("annotation", tmp_path / "cells.h5ad", data_set, tmp_path / "splits.json")
    run_score(
        cells=tmp_path / "cells.h5ad",
        data_set=data_set,
        genes=genes[0],
        splits=[tmp_path / "splits.json"],
        model={"name": "logistic_regression", "kind": "baseline"},
        protocols=["strict"],
        out=tmp_path,
    )
    place = tmp_path / f"annotation/{data_set}/logistic_regression"
    assert set(scores.read_many([place / "strict.csv"])["status"]) == {"ok"}
    found = scores.read_predictions(place / "strict.predictions.csv")
    assert (len(found), found["label"].nunique()) == (n_cells, n_classes)
    pooled = metrics.classification(found["label"], found["predicted"])
    assert pooled["macro_f1"] == pytest.approx(macro_f1, abs=0.03)
    assert pooled["accuracy"] == pytest.approx(accuracy, abs=0.03)
