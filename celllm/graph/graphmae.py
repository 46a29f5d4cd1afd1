"""GraphMAE: gene embeddings from a masked auto-encoder of the gene network (Hou et al. 2022).

Each epoch hides the features of half of the genes behind a [MASK] token, encodes the network with graph
attention, hides the code of the same genes again, decodes with one more layer of graph attention and asks for
the hidden features: only the neighbours can give them away. The encoder's output for the unmasked network is
the embedding.
"""

import dataclasses
import itertools
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from celllm import io
from celllm.errors import UserError
from celllm.graph.backend import Graph, GraphAttention, graph_with_loops
from celllm.graph.embeddings import digest_of, nearest_genes, save_gene_embeddings, standardised
from celllm.graph.features import node_features
from celllm.graph.network import GeneNetwork
from celllm.graph.settings import GraphMAESettings
from celllm.optimiser import adam

WELL_KNOWN = ("CD3E", "MS4A1", "INS", "TP53", "EGFR", "CDK1", "RPL3", "MT-ND1", "COL1A1", "HLA-A")
"""Genes whose neighbours a biologist can judge at a glance; they are logged."""

LOG_LINES = 20
log = logging.getLogger(__name__)


class Encoder(nn.Module):
    """Layers of graph attention, each with residual connection, layer norm and PReLU."""

    def __init__(self, chosen: GraphMAESettings) -> None:
        super().__init__()
        sizes = [chosen.features] + [chosen.width] * (chosen.layers - 1) + [chosen.dim]
        dropout = chosen.feature_dropout, chosen.attention_dropout
        pairs = list(itertools.pairwise(sizes))
        self.attention = nn.ModuleList(
            GraphAttention(a, b, chosen.heads, *dropout, residual=True) for a, b in pairs
        )
        self.after = nn.ModuleList(nn.Sequential(nn.LayerNorm(size), nn.PReLU()) for size in sizes[1:])

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """Map features (n_nodes, features) to codes (n_nodes, dim)."""
        for attention, after in zip(self.attention, self.after, strict=True):
            features = after(attention(graph, features))
        return features


class MaskedAutoencoder(nn.Module):
    """Encoder, decoder and [MASK] token."""

    def __init__(self, chosen: GraphMAESettings) -> None:
        super().__init__()
        self.chosen = chosen
        self.encoder = Encoder(chosen)
        self.between = nn.Linear(chosen.dim, chosen.dim, bias=False)
        dropout = chosen.feature_dropout, chosen.attention_dropout
        self.decoder = GraphAttention(chosen.dim, chosen.features, 1, *dropout)
        self.mask_token = nn.Parameter(torch.zeros(chosen.features))

    def forward(self, graph: Graph, features: Tensor) -> Tensor:
        """Mask at random, reconstruct, and return the scaled cosine error over the masked nodes."""
        masked, n_noised = self.draw(len(features))
        code = self.encoder(graph, self.corrupt(features, masked, n_noised))
        rebuilt = self.decode(graph, code, masked)
        return scaled_cosine_error(rebuilt[masked], features[masked], self.chosen.gamma)

    def draw(self, n_nodes: int) -> tuple[Tensor, int]:
        """Return the masked nodes, in random order, and how many of them (the first) get noise."""
        n_masked = min(max(round(self.chosen.mask_rate * n_nodes), 1), n_nodes - 1)
        return torch.randperm(n_nodes)[:n_masked], round(self.chosen.noise_rate * n_masked)

    def corrupt(self, features: Tensor, masked: Tensor, n_noised: int) -> Tensor:
        """Return the features with noise at the first ``n_noised`` masked nodes and [MASK] at the others."""
        noise = features[torch.randint(len(features), (n_noised,))]
        hidden = torch.cat([noise, self.mask_token.expand(len(masked) - n_noised, -1)])
        return features.index_copy(0, masked, hidden)

    def decode(self, graph: Graph, code: Tensor, masked: Tensor) -> Tensor:
        """Rebuild features from the codes, those of the masked nodes being hidden again (re-mask)."""
        return self.decoder(graph, self.between(code).index_fill(0, masked, 0.0))


