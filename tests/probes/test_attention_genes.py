import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from celllm.cells.genes import Vocabulary
from celllm.corpus.expressed import CellsInMemory, from_csr
from celllm.corpus.shards import run_index, write_shard
from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.embedder import Embedder
from celllm.model.encoder import Encoder
from celllm.model.favor import features
from celllm.model.settings import EncoderConfig
from celllm.model.weights import save_encoder
from celllm.probes.attention_genes import (
    GeneTotals,
    InterpretationSettings,
    ari_intervals,
    by_attention,
    by_expression,
    cluster,
    expression_of_genes,
    gene_totals,
    run_interpret,
)
from celllm.report.published import load
from celllm.scores.columns import CELLS, GENES
from celllm.settings import as_settings

N_GENES = 30
TOKENISER = Tokeniser(N_GENES, max_length=12)


def cells_of(n_cells: int, seed: int = 0, boost: float = 1.0) -> CellsInMemory:
    """Cells of which the first five genes are ``boost`` times as strong."""
    rates = np.full(N_GENES, 0.8)
    rates[:5] *= boost
    return from_csr(np.random.default_rng(seed).poisson(rates, (n_cells, N_GENES)), np.arange(N_GENES))


def encoder(attention: str = "favor") -> Encoder:
    torch.manual_seed(0)
    config = EncoderConfig(n_genes=N_GENES, dim=16, depth=3, heads=2, dim_head=8, attention=attention)
    return Encoder(config).eval()


def explicit_row(model: Encoder, number: int, gene_ids: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
    """Row of [CLS] in the n x n attention matrix of one layer for one cell, heads averaged."""
    layer = model.layers[number]
    x = layer.attention_norm(model.run_layers(model.embed(gene_ids, bins), None, 0, number))
    q, k, _ = layer.attention.project(x).unbind(2)
    projection = layer.attention.projection
    phi_q, phi_k = features(q, projection, None, per_row=True), features(k, projection, None, per_row=False)
    matrix = phi_q @ phi_k.transpose(-1, -2)
    return (matrix / matrix.sum(-1, keepdim=True))[0, :, 0].mean(0)


@pytest.mark.parametrize(("layer", "numbers"), [("last", [2]), ("all", [0, 1, 2])])
@torch.no_grad()
def test_attention_is_that_of_the_explicit_matrix(layer: str, numbers: list[int]) -> None:
    """Summed over cells by gene and kind, in padded batches, against one n x n matrix for each cell."""
    model, cells = encoder(), cells_of(14)
    tumour = np.arange(14) % 2
    settings = InterpretationSettings(layer=layer, token_budget=60)
    totals = gene_totals(Embedder(model, TOKENISER), cells, tumour, N_GENES, settings)
    attention, expressing = np.zeros((2, N_GENES)), np.zeros((2, N_GENES))
    for cell in range(14):
        gene_ids, bins, _ = TOKENISER(cells.take([cell]))
        row = torch.stack([explicit_row(model, number, gene_ids, bins) for number in numbers]).mean(0)
        genes = gene_ids[0, 1:].numpy()
        attention[tumour[cell], genes] += row[1:].numpy()
        expressing[tumour[cell], genes] += 1
    assert totals.attention == pytest.approx(attention, abs=1e-5)
    assert (totals.expressing == expressing).all()
    assert totals.n_cells.tolist() == [7, 7]
    # With [CLS] itself the weights of each cell sum to one.
    assert 0 < totals.attention.sum() < 14


def test_genes_are_ranked_by_their_mean_over_expressing_cells() -> None:
    totals = GeneTotals(
        n_cells=np.array([10, 10]),
        attention=np.array([[1.0, 0.3, 0.9, 0], [1.0, 0.3, 0.0, 0]]),
        expressing=np.array([[10.0, 1, 1, 0], [10.0, 1, 0, 0]]),
        expression=np.array([[5.0, 9, 1, 0], [5.0, 9, 1, 0]]),
    )
    settings = InterpretationSettings(min_share=0.1)
    assert by_attention(totals, settings).tolist() == [1, 0], "one cell of twenty is too few for gene 2"
    assert by_attention(totals, InterpretationSettings(min_share=0.0)).tolist() == [2, 1, 0]
    assert by_attention(totals, InterpretationSettings(min_share=0.0, average="all")).tolist() == [0, 2, 1]
    assert by_expression(totals).tolist() == [1, 0, 2]
    means = totals.mean_attention("expressing")
    assert means[:, 0] == pytest.approx([0.1, 0.1, 0.1])
    assert np.isnan(means[1, 2]) and np.isnan(means[:, 3]).all()


def test_expression_of_genes_is_the_stored_one() -> None:
    cells = cells_of(6)
    table = expression_of_genes(cells.ragged, [7, 2])
    counts = np.random.default_rng(0).poisson(0.8, (6, N_GENES))
    expected = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))[:, [7, 2]]
    assert table == pytest.approx(expected, abs=1 / 4096)


