import csv
from pathlib import Path

import numpy as np
import pytest

from celllm.cells.genes import Vocabulary
from celllm.errors import UserError
from celllm.probes.link_prediction import (
    KINDS,
    LinkPredictionSettings,
    Score,
    non_links,
    run_link_prediction,
    score_methods,
    split_links,
)
from celllm.graph.network import GeneNetwork

GRAPHMAE = {"dim": 16, "features": 16, "epochs": 60}


@pytest.fixture(scope="module")
def scores(planted: GeneNetwork) -> dict[tuple[str, str, str], Score]:
    found = score_methods(planted, LinkPredictionSettings(graphmae=GRAPHMAE))
    return {(s.method, s.score, s.non_links): s for s in found}


def keys(pairs: np.ndarray) -> set[tuple[int, int]]:
    return set(map(tuple, pairs.tolist()))


def test_nothing_held_out_is_left_in_training(planted: GeneNetwork) -> None:
    split = split_links(planted, LinkPredictionSettings(held_out=0.2, training_pairs=50))
    edges = keys(np.stack([planted.source, planted.target], axis=1))
    left = keys(np.stack([split.training.source, split.training.target], axis=1))
    held_out = keys(split.links)
    assert len(held_out) == round(0.2 * planted.n_edges)
    assert left | held_out == edges
    assert not left & held_out
    assert keys(split.training_links) <= left
    assert len(split.training_links) == 50
    assert split.training.n_genes == planted.n_genes
    for kind in KINDS:
        assert len(split.others[kind]) == len(held_out)
        assert len(split.training_others[kind]) == 50
        assert not keys(split.others[kind]) & keys(split.training_others[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_non_links_are_distinct_pairs_of_linked_genes_without_a_link(kind: str, planted: GeneNetwork) -> None:
    pairs = non_links(planted, kind, 400, np.random.default_rng(0))  # type: ignore[arg-type]
    assert pairs.shape == (400, 2)
    assert len(keys(pairs)) == 400
    assert not keys(pairs) & keys(np.stack([planted.source, planted.target], axis=1))
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert planted.degrees()[pairs].min() > 0


def test_degree_non_links_have_the_degrees_of_links() -> None:
    """One hub with 60 links and 60 pairs apart: uniform non-links hardly ever hold the hub."""
    source = np.r_[np.zeros(60), np.arange(61, 181, 2)].astype(np.int32)
    target = np.r_[np.arange(1, 61), np.arange(62, 182, 2)].astype(np.int32)
    star = GeneNetwork(source, target, np.full(120, 990, np.int32), 181, "")
    share = {k: (non_links(star, k, 60, np.random.default_rng(1)) == 0).any(axis=1).mean() for k in KINDS}
    assert share["degree"] > 0.2
    assert share["uniform"] < 0.1


def test_embedding_tells_held_out_links(scores: dict[tuple[str, str, str], Score]) -> None:
    for kind in KINDS:
        learned = scores["graphmae", "cosine", kind].auc
        assert learned > 0.8
        assert learned > scores["random", "cosine", kind].auc + 0.2
        assert scores["graphmae", "logistic", kind].auc > 0.8
        assert scores["spectral", "cosine", kind].auc > 0.8
        assert scores["random_walk", "cosine", kind].auc > 0.8
        assert abs(scores["random", "cosine", kind].auc - 0.5) < 0.15
        assert scores["degree", "product", kind].auc < 0.6  # all planted degrees are alike


def test_every_method_is_judged_in_each_way(scores: dict[tuple[str, str, str], Score]) -> None:
    methods = ("random", "spectral", "random_walk", "graphmae_input", "graphmae")
    wanted = {(m, s, k) for m in methods for s in ("cosine", "logistic") for k in KINDS}
    assert set(scores) == wanted | {("degree", "product", k) for k in KINDS}
    assert len({s.n_held_out for s in scores.values()}) == 1
    assert all(0 <= s.average_precision <= 1 for s in scores.values())


def test_run_writes_the_scores(planted: GeneNetwork, tmp_path: Path) -> None:
    vocabulary = Vocabulary(tuple(f"G{i:03}" for i in range(planted.n_genes)), ("",) * planted.n_genes)
    vocabulary.write(tmp_path / "genes.tsv")
    ends = planted.source, planted.target, planted.score
    GeneNetwork(*ends, planted.n_genes, vocabulary.sha256).save(tmp_path / "network.npz")
    options = {"graphmae": {**GRAPHMAE, "epochs": 2}, "held_out": 0.1}
    files = tmp_path / "network.npz", tmp_path / "genes.tsv"
    run_link_prediction(*files, options, tmp_path / "auc.csv")
    first = (tmp_path / "auc.csv").read_bytes()
    with open(tmp_path / "auc.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["method", "score", "non_links", "n_held_out", "auc", "average_precision"]
    assert len(rows) == 22
    run_link_prediction(*files, options, tmp_path / "auc.csv")
    assert (tmp_path / "auc.csv").read_bytes() == first
    with pytest.raises(UserError, match="graphmae: unknown key 'epoch'"):
        run_link_prediction(*files, {"graphmae": {"epoch": 2}}, tmp_path / "auc.csv")


def test_a_network_without_room_for_non_links_is_told() -> None:
    low, high = np.triu_indices(6, 1)
    full = GeneNetwork(low.astype(np.int32), high.astype(np.int32), np.full(len(low), 990, np.int32), 6, "")
    with pytest.raises(UserError, match="too dense"):
        split_links(full, LinkPredictionSettings())
    with pytest.raises(UserError, match="too few"):
        split_links(full.with_edges(np.array([0])), LinkPredictionSettings())
    with pytest.raises(UserError, match="held_out is 1"):
        LinkPredictionSettings(held_out=1.0)
