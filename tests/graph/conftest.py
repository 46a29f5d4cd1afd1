"""Networks whose answer is known."""

import numpy as np
import pytest

from celllm.graph.network import GeneNetwork

SIZE, N_GROUPS, N_ALONE = 25, 6, 10


@pytest.fixture(scope="session")
def planted() -> GeneNetwork:
    """Six groups of 25 genes, 40 % of the links inside and 1 % between them; ten genes have no link."""
    n_linked = N_GROUPS * SIZE
    low, high = np.triu_indices(n_linked, 1)
    chance = np.where(low // SIZE == high // SIZE, 0.4, 0.01)
    kept = np.random.default_rng(0).random(len(low)) < chance
    source, target = low[kept].astype(np.int32), high[kept].astype(np.int32)
    score = np.full(len(source), 980, np.int32)
    return GeneNetwork(source, target, score, n_linked + N_ALONE, "5" * 64)
