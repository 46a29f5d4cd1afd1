"""Networks whose answer is known."""

import numpy as np

from celllm.graph.network import GeneNetwork

SHA256 = "5" * 64


def network(source: list[int], target: list[int], n_genes: int) -> GeneNetwork:
    ends = np.sort(np.array([source, target], np.int32), axis=0)
    ends = ends[:, np.lexsort(ends[::-1])]
    return GeneNetwork(ends[0], ends[1], np.full(len(source), 980, np.int32), n_genes, SHA256)


def planted_groups(n_groups: int = 6, size: int = 25, n_alone: int = 10, seed: int = 0) -> GeneNetwork:
    """Groups with 40 % of the links inside and 1 % between them; the last ``n_alone`` genes have no link."""
    n_linked = n_groups * size
    low, high = np.triu_indices(n_linked, 1)
    chance = np.where(low // size == high // size, 0.4, 0.01)
    kept = np.random.default_rng(seed).random(len(low)) < chance
    return network(low[kept].tolist(), high[kept].tolist(), n_linked + n_alone)
