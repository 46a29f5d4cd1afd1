from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData
from pandas import DataFrame
from scipy.sparse import csr_matrix

from celllm.cells.genes import SymbolMap, Vocabulary
from celllm.corpus.tokens import Tokeniser
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig

N_GENES = 60
SYMBOLS = tuple(f"GENE{i:02d}" for i in range(N_GENES))
ENSEMBL = tuple(f"ENSG{i:011d}" for i in range(N_GENES))


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary(SYMBOLS, ENSEMBL)


@pytest.fixture(scope="session")
def embedder(vocabulary: Vocabulary) -> Embedder:
    """An untrained encoder that knows its genes, and one of them by an older name."""
    torch.manual_seed(0)
    config = EncoderConfig(n_genes=N_GENES, dim=16, depth=1, heads=2, dim_head=8)
    meta = {"genes_sha256": vocabulary.sha256, "model": {"name": "small"}}
    symbols = SymbolMap(vocabulary, [("OLD7", "GENE07", "previous")])
    return Embedder(Encoder(config).eval(), Tokeniser(N_GENES, max_length=40), meta, symbols)


def counts(n_cells: int = 50, seed: int = 0) -> np.ndarray:
    """Some genes are never seen in a cell; no cell is empty."""
    made = np.random.default_rng(seed).poisson(2.0, size=(n_cells, N_GENES)).astype(np.float32)
    made[:, ::7] = 0
    made[:, 1] += 20
    return made


@pytest.fixture
def adata() -> AnnData:
    obs = DataFrame(index=[f"cell{i}" for i in range(50)])
    return AnnData(csr_matrix(counts()), obs=obs, var=DataFrame(index=list(SYMBOLS)))


@pytest.fixture
def run_folder(tmp_path: Path, embedder: Embedder, vocabulary: Vocabulary) -> Path:
    """Where a run keeps an encoder, and its gene list as a run has it."""
    folder = tmp_path / "run" / "checkpoints" / "small"
    embedder.write(folder / "encoder.safetensors")
    prepared = tmp_path / "run" / "prepared"
    vocabulary.write(prepared / "genes.tsv")
    (prepared / "aliases.tsv").write_text("name\tsymbol\tkind\nOLD7\tGENE07\tprevious\n")
    return folder
