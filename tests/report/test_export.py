import json
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from pandas import DataFrame

import celllm
from celllm.cells.genes import Vocabulary
from celllm.cli import main
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.report.export import run_export

SYMBOLS = tuple(f"GENE{i:02d}" for i in range(20))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "results" / "small"
    vocabulary = Vocabulary(SYMBOLS, ("",) * 20)
    vocabulary.write(run / "prepared" / "genes.tsv")
    (run / "prepared" / "aliases.tsv").write_text("name\tsymbol\tkind\nOLD\tGENE03\tprevious\n")
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(n_genes=20, dim=8, depth=1, heads=1, dim_head=8))
    meta = {
        "model": {"name": "celllm", "title": "CellLM", "contrast": "moco", "tumour_task": True},
        "settings": {"batch_size": 32, "seed": 4},
        "steps": 70,
        "genes_sha256": vocabulary.sha256,
    }
    Embedder(encoder, Tokeniser(20), meta).write(run / "checkpoints" / "celllm" / "encoder.safetensors")
    (run / "corpus").mkdir()
    shards = [
        {"source": "panglaodb", "n_cells": 1200, "n_tumour": 0},
        {"source": "panglaodb", "n_cells": 34, "n_tumour": 4},
        {"source": "cancerscem", "n_cells": 10, "n_tumour": 9},
    ]
    (run / "corpus" / "index.json").write_text(json.dumps({"shards": shards}))
    leakage = {"toy": True, "drop": False, "data_sets": {"baron": {"n_cells": 388, "n_in_pretraining": 3}}}
    (run / "leakage.json").write_text(json.dumps(leakage))
    (run / "tables").mkdir()
    (run / "tables" / "table1.csv").write_text(
        "table,model,column,protocol,text,status\n"
        "table1,celllm,baron/macro_f1,strict,61.6 ± 2.4,ok\n"
        "table1,scbert,baron/macro_f1,strict,9.1 ± 5.3,ok\n"
        "table1,celllm,baron/accuracy,paper,,failed\n"
    )
    return run


def test_a_folder_that_loads_alone(run: Path, tmp_path: Path) -> None:
    assert main(["export", str(run), "--model", "celllm", "--out", str(tmp_path / "given" / "celllm")]) == 0
    cells = AnnData(
        np.random.default_rng(0).poisson(3, (5, 20)).astype(np.float32),
        var=DataFrame(index=["OLD", *SYMBOLS[1:]]),
    )
    before = celllm.load(run / "checkpoints" / "celllm", "cpu").embed(cells, progress=False)
    run.rename(tmp_path / "gone")
    model = celllm.load(tmp_path / "given" / "celllm", "cpu")
    assert np.array_equal(model.embed(cells, progress=False), before)
    assert model.name == "celllm"
    assert {p.name for p in (tmp_path / "given").iterdir()} == {"celllm"}


def test_the_card_says_what_the_run_says(run: Path, tmp_path: Path) -> None:
    run_export(run, "celllm", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    for line in (
        "# CellLM",
        "| panglaodb | 2 | 1,234 | 4 |",
        "| cancerscem | 1 | 10 | 9 |",
        "- baron: 3 of 388",
        "| table1 | baron/macro_f1 | strict | 61.6 ± 2.4 |",
        "**Trained on made-up cells of a toy run: of no use but for trying the software.**",
    ):
        assert line in card.splitlines()
    assert "scbert" not in card
    assert "accuracy" not in card
    assert "arXiv:2306.04371" in card
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["encoder"]["dim"] == 8
    assert config["training"]["steps"] == 70
    assert set(config["sha256"]) == {"model.safetensors", "genes.tsv", "aliases.tsv"}


def test_a_changed_part_is_refused(run: Path, tmp_path: Path) -> None:
    run_export(run, "celllm", tmp_path / "out")
    with open(tmp_path / "out" / "aliases.tsv", "a") as handle:
        handle.write("ODD\tGENE04\tprevious\n")
    with pytest.raises(UserError, match=r"aliases\.tsv: changed since the model was exported"):
        celllm.load(tmp_path / "out")


def test_what_cannot_be_exported_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained model 'other'; there are celllm"):
        run_export(run, "other", tmp_path / "out")
    run_export(run, "celllm", tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        run_export(run, "celllm", tmp_path / "out")
