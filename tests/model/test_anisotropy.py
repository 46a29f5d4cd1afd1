import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from celllm.corpus.expressed import from_csr
from celllm.corpus.tokens import Tokeniser
from celllm.model.anisotropy import (
    alignment,
    effective_rank,
    mean_cosine,
    measure,
    uniformity,
)
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.heads import cell_embedding
from celllm.model.settings import EncoderConfig

N_GENES = 30
TOKENISER = Tokeniser(N_GENES)


def counts(n_cells: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(0.5, size=(n_cells, N_GENES))


def embedder(dropout: float = 0.1, seed: int = 0) -> Embedder:
    torch.manual_seed(seed)
    config = EncoderConfig(n_genes=N_GENES, dim=16, depth=2, heads=2, dim_head=8, dropout=dropout)
    return Embedder(Encoder(config).eval(), TOKENISER)


def rotated(angles: list[float]) -> torch.Tensor:
    return torch.tensor([[math.cos(a), math.sin(a)] for a in angles], dtype=torch.float64)


def test_mean_cosine_is_the_mean_over_pairs() -> None:
    angles = [0.0, 0.3, 1.1, 2.0]
    pairs = [math.cos(a - b) for i, a in enumerate(angles) for b in angles[:i]]
    lengths = torch.tensor([[1.0], [3.0], [0.2], [7.0]])
    assert mean_cosine(rotated(angles) * lengths) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert mean_cosine(torch.ones(5, 3).double()) == pytest.approx(1, rel=1e-12)


def test_uniformity() -> None:
    angles = [0.0, 0.3, 1.1]
    potentials = [math.exp(-2 * (2 - 2 * math.cos(a - b))) for i, a in enumerate(angles) for b in angles[:i]]
    assert uniformity(5 * rotated(angles)) == pytest.approx(math.log(np.mean(potentials)), rel=1e-12)
    assert uniformity(torch.ones(4, 3).double()) == pytest.approx(0, abs=1e-12)
    many = torch.randn(300, 2000, generator=torch.Generator().manual_seed(0)).double()
    assert uniformity(many) == pytest.approx(-4, abs=0.01)


def test_alignment() -> None:
    one, other = rotated([0.0, 1.0]), rotated([0.5, 1.25])
    expected = np.mean([2 - 2 * math.cos(0.5), 2 - 2 * math.cos(0.25)])
    assert alignment(one, 3 * other) == pytest.approx(expected, rel=1e-12)


def test_effective_rank() -> None:
    assert effective_rank(torch.eye(5).double()) == pytest.approx(5, rel=1e-12)
    assert effective_rank(torch.outer(torch.arange(1.0, 5), torch.ones(3)).double()) == pytest.approx(1)
    shares = np.array([0.5, 0.3, 0.2])
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(7 * torch.diag(torch.from_numpy(shares))) == pytest.approx(expected, rel=1e-12)


def test_embeddings_stand_in_the_order_of_the_cells() -> None:
    """Whatever chunks they went through."""
    cells, model = from_csr(csr_matrix(counts(20)), np.arange(N_GENES)), embedder()
    few, many = model.embed_cells(cells, 30), model.embed_cells(cells, 10**6)
    for row in (0, 7, 19):
        batch = TOKENISER(cells.take([row]))
        for how in ("mean", "cls"):
            with torch.no_grad():
                alone = cell_embedding(model.encoder(*batch), batch.mask, how)[0].double()
            assert torch.allclose(few[how][row], alone, atol=1e-5)
            assert torch.allclose(many[how][row], alone, atol=1e-5)


def test_dropout_alone_keeps_positives_apart() -> None:
    cells = from_csr(csr_matrix(counts(20)), np.arange(N_GENES))
    without, some, much = (measure(embedder(p), cells, 0, 100)["mean"] for p in (0.0, 0.1, 0.5))
    assert without["alignment"] == pytest.approx(0, abs=1e-10)
    assert 0.001 < some["alignment"] < much["alignment"] < 4
    for name in ("mean_cosine", "uniformity", "effective_rank"):
        assert without[name] == pytest.approx(some[name], rel=1e-6), "these are without dropout"
