"""Drugs as vectors: molecular graphs and the two networks that read them.

An encoder holds the graphs of all drugs and returns vectors by drug number, so that a drug that occurs a
hundred times in a batch is encoded once. The graph library runs on the CPU, and so do these encoders.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from celllm.graph.backend import (
    Graph,
    GraphConvolution,
    GraphIsomorphism,
    graph_of,
    graph_with_loops,
    max_by_graph,
)
from celllm.graph.molecules import N_FEATURES, Molecule


@dataclass(frozen=True)
class DrugBatch:
    """Some drugs as one graph.

    Attributes
    ----------
    bonds : int64 array (2, n_edges)
        Both directions of every bond.
    atoms : Tensor
        (n_atoms, 77) float32, drug by drug.
    sizes : int64 array
        Atoms of each drug.
    """

    bonds: NDArray[np.int64]
    atoms: Tensor
    sizes: NDArray[np.int64]

    def graph(self) -> Graph:
        """The graph of the bonds."""
        return graph_of(self.bonds[0], self.bonds[1], int(self.sizes.sum()))

    def graph_with_loops(self) -> Graph:
        """The graph of the bonds in which every atom is its own neighbour."""
        return graph_with_loops(self.bonds[0], self.bonds[1], int(self.sizes.sum()))


class Drugs:
    """Molecules of all drugs, numbered in the order given."""

    def __init__(self, molecules: Sequence[Molecule]) -> None:
        self.molecules = tuple(molecules)

    def __len__(self) -> int:
        return len(self.molecules)

    def take(self, numbers: NDArray[np.int64]) -> DrugBatch:
        """Some drugs side by side."""
        chosen = [self.molecules[number] for number in numbers.tolist()]
        sizes = np.array([len(molecule.atoms) for molecule in chosen])
        starts = np.cumsum(sizes) - sizes
        bonds = [molecule.bonds + start for molecule, start in zip(chosen, starts, strict=True)]
        atoms = np.concatenate([molecule.atoms for molecule in chosen])
        return DrugBatch(np.concatenate(bonds, axis=1), torch.from_numpy(atoms), sizes)


class GinEncoder(nn.Module):
    """TGDRP's drug encoder (Zhu et al. 2022): GIN layers, jumping knowledge, maximum over the atoms.

    Parameters
    ----------
    drugs : Drugs
        All drugs.
    n_layers, width : int
        GIN layers, each followed by ReLU and batch norm; their outputs are concatenated.
    size : int
        Of a drug's vector, after one linear layer (Table F.1: 256).
    dropout : float
        On the vector.
    """

    def __init__(
        self, drugs: Drugs, n_layers: int = 3, width: int = 128, size: int = 256, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.drugs = drugs
        sizes = [N_FEATURES] + [width] * n_layers
        self.layers = nn.ModuleList(GraphIsomorphism(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(n_layers))
        self.out = nn.Sequential(nn.Linear(n_layers * width, size), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, numbers: NDArray[np.int64]) -> Tensor:
        """Numbers of n drugs -> (n, size)."""
        batch = self.drugs.take(numbers)
        graph, x, levels = batch.graph(), batch.atoms, []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(F.relu(layer(graph, x)))
            levels.append(x)
        return self.out(max_by_graph(batch.sizes, torch.cat(levels, dim=1)))


class GcnEncoder(nn.Module):
    """DeepCDR's drug encoder (Liu et al. 2020): graph convolutions, maximum over the atoms.

    Parameters
    ----------
    drugs : Drugs
        All drugs.
    sizes : sequence of int
        Widths of the convolutions, each followed by ReLU, batch norm and dropout; the last is the size of a
        drug's vector. The paper takes the maximum over the atoms, its released code the mean.
    dropout : float
        After each convolution.
    """

    def __init__(
        self, drugs: Drugs, sizes: Sequence[int] = (256, 256, 256, 100), dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.drugs = drugs
        self.layers = nn.ModuleList(GraphConvolution(a, b) for a, b in pairwise([N_FEATURES, *sizes]))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numbers: NDArray[np.int64]) -> Tensor:
        """Numbers of n drugs -> (n, sizes[-1])."""
        batch = self.drugs.take(numbers)
        graph, x = batch.graph_with_loops(), batch.atoms
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(norm(F.relu(layer(graph, x))))
        return max_by_graph(batch.sizes, x)
