"""How much of the network an embedding knows: held-out links told from pairs that are no link."""

import csv
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from celllm import io, settings
from celllm.errors import UserError
from celllm.graph.features import Floats, node_features, random_walk, spectral, unit_rows
from celllm.graph.graphmae import GraphMAESettings, embed_genes
from celllm.graph.network import GeneNetwork

Pairs = NDArray[np.int64]
Judge = Callable[[Pairs], NDArray[Any]]
Kind = Literal["uniform", "degree"]
KINDS: tuple[Kind, ...] = ("uniform", "degree")
MAX_ROUNDS = 100
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LinkPredictionSettings:
    """The test of the gene embeddings on links that their training has not seen."""

    graphmae: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings of GraphMAE, as for the embeddings themselves."""
    held_out: float = 0.1
    """Share of the edges that is held out; nothing is trained, or made a feature, from these."""
    training_pairs: int = 20_000
    """The logistic regression learns from at most so many links and as many pairs that are none."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise UserError(
                f"link prediction settings: held_out is {self.held_out}, allowed is between 0 and 1"
            )
        if self.training_pairs < 1:
            raise UserError(
                f"link prediction settings: training_pairs is {self.training_pairs}, allowed is 1 up"
            )


@dataclasses.dataclass(frozen=True)
class Split:
    """The network without the held-out edges, and pairs (n, 2) of genes to tell apart."""

    training: GeneNetwork
    links: Pairs
    others: dict[Kind, Pairs]
    training_links: Pairs
    training_others: dict[Kind, Pairs]


@dataclasses.dataclass(frozen=True)
class Score:
    """One line of the result.

    ``score`` is how a pair is judged: the cosine of its embeddings, a logistic regression on their product,
    or the product of the degrees. ``non_links`` tells how the pairs without a link were drawn.
    """

    method: str
    score: str
    non_links: str
    n_held_out: int
    auc: float
    average_precision: float


def run_link_prediction(
    network: str | Path, genes: str | Path, options: str | dict[str, Any] | None, out: str | Path
) -> None:
    """Write AUC and average precision of GraphMAE and of simpler methods on held-out links, as CSV.

    Parameters
    ----------
    network, genes
        The gene network (``.npz``) and the vocabulary that it was made for.
    options
        :class:`LinkPredictionSettings` as JSON or mapping.
    """
    from celllm.cells.genes import Vocabulary

    chosen = settings.fill(LinkPredictionSettings, options, "link prediction settings")
    scores = score_methods(GeneNetwork.read(network, Vocabulary.read(genes).sha256), chosen)
    with io.atomic(out) as partial, open(partial, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, [f.name for f in dataclasses.fields(Score)], lineterminator="\n")
        writer.writeheader()
        for score in scores:
            writer.writerow(dataclasses.asdict(score))
            log.info("%s (%s), non-links %s: AUC %.3f", score.method, score.score, score.non_links, score.auc)


def score_methods(network: GeneNetwork, chosen: LinkPredictionSettings) -> list[Score]:
    """Hold out edges, embed what is left by each method, and score the held-out edges."""
    graphmae = settings.fill(GraphMAESettings, chosen.graphmae, "link prediction settings.graphmae")
    split = split_links(network, chosen)
    degrees = split.training.degrees()
    scores = [_measured("degree", "product", k, split, lambda p: degrees[p].prod(axis=1)) for k in KINDS]
    for method, embeddings in _embedded(split.training, graphmae, chosen.seed):
        rows = unit_rows(embeddings) * np.sqrt(embeddings.shape[1])
        for kind in KINDS:
            scores += [
                _measured(method, "cosine", kind, split, partial(_cosine, rows)),
                _measured(method, "logistic", kind, split, _logistic(rows, split, kind)),
            ]
    return scores


def _embedded(network: GeneNetwork, graphmae: GraphMAESettings, seed: int) -> Iterator[tuple[str, Floats]]:
    """Each method's embedding of the same size, the auto-encoder's own input among them."""
    size = graphmae.dim
    yield "random", np.random.default_rng(seed).standard_normal((network.n_genes, size)).astype(np.float32)
    yield "spectral", spectral(network, size, seed)
    yield "random_walk", random_walk(network, size, seed)
    yield "graphmae_input", node_features(network, graphmae.features, graphmae.identity, graphmae.seed)
    yield "graphmae", embed_genes(network, graphmae)[0].numpy()