def scaled_cosine_error(rebuilt: Tensor, wanted: Tensor, gamma: float) -> Tensor:
    """Mean over rows of ``(1 - cosine) ** gamma`` (Hou et al. 2022, equation 2)."""
    return (1 - F.cosine_similarity(rebuilt, wanted)).pow(gamma).mean()


@dataclasses.dataclass(frozen=True)
class Epoch:
    """One line of the training record: loss, learning rate of its step, seconds since the start."""

    epoch: int
    loss: float
    learning_rate: float
    seconds: float


def embed_genes(network: GeneNetwork, chosen: GraphMAESettings) -> tuple[Tensor, list[Epoch]]:
    """Train GraphMAE on the network and embed all its genes.

    Training uses the genes with an edge; the others have no neighbours to be predicted from. The embedding of
    a gene without an edge is the encoder's output for its own features. The result depends on the settings
    (``seed`` among them) and, in the last digits, on the number of threads; the caller's random state stays
    as it was.

    Returns
    -------
    Embeddings (n_genes, dim) float32, standardised (:func:`celllm.graph.embeddings.standardised`), and the
    record of the training.
    """
    features = torch.from_numpy(node_features(network, chosen.features, chosen.identity, chosen.seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.seed)
        model = MaskedAutoencoder(chosen)
        record = _train(model, network, features)
    model.eval()
    with torch.no_grad():
        codes = model.encoder(graph_with_loops(*network.both_ways(), network.n_genes), features)
    return standardised(codes, chosen.rms), record


def _train(model: MaskedAutoencoder, network: GeneNetwork, features: Tensor) -> list[Epoch]:
    # Of the genes that have an edge, numbered anew.
    genes, chosen = np.flatnonzero(network.degrees()), model.chosen
    source, target = (np.searchsorted(genes, part) for part in network.both_ways())
    graph = graph_with_loops(source, target, len(genes))
    features, start = features[torch.from_numpy(genes)], time.perf_counter()
    optimiser = adam(model.parameters(), chosen, fused=False)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, chosen.epochs)
    record = []
    for number in range(1, chosen.epochs + 1):
        loss = model(graph, features)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate = optimiser.param_groups[0]["lr"]
        line = Epoch(number, loss.item(), rate, round(time.perf_counter() - start, 3))
        record.append(line)
        schedule.step()
        if not np.isfinite(line.loss):
            raise UserError(f"graphmae: the loss is {line.loss} in epoch {number}; try a lower learning_rate")
        if number % max(chosen.epochs // LOG_LINES, 1) == 0 or number == chosen.epochs:
            per_epoch = line.seconds / number
            log.info(
                "graphmae epoch %d/%d: loss %.4f, %.2f s per epoch, %.0f s left",
                *(number, chosen.epochs, line.loss, per_epoch, per_epoch * (chosen.epochs - number)),
            )
    return record


def run_graphmae(
    network: str | Path,
    genes: str | Path,
    settings: GraphMAESettings,
    out: str | Path,
    metrics: str | Path,
    digest: str | Path | None = None,
) -> None:
    """Gene network -> GraphMAE -> one vector per gene.

    Parameters
    ----------
    network, genes
        The gene network (``.npz``) and the vocabulary that it was made for.
    out
        ``gene_embeddings.safetensors``: tensor ``gene_embeddings`` (n_genes, dim) float32.
    metrics
        CSV with one line per epoch.
    digest
        A text file with the SHA-256 of the vectors alone.
    """
    from celllm.cells.genes import Vocabulary

    vocabulary = Vocabulary.read(genes)
    links = GeneNetwork.read(network, vocabulary.sha256)
    embeddings, record = embed_genes(links, settings)
    for symbol in WELL_KNOWN:
        if symbol in vocabulary.index_of:
            near = nearest_genes(embeddings, vocabulary.index_of[symbol], 5)
            log.info("near %s: %s", symbol, ", ".join(f"{vocabulary.symbols[g]} {c:.2f}" for g, c in near))
    columns = [field.name for field in dataclasses.fields(Epoch)]
    io.write_csv(metrics, columns, map(dataclasses.astuple, record))
    facts = {"settings": settings.model_dump(), "network": links.facts}
    save_gene_embeddings(out, embeddings, vocabulary.sha256, **facts)
    if digest is not None:
        io.write_text(digest, f"{digest_of(embeddings)}\n")
    log.info("%s: %d genes x %d", out, *embeddings.shape)
