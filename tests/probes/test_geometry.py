import csv
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from celllm.cells import check, h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.model.weights import save_encoder, save_failure
from celllm.probes.contrast import run_contrast
from celllm.probes.geometry import run_geometry
from celllm.probes.settings import GeometrySettings
from celllm.scores.columns import CONTRAST, GEOMETRY
from celllm.settings import as_settings

N_GENES = 30
TOKENISER = Tokeniser(N_GENES)


def counts(n_cells: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.5, size=(n_cells, N_GENES))


def encoder(dropout: float = 0.1, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    config = EncoderConfig(n_genes=N_GENES, dim=16, depth=2, heads=2, dim_head=8, dropout=dropout)
    return Encoder(config).eval()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Vocabulary, 25 prepared cells and two encoders."""
    vocabulary = Vocabulary(tuple(f"GENE{i:02d}" for i in range(N_GENES)), ("",) * N_GENES)
    vocabulary.write(tmp_path / "genes.tsv")
    names = [f"cell{i}" for i in range(25)]
    obs = pd.DataFrame({"sample": "one"}, index=names)
    data = anndata.AnnData(
        csr_matrix(counts(25).astype(np.float32)), obs=obs, var=pd.DataFrame(index=list(vocabulary.symbols))
    )
    said = dict.fromkeys(check.PROVENANCE, "") | {
        "values": "counts",
        "fractions": False,
        "label_counts": "{}",
    }
    data.uns["celllm"] = said
    h5ad.write(data, tmp_path / "made.h5ad")
    meta = {"genes_sha256": vocabulary.sha256, "tokeniser": TOKENISER.to_json()}
    for seed, name in enumerate(("one", "two")):
        save_encoder(tmp_path / f"{name}.safetensors", encoder(seed=seed), meta)
    return {path.stem: path for path in tmp_path.iterdir()}


def table(files: dict[str, Path], out: Path, **settings: int) -> list[dict[str, str]]:
    encoders = {name: files[name] for name in ("one", "two")}
    run_geometry(
        encoders,
        {"made": files["made"]},
        files["genes"],
        out,
        as_settings(GeometrySettings, {"device": "cpu"} | settings),
    )
    with open(out, newline="") as handle:
        return list(csv.DictReader(handle))


def test_one_table_of_several_encoders(files: dict[str, Path], tmp_path: Path) -> None:
    rows = table(files, tmp_path / "geometry.csv", n_cells=20)
    assert tuple(rows[0]) == GEOMETRY
    named = [(row["model"], row["data_set"], row["embedding"], row["dim"], row["n_cells"]) for row in rows]
    assert named == [(m, "made", how, "16", "20") for m in ("one", "two") for how in ("mean", "cls")]
    for row in rows:
        assert -1 / 19 <= float(row["mean_cosine"]) <= 1
        assert -8 <= float(row["uniformity"]) <= 0
        assert 0 < float(row["alignment"]) < 4
        assert 1 <= float(row["effective_rank"]) <= 16
    assert table(files, tmp_path / "again.csv", n_cells=20) == rows
    assert table(files, tmp_path / "other.csv", n_cells=20, seed=1) != rows


def test_all_cells_where_there_are_fewer(files: dict[str, Path], tmp_path: Path) -> None:
    assert {row["n_cells"] for row in table(files, tmp_path / "geometry.csv")} == {"25"}


def test_one_cell_has_no_geometry(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"settings\.n_cells: expected at least 2, got 1"):
        table(files, tmp_path / "geometry.csv", n_cells=1)


def test_an_untrained_encoder_stands_beside_the_trained_ones(files: dict[str, Path], tmp_path: Path) -> None:
    sizes = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8}
    row = {"name": "start", "kind": "encoder", "pretrained": False, "size": sizes}
    run_geometry(
        {"one": files["one"]},
        {"made": files["made"]},
        files["genes"],
        tmp_path / "geometry.csv",
        GeometrySettings(device="cpu"),
        {"start": json.dumps(row)},
    )
    found = pd.read_csv(tmp_path / "geometry.csv")
    assert list(found["model"]) == ["one", "one", "start", "start"]
    assert found["effective_rank"].between(1, 16).all()


def test_an_encoder_that_was_not_trained_is_left_out(files: dict[str, Path], tmp_path: Path) -> None:
    save_failure(files["two"], "step 1: out of memory")
    assert {row["model"] for row in table(files, tmp_path / "geometry.csv")} == {"one"}
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("loss,contrast,n_cells\n")
    encoders = {"two": files["two"]}
    run_contrast(encoders, {"two": metrics}, tmp_path / "geometry.csv", tmp_path / "contrast.csv")
    with open(tmp_path / "contrast.csv", newline="") as handle:
        assert list(csv.reader(handle)) == [list(CONTRAST)]