def split_links(network: GeneNetwork, chosen: LinkPredictionSettings) -> Split:
    """Hold out a random share of the edges and draw as many pairs of each kind that are no edge.

    A gene may lose all its edges by this: its held-out links then cannot be told, and count.
    """
    rng = np.random.default_rng(chosen.seed)
    order = rng.permutation(network.n_edges)
    n_held_out = round(chosen.held_out * network.n_edges)
    if not 0 < n_held_out < network.n_edges:
        raise UserError(
            f"link prediction: {network.n_edges} edges are too few to hold out {chosen.held_out:g} of them"
        )
    kept = np.sort(order[n_held_out:])
    links = np.stack([network.source, network.target], axis=1).astype(np.int64)
    shown = rng.permutation(kept)[: chosen.training_pairs]
    others = {kind: non_links(network, kind, n_held_out + len(shown), rng) for kind in KINDS}
    return Split(
        training=network.with_edges(kept),
        links=links[order[:n_held_out]],
        others={kind: pairs[:n_held_out] for kind, pairs in others.items()},
        training_links=links[shown],
        training_others={kind: pairs[n_held_out:] for kind, pairs in others.items()},
    )


def non_links(network: GeneNetwork, kind: Kind, n_pairs: int, rng: np.random.Generator) -> Pairs:
    """Draw ``n_pairs`` distinct pairs (n_pairs, 2) of genes that are no edge, among the genes with one.

    ``uniform`` draws genes alike: most pairs are between genes with few links, and their degree alone tells
    most of them from links. ``degree`` pairs the ends of random edges anew, so that the degree tells
    nothing (less than nothing in training, where a held-out link lacks at both its ends).

    Raises
    ------
    UserError
        When the network has too few such pairs.
    """
    genes = np.concatenate([network.source, network.target]).astype(np.int64)
    genes = np.unique(genes) if kind == "uniform" else genes
    links = network.source.astype(np.int64) * network.n_genes + network.target
    found = np.empty(0, np.int64)
    for _ in range(MAX_ROUNDS):
        pairs = np.sort(rng.choice(genes, (2 * n_pairs, 2)), axis=1)
        keys = pairs[pairs[:, 0] < pairs[:, 1]] @ np.array([network.n_genes, 1])
        found = np.concatenate([found, keys[~np.isin(keys, links)]])
        found = found[np.sort(np.unique(found, return_index=True)[1])]
        if len(found) >= n_pairs:
            return np.stack(np.divmod(found[:n_pairs], network.n_genes), axis=1)
    raise UserError(
        f"link prediction: the network is too dense to find {n_pairs} pairs of genes without a link"
    )


def _measured(method: str, score: str, kind: Kind, split: Split, judge: Judge) -> Score:
    from sklearn.metrics import average_precision_score, roc_auc_score

    pairs = np.concatenate([split.links, split.others[kind]])
    truth, judged = np.arange(len(pairs)) < len(split.links), judge(pairs)
    figures = (round(float(f(truth, judged)), 4) for f in (roc_auc_score, average_precision_score))
    return Score(method, score, kind, len(split.links), *figures)


def _product(rows: Floats, pairs: Pairs) -> Floats:
    return rows[pairs[:, 0]] * rows[pairs[:, 1]]


def _cosine(rows: Floats, pairs: Pairs) -> Floats:
    return _product(rows, pairs).mean(axis=1)


def _logistic(rows: Floats, split: Split, kind: Kind) -> Judge:
    """Return a judge of pairs: logistic regression on products of embeddings, fitted to training pairs."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pairs = np.concatenate([split.training_links, split.training_others[kind]])
    truth = np.arange(len(pairs)) < len(split.training_links)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    model.fit(_product(rows, pairs), truth)
    return lambda judged: model.decision_function(_product(rows, judged))
