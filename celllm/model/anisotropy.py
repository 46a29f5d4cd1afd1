"""How cell embeddings lie in their space: narrow cone or sphere.

Without contrast, embeddings of a transformer crowd into a narrow cone (anisotropy): a mean cosine near 1, a
uniformity near 0, a small effective rank. The paper argues from this and never measures it.
"""

import torch
from torch import Tensor
from torch.nn import functional

from celllm.corpus.expressed import Cells
from celllm.model.embedder import Embedder, How


def measure(embedder: Embedder, cells: Cells, seed: int, token_budget: int) -> dict[How, dict[str, float]]:
    """All measures of both kinds of embedding.

    Mean cosine, uniformity and effective rank are of embeddings without dropout; alignment is of two passes
    with dropout, which are the positives of the contrastive loss.
    """
    embedder.encoder.eval()
    plain = embedder.embed_cells(cells, token_budget)
    torch.manual_seed(seed)
    embedder.encoder.train()
    one, other = (embedder.embed_cells(cells, token_budget) for _ in range(2))
    embedder.encoder.eval()
    return {
        how: {
            "mean_cosine": mean_cosine(plain[how]),
            "uniformity": uniformity(plain[how]),
            "alignment": alignment(one[how], other[how]),
            "effective_rank": effective_rank(plain[how]),
        }
        for how in plain
    }


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