def test_clusters_find_kinds_that_differ_and_only_those() -> None:
    apart = from_csr(
        np.vstack([np.tile([9, 9, 1, 1], (20, 1)), np.tile([1, 1, 9, 9], (20, 1))]), np.arange(4)
    )
    tumour = np.repeat([0, 1], 20)
    settings = InterpretationSettings()
    assert cluster(apart.ragged, range(4), tumour, settings).ari == 1
    assert abs(cluster(apart.ragged, range(4), np.arange(40) % 2, settings).ari) < 0.1
    alike = cluster(cells_of(20).ragged, [N_GENES + 1], np.arange(20) % 2, settings)
    assert alike.ari == 0 and alike.places.shape == (20, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An encoder, and a corpus of 40 normal cells of source a, 27 tumour cells of b and three of a."""
    folder = tmp_path_factory.mktemp("interpretation")
    vocabulary = Vocabulary(tuple(f"GENE{i:02d}" for i in range(N_GENES)), ("",) * N_GENES)
    vocabulary.write(folder / "genes.tsv")
    for number, (source, n_cells, tumour) in enumerate([("a", 40, False), ("b", 27, True), ("a", 3, True)]):
        write_shard(
            folder / f"{number}.safetensors", cells_of(n_cells, number, 6 if tumour else 1),
            np.full(n_cells, tumour), np.arange(n_cells), source=source, sample=f"s{number}",
            n_genes=N_GENES, genes_sha256=vocabulary.sha256,
        )  # fmt: skip
    run_index([folder / f"{number}.safetensors" for number in range(3)], folder / "index.json")
    meta = {"genes_sha256": vocabulary.sha256, "tokeniser": TOKENISER.to_json()}
    save_encoder(folder / "encoder.safetensors", encoder(), meta)
    return {
        "encoder": str(folder / "encoder.safetensors"),
        "corpus": str(folder / "index.json"),
        "genes": str(folder / "genes.tsv"),
    }


def interpreted(files: dict[str, str], folder: Path, **settings) -> dict:
    made = as_settings(InterpretationSettings, {"n_cells": 25, "n_genes": 5, "device": "cpu", **settings})
    run_interpret(
        **files, table=folder / "genes.csv", cells=folder / "cells.csv", out=folder / "facts.json",
        settings=made,
    )  # fmt: skip
    return json.loads((folder / "facts.json").read_text())["interpretation"]


def test_facts_genes_and_cells(files: dict[str, str], tmp_path: Path) -> None:
    facts = interpreted(files, tmp_path)
    assert facts["n_cells"] == {"normal": 25, "tumour": 25}
    assert len(facts["top_genes"]) == 5
    assert -0.5 <= facts["ari_attended"] <= 1
    # The first five genes are six times as strong in tumour cells.
    assert facts["ari_expressed"] > 0.5
    with open(tmp_path / "genes.csv", newline="") as handle:
        genes = list(csv.DictReader(handle))
    assert tuple(genes[0]) == GENES
    assert [row["gene"] for row in genes[:5]] == facts["top_genes"]
    means = [float(row["attention"]) for row in genes if row["attention_rank"]]
    assert means == sorted(means, reverse=True)
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert tuple(cells.columns) == CELLS
    assert cells.groupby(["genes", "kind"]).size().to_dict() == {
        (genes, kind): 25 for genes in ("attended", "expressed") for kind in ("normal", "tumour")
    }
    assert interpreted(files, tmp_path) == facts
    assert set(pd.read_csv(tmp_path / "cells.csv")["row"]) == set(cells["row"])


def test_claims_and_table_c1_find_their_facts(files: dict[str, str], tmp_path: Path) -> None:
    facts = {"interpretation": interpreted(files, tmp_path)}
    book = load()
    wanted = [claim.fact for claim in book.claims if claim.fact and claim.fact[0] == "interpretation"]
    wanted += [row.fact for row in book.fact_tables["tablec1"].rows]
    assert len(wanted) >= 6
    for path in wanted:
        here = facts
        for key in path:
            here = here[key]
        assert here is not None


def test_cells_come_from_the_sources_asked_for(files: dict[str, str], tmp_path: Path) -> None:
    interpreted(files, tmp_path, n_cells=1000, tumour_source="b", normal_source="a")
    cells = pd.read_csv(tmp_path / "cells.csv").query("genes == 'attended'")
    assert cells.groupby(["kind", "sample"]).size().to_dict() == {("normal", "s0"): 40, ("tumour", "s1"): 27}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"normal_source": "b"},
            r"index\.json: normal cells of b: 0 cell\(s\) .*; expected 2 or more",
        ),
        ({"min_share": 2.0}, r"settings\.min_share: expected at most 1, got 2\.0"),
        ({"n_cells": 1}, r"n_cells: expected at least 2, got 1"),
        ({"layer": "first"}, r"settings\.layer"),
    ],
)
def test_slips_are_refused_in_one_line(
    files: dict[str, str], tmp_path: Path, change: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        interpreted(files, tmp_path, **change)


def test_intervals_of_the_rand_indices_come_from_cells_drawn_again() -> None:
    tumour = np.repeat([0, 1], 200)
    clusters = {"attended": np.roll(tumour, 20), "expressed": np.roll(tumour, 60)}  # 40 and 120 cells off
    found = ari_intervals(tumour, clusters, 0)
    for name, of_cells in clusters.items():
        low, high, n = found[f"ari_{name}_interval"]
        assert low < adjusted_rand_score(tumour, of_cells) < high
        assert n == 400 and 0.05 < high - low < 0.25
    assert found["ari_gain_interval"][0] > 0
    certain = ari_intervals(tumour, {"attended": tumour, "expressed": 1 - tumour}, 0)
    assert certain["ari_attended_interval"][:2] == [1.0, 1.0]
    assert certain["ari_gain_interval"][:2] == [0.0, 0.0]
