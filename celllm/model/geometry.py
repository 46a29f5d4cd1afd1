"""How cell embeddings lie in their space: narrow cone or sphere.

Without contrast, embeddings of a transformer crowd into a narrow cone (anisotropy): a mean cosine near 1, a
uniformity near 0, a small effective rank. The paper argues from this and never measures it.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from celllm.corpus.batches import length_buckets
from celllm.corpus.expressed import Cells
from celllm.corpus.tokens import Tokeniser
from celllm.model import Encoder, cell_embedding

Embedding = Literal["mean", "cls"]


def measure(
    encoder: Encoder, tokeniser: Tokeniser, cells: Cells, seed: int, token_budget: int
) -> dict[Embedding, dict[str, float]]:
    """All measures of both kinds of embedding.

    Mean cosine, uniformity and effective rank are of embeddings without dropout; alignment is of two passes
    with dropout, which are the positives of the contrastive loss.
    """
    plain = embed(encoder.eval(), tokeniser, cells, token_budget)
    torch.manual_seed(seed)
    one, other = (embed(encoder.train(), tokeniser, cells, token_budget) for _ in range(2))
    encoder.eval()
    return {
        how: {
            "mean_cosine": mean_cosine(plain[how]),
            "uniformity": uniformity(plain[how]),
            "alignment": alignment(one[how], other[how]),
            "effective_rank": effective_rank(plain[how]),
        }
        for how in plain
    }


@torch.no_grad()
def embed(encoder: Encoder, tokeniser: Tokeniser, cells: Cells, token_budget: int) -> dict[Embedding, Tensor]:
    """Both kinds of embedding of all cells, (n_cells, dim) float64 in the order of the cells."""
    device = encoder.norm.weight.device
    kinds: tuple[Embedding, ...] = get_args(Embedding)
    found = {how: torch.empty(cells.n_cells, encoder.config.dim, dtype=torch.float64) for how in kinds}
    for rows in length_buckets(tokeniser.lengths(cells), token_budget):
        batch = tokeniser(cells.take(rows)).to(device)
        states = encoder(*batch)
        for how, table in found.items():
            table[torch.from_numpy(rows)] = cell_embedding(states, batch.mask, how).double().cpu()
    return found


def mean_cosine(x: Tensor) -> float:
    """Mean cosine of two different rows of ``x`` (n, dim): 0 for random directions, 1 for a single one."""
    n, total = len(x), functional.normalize(x).sum(0)
    return float((total @ total - functional.normalize(x).square().sum()) / (n * (n - 1)))


def uniformity(x: Tensor, t: float = 2.0) -> float:
    """Logarithm of the mean Gaussian potential of pairs of rows on the unit sphere; lower is more uniform.

    0 when all directions are one, about -2t for random directions in many dimensions.
    Source: Wang & Isola 2020, "Understanding contrastive representation learning through alignment and
    uniformity on the hypersphere", with their t = 2.
    """
    return float(torch.pdist(functional.normalize(x)).square().mul(-t).exp().mean().log())


def alignment(x: Tensor, y: Tensor) -> float:
    """Mean squared distance of row i of ``x`` and row i of ``y`` on the unit sphere, 0 to 4.

    Source: Wang & Isola 2020, with their exponent of 2.
    """
    return float((functional.normalize(x) - functional.normalize(y)).square().sum(1).mean())


def effective_rank(x: Tensor) -> float:
    """Exponential of the entropy of the singular values of ``x``, as shares of their sum; 1 to min(n, dim).

    Source: Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    shares = functional.normalize(torch.linalg.svdvals(x), p=1, dim=0)
    return float(torch.special.entr(shares).sum().exp())
