"""A small labelled data set with planted classes, as files: cells, vocabulary, splits, an encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix

from celllm.cells import h5ad
from celllm.cells.check import PROVENANCE
from celllm.cells.genes import Vocabulary
from celllm.corpus.tokens import Tokeniser
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.model.weights import save_encoder
from celllm.tasks.score import run_splits

N_CELLS, N_GENES = 150, 60
SIZE = {"dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "n_features": 16}


@dataclass(frozen=True)
class Files:
    """Paths of the data set's files."""

    cells: Path
    genes: Path
    splits: Path
    encoder: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Three classes of unequal size; each has eight of 50 measured genes of its own, six times as high."""
    folder = tmp_path_factory.mktemp("planted")
    made = Files(*(folder / n for n in ("cells.h5ad", "genes.tsv", "splits.json", "encoder.safetensors")))
    vocabulary = Vocabulary(tuple(f"G{i:02d}" for i in range(N_GENES)), ("",) * N_GENES)
    vocabulary.write(made.genes)
    h5ad.write(planted(vocabulary), made.cells)
    settings = {"n_folds": 3, "validation_fraction": 0.2}
    run_splits("annotation", made.cells, "planted", made.splits, settings=settings)
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(n_genes=N_GENES, **SIZE), torch.randn(N_GENES, 16))
    meta = {"genes_sha256": vocabulary.sha256, "tokeniser": Tokeniser(N_GENES).to_json()}
    save_encoder(made.encoder, encoder, meta)
    return made


def planted(vocabulary: Vocabulary, seed: int = 0) -> AnnData:
    rng = np.random.default_rng(seed)
    label = rng.choice(3, size=N_CELLS, p=[0.5, 0.3, 0.2])
    rates = np.full((N_CELLS, 50), 0.5)
    for gene in range(24):
        rates[label == gene // 8, gene] = 3.0
    obs = pd.DataFrame(
        {"sample": "s", "label": np.array(["B cell", "NK, dim", "T cell"])[label]},
        index=[f"s_{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame(index=list(vocabulary.symbols[5:55]))
    data = AnnData(csr_matrix(rng.poisson(rates).astype(np.float32)), obs=obs, var=var)
    provenance: dict[str, Any] = dict.fromkeys(PROVENANCE, 0)
    data.uns["celllm"] = provenance | {"values": "counts", "fractions": False, "label_counts": "{}"}
    return data


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of cells that frozen layers ran on, call by call."""
    from celllm.training.frozen import FrozenStates

    counts: list[int] = []
    compute = FrozenStates._compute

    def counted(self: FrozenStates, rows: np.ndarray) -> Any:
        counts.append(len(rows))
        return compute(self, rows)

    monkeypatch.setattr(FrozenStates, "_compute", counted)
    return counts
