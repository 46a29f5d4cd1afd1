"""A corpus of 90 small cells in three shards, and the arguments of a short pre-training on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import from_csr
from celllm.corpus.shards import run_index, write_shard
from celllm.graph.embeddings import save_gene_embeddings
from celllm.settings import as_settings
from celllm.training import pretrain
from celllm.training.settings import ModelRow, PretrainSettings

N_GENES = 40
SHARDS = {"healthy": (40, False), "blood": (15, False), "tumour": (35, True)}
SIZE = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8}
SETTINGS = {
    "batch_size": 24,
    "max_steps": 6,
    "learning_rate": 1e-3,
    "token_budget": 200,
    "precision": "float32",
    "device": "cpu",
    "feature_redraw_steps": 4,
    "queue_length": 50,
    "checkpoint_minutes": 1e9,
    "log_steps": 1,
    "measure_peak": False,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Corpus, vocabulary and gene embeddings of 16 dimensions."""
    folder = tmp_path_factory.mktemp("tiny")
    symbols = tuple(f"GENE{i:02d}" for i in range(N_GENES))
    vocabulary = Vocabulary(symbols, ("",) * N_GENES)
    vocabulary.write(folder / "genes.tsv")
    for sample, (n_cells, tumour) in SHARDS.items():
        cells = from_csr(_counts(n_cells, tumour), np.arange(N_GENES))
        write_shard(
            folder / f"{sample}.safetensors",
            cells,
            np.full(n_cells, tumour),
            np.arange(n_cells),
            source="tiny",
            sample=sample,
            n_genes=N_GENES,
            genes_sha256=vocabulary.sha256,
        )
    run_index([folder / f"{sample}.safetensors" for sample in SHARDS], folder / "index.json")
    table = torch.randn(N_GENES, 16, generator=torch.Generator().manual_seed(0))
    save_gene_embeddings(folder / "embeddings.safetensors", table, vocabulary.sha256)
    return {
        "corpus": folder / "index.json",
        "genes": folder / "genes.tsv",
        "gene_embeddings": folder / "embeddings.safetensors",
    }


def _counts(n_cells: int, tumour: bool) -> np.ndarray:
    """Tumour cells have ten times as much of the first ten genes; the last gene is in few cells."""
    rng = np.random.default_rng([n_cells, tumour])
    rates = rng.gamma(0.5, 2.0, size=N_GENES)
    rates[:10] *= 10 if tumour else 1
    rates[-1] = 0.1
    return rng.poisson(rates * rng.uniform(0.3, 3, size=(n_cells, 1)))


Arguments = Callable[..., dict[str, Any]]


def run_pretrain(*, model: Any, settings: Any, **others: Any) -> int:
    """Pre-train with a row and settings as the command line gives them."""
    row = as_settings(ModelRow, model, "model")
    return pretrain.run_pretrain(
        model=row, settings=as_settings(PretrainSettings, settings, "settings"), **others
    )


@pytest.fixture
def arguments(tiny: dict[str, Path], tmp_path: Path) -> Arguments:
    """Arguments of run_pretrain, by folder of the run; keywords change the model's row or the settings."""

    def make(name: str = "run", row: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
        folder = tmp_path / name
        return {
            **{key: str(path) for key, path in tiny.items()},
            "model": {"size": SIZE, "contrast": "divide_and_conquer"} | (row or {}),
            "checkpoints": str(folder / "state"),
            "out": str(folder / "encoder.safetensors"),
            "metrics": str(folder / "metrics.csv"),
            "settings": SETTINGS | settings,
        }

    return make


@pytest.fixture
def pretrained(arguments: Arguments) -> Callable[..., dict[str, Any]]:
    """Pre-train with these arguments and return them."""

    def run(*args: Any, **kwargs: Any) -> dict[str, Any]:
        made = arguments(*args, **kwargs)
        assert run_pretrain(**made) == 0
        return made

    return run
