"""Drugs as vectors: molecular graphs and the two networks that read them, on any device.

An encoder holds the graphs of all drugs and returns vectors by drug number, so that a drug that occurs a
hundred times in a batch is encoded once, side by side with the other drugs of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from celllm.graph.molecules import N_FEATURES, Molecule
from celllm.graph.plain import GINConv, Graph, GraphConv, max_by_graph, mean_by_graph
from celllm.graph.settings import DrugPooling


@dataclass(frozen=True)
class DrugBatch:
    """Some drugs as one graph: both directions of every bond, 77 features of each atom, drug by drug."""

    graph: Graph
    atoms: Tensor  # (n_atoms, 77)
    sizes: Tensor  # atoms of each drug, int64

    def graph_with_loops(self) -> Graph:
        """The graph in which every atom is its own neighbour."""
        loops = torch.arange(self.graph.n_nodes, device=self.atoms.device)
        source, target = (torch.cat([ends, loops]) for ends in (self.graph.source, self.graph.target))
        return Graph(source, target, self.graph.n_nodes)


class Drugs(nn.Module):
    """Molecules of all drugs, numbered in the order given; they move with the module that holds them."""

    atoms: Tensor
    bonds: Tensor

    def __init__(self, molecules: Sequence[Molecule]) -> None:
        super().__init__()
        self.n_atoms = np.array([len(molecule.atoms) for molecule in molecules])
        self.n_bonds = np.array([molecule.bonds.shape[1] for molecule in molecules])
        atoms = np.concatenate([molecule.atoms for molecule in molecules])
        bonds = np.concatenate([molecule.bonds for molecule in molecules], axis=1)
        self.register_buffer("atoms", torch.from_numpy(atoms), persistent=False)
        self.register_buffer("bonds", torch.from_numpy(bonds.astype(np.int64)), persistent=False)

    def __len__(self) -> int:
        return len(self.n_atoms)

    def take(self, numbers: NDArray[np.int64]) -> DrugBatch:
        """Some drugs side by side."""
        sizes, device = self.n_atoms[numbers], self.atoms.device
        shifts = np.repeat(np.cumsum(sizes) - sizes, self.n_bonds[numbers])
        parts = _places(self.n_atoms, numbers), _places(self.n_bonds, numbers), shifts, sizes
        atoms, bonds, shift, n_atoms = (torch.from_numpy(part).to(device) for part in parts)
        source, target = self.bonds[:, bonds] + shift
        return DrugBatch(Graph(source, target, len(atoms)), self.atoms[atoms], n_atoms)


def _places(counts: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the pieces of these numbers stand in a row of pieces of ``counts`` elements."""
    stops = np.cumsum(counts)
    return np.concatenate([np.arange(stops[number] - counts[number], stops[number]) for number in numbers])


class GinEncoder(nn.Module):
    """TGDRP's drug encoder (Zhu et al. 2022): GIN layers, jumping knowledge, maximum over the atoms.

    Each layer is followed by ReLU and batch norm; their outputs are concatenated and one linear layer, with
    dropout behind it, makes the drug's vector of this ``size`` (Table F.1: 256).
    """

    def __init__(
        self, drugs: Drugs, n_layers: int = 3, width: int = 128, size: int = 256, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.drugs = drugs
        sizes = [N_FEATURES] + [width] * n_layers
        self.layers = nn.ModuleList(GINConv(a, b) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(n_layers))
        self.out = nn.Sequential(nn.Linear(n_layers * width, size), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, numbers: NDArray[np.int64]) -> Tensor:
        """Numbers of n drugs -> (n, size)."""
        batch = self.drugs.take(numbers)
        x, levels = batch.atoms, []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(F.relu(layer(batch.graph, x)))
            levels.append(x)
        return self.out(max_by_graph(batch.sizes, torch.cat(levels, dim=1)))


class GcnEncoder(nn.Module):
    """DeepCDR's drug encoder (Liu et al. 2020): graph convolutions, then one number per feature of all atoms.

    ``sizes`` are the widths of the convolutions, each followed by ReLU, batch norm and dropout; the last is
    that of a drug's vector. Over the atoms goes the maximum, as in the paper, or the mean, as its released
    script runs.
    """

    def __init__(
        self,
        drugs: Drugs,
        sizes: Sequence[int] = (256, 256, 256, 100),
        dropout: float = 0.1,
        pooling: DrugPooling = "max",
    ) -> None:
        super().__init__()
        self.drugs, self.pool = drugs, {"max": max_by_graph, "mean": mean_by_graph}[pooling]
        self.layers = nn.ModuleList(GraphConv(a, b) for a, b in pairwise([N_FEATURES, *sizes]))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, numbers: NDArray[np.int64]) -> Tensor:
        """Numbers of n drugs -> (n, sizes[-1])."""
        batch = self.drugs.take(numbers)
        graph, x = batch.graph_with_loops(), batch.atoms
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(norm(F.relu(layer(graph, x))))
        return self.pool(batch.sizes, x)
