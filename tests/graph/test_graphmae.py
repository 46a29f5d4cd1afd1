import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from celllm import tensors
from celllm.cells.genes import Vocabulary
from celllm.errors import UserError
from celllm.graph.backend import graph_with_loops
from celllm.graph.embeddings import FORMAT, load_gene_embeddings
from celllm.graph.graphmae import (
    GraphMAESettings,
    MaskedAutoencoder,
    embed_genes,
    run_graphmae,
    scaled_cosine_error,
)
from celllm.graph.network import GeneNetwork
from celllm.settings import as_settings

SMALL = GraphMAESettings(dim=16, hidden=24, heads=2, features=12, epochs=30, seed=5)


@pytest.fixture()
def model() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(SMALL).eval()


@pytest.fixture()
def vocabulary(planted: GeneNetwork) -> Vocabulary:
    symbols = ("TP53", "CDK1", *(f"G{i:03}" for i in range(2, planted.n_genes)))
    return Vocabulary(symbols, ("",) * len(symbols))


@pytest.fixture()
def files(planted: GeneNetwork, vocabulary: Vocabulary, tmp_path: Path) -> dict[str, Path]:
    """The network and the vocabulary that it was made for."""
    vocabulary.write(tmp_path / "genes.tsv")
    ends = planted.source, planted.target, planted.score
    GeneNetwork(*ends, planted.n_genes, vocabulary.sha256).save(tmp_path / "network.npz")
    return {"network": tmp_path / "network.npz", "genes": tmp_path / "genes.tsv"}


def test_scaled_cosine_error_by_hand() -> None:
    """Cosines 1, 0, -1 and 0.6: errors 0, 1, 2 and 0.4."""
    rebuilt = torch.tensor([[2.0, 0.0], [0.0, 5.0], [-1.0, 0.0], [3.0, 4.0]])
    wanted = torch.tensor([[1.0, 0.0], [1.0, 0.0], [7.0, 0.0], [1.0, 0.0]])
    assert scaled_cosine_error(rebuilt, wanted, 1.0).item() == pytest.approx(3.4 / 4, abs=1e-6)
    assert scaled_cosine_error(rebuilt, wanted, 3.0).item() == pytest.approx((1 + 8 + 0.064) / 4, abs=1e-6)


def test_corrupt_puts_the_token_and_other_genes_features(model: MaskedAutoencoder) -> None:
    features = torch.arange(10.0)[:, None].repeat(1, SMALL.features) + 1
    torch.nn.init.constant_(model.mask_token, -1.0)
    masked = torch.tensor([7, 2, 4, 9])
    corrupted = model.corrupt(features, masked, 1)
    assert (corrupted[[2, 4, 9]] == -1).all()
    assert corrupted[7, 0].item() in features[:, 0]
    kept = [0, 1, 3, 5, 6, 8]
    assert (corrupted[kept] == features[kept]).all()
    assert (features[:, 0] == torch.arange(10.0) + 1).all()


@pytest.mark.parametrize(("n_nodes", "n_masked", "n_noised"), [(100, 50, 2), (2, 1, 0), (3, 2, 0)])
def test_draw(model: MaskedAutoencoder, n_nodes: int, n_masked: int, n_noised: int) -> None:
    masked, noised = model.draw(n_nodes)
    assert len(set(masked.tolist())) == n_masked
    assert noised == n_noised


def test_masked_nodes_do_not_see_their_features(model: MaskedAutoencoder) -> None:
    """In a ring, what is rebuilt for a masked node depends on its neighbours, never on itself."""
    ring = np.arange(8)
    graph = graph_with_loops(np.r_[ring, ring], np.r_[np.roll(ring, 1), np.roll(ring, -1)], 8)
    features = torch.randn(8, SMALL.features, requires_grad=True)
    masked = torch.tensor([0, 4])
    code = model.encoder(graph, model.corrupt(features, masked, 0))
    rebuilt = model.decode(graph, code, masked)
    (gradient,) = torch.autograd.grad(rebuilt[0].sum(), features)
    assert (gradient[masked] == 0).all()
    assert (gradient[[1, 7]].abs().sum(dim=1) > 0).all()


def test_the_code_of_masked_nodes_is_hidden_from_the_decoder(model: MaskedAutoencoder) -> None:
    ring = np.arange(8)
    graph = graph_with_loops(np.r_[ring, ring], np.r_[np.roll(ring, 1), np.roll(ring, -1)], 8)
    code = torch.randn(8, SMALL.dim, requires_grad=True)
    masked = torch.tensor([0, 4])
    (gradient,) = torch.autograd.grad(model.decode(graph, code, masked).sum(), code)
    assert (gradient[masked] == 0).all()
    assert (gradient[[1, 2, 3, 5, 6, 7]].abs().sum(dim=1) > 0).all()


def test_every_gene_has_a_vector_of_its_own_of_the_same_length(planted: GeneNetwork) -> None:
    embeddings, record = embed_genes(planted, SMALL)
    assert embeddings.shape == (planted.n_genes, SMALL.dim)
    assert embeddings.dtype == torch.float32
    assert torch.isfinite(embeddings).all()
    torch.testing.assert_close(embeddings.pow(2).mean(dim=1), torch.ones(planted.n_genes))
    unit = embeddings / SMALL.dim**0.5
    assert (unit @ unit.T - 2 * torch.eye(planted.n_genes)).max() < 0.9999
    assert [line.epoch for line in record] == list(range(1, SMALL.epochs + 1))
    assert record[-1].loss < 0.6 * record[0].loss


def test_groups_of_the_network_are_near_in_the_embedding(planted: GeneNetwork) -> None:
    embeddings, _ = embed_genes(planted, SMALL)
    unit = (embeddings / SMALL.dim**0.5)[:150]
    group = torch.arange(150) // 25
    same = group[:, None] == group
    cosine = unit @ unit.T
    assert cosine[same].mean() - cosine[~same].mean() > 0.6


def test_same_seed_same_embedding_and_the_random_state_is_left_alone(planted: GeneNetwork) -> None:
    torch.manual_seed(77)
    state = torch.get_rng_state()
    one, record = embed_genes(planted, SMALL)
    assert (torch.get_rng_state() == state).all()
    torch.manual_seed(78)
    two, again = embed_genes(planted, SMALL)
    assert (one == two).all()
    assert [line.loss for line in record] == [line.loss for line in again]
    other, _ = embed_genes(planted, GraphMAESettings(**{**SMALL.__dict__, "seed": 6}))
    assert not torch.allclose(one, other, atol=0.1)


def test_dim_scale_and_depth_are_free(planted: GeneNetwork) -> None:
    chosen = GraphMAESettings(dim=20, hidden=8, heads=4, layers=3, features=300, epochs=2, rms=0.02)
    embeddings, _ = embed_genes(planted, chosen)
    assert embeddings.shape == (planted.n_genes, 20)
    torch.testing.assert_close(embeddings.pow(2).mean(dim=1).sqrt(), torch.full((planted.n_genes,), 0.02))


def test_run_writes_embeddings_and_record(
    files: dict[str, Path], vocabulary: Vocabulary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, metrics = tmp_path / "gene_embeddings.safetensors", tmp_path / "loss.csv"
    with caplog.at_level("INFO"):
        run_graphmae(
            **files,
            settings=as_settings(GraphMAESettings, '{"dim": 8, "epochs": 3}'),
            out=out,
            metrics=metrics,
        )
    embeddings = load_gene_embeddings(out, vocabulary.sha256)
    assert embeddings.shape == (160, 8)
    header = tensors.read_header(out, FORMAT, "file of gene embeddings")
    assert header["genes_sha256"] == vocabulary.sha256
    assert header["settings"]["epochs"] == 3
    with open(metrics) as handle:
        rows = list(csv.DictReader(handle))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["learning_rate"]) == 0.005
    assert all(0 < float(row["loss"]) < 8 for row in rows)
    assert "near TP53: " in caplog.text
    assert "epoch 3/3" in caplog.text
    with pytest.raises(UserError, match="another gene"):
        load_gene_embeddings(out, "0" * 64)


def test_a_second_run_writes_the_same_bytes_and_the_digest_is_of_the_vectors_alone(
    files: dict[str, Path], tmp_path: Path
) -> None:
    def written(name: str, settings: str) -> tuple[bytes, str]:
        out, digest = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.sha256"
        run_graphmae(
            **files,
            settings=as_settings(GraphMAESettings, settings),
            out=out,
            metrics=tmp_path / f"{name}.csv",
            digest=digest,
        )
        return out.read_bytes(), digest.read_text()

    first = written("first", '{"dim": 8, "epochs": 2}')
    assert written("second", '{"dim": 8, "epochs": 2}') == first
    # The same vectors by settings that are spelled out: another header.
    spelled = written("third", '{"dim": 8, "epochs": 2, "hidden": 8}')
    assert (spelled[0] == first[0], spelled[1] == first[1]) == (False, True)
    assert written("fourth", '{"dim": 8, "epochs": 2, "rms": 2.0}')[1] != first[1]


def test_network_of_another_vocabulary(files: dict[str, Path], tmp_path: Path) -> None:
    Vocabulary(("A", "B"), ("", "")).write(files["genes"])
    with pytest.raises(UserError, match="another gene vocabulary"):
        run_graphmae(**files, settings=GraphMAESettings(), out=tmp_path / "out", metrics=tmp_path / "metrics")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 30}, "heads: expected a divisor of dim and hidden, here 30, got 4"),
        ({"hidden": 6}, "here 6"),
        ({"mask_rate": 1.0}, "mask_rate: expected less than 1, got 1.0"),
        ({"mask_rate": 0.0}, "mask_rate: expected more than 0, got 0.0"),
        ({"gamma": 0.5}, "gamma: expected at least 1, got 0.5"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"heads": 0}, "heads: expected at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate: expected more than 0, got -1.0"),
        ({"dimension": 64}, "unknown key 'dimension'"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_settings(GraphMAESettings, options, "graphmae settings")


def test_a_loss_that_is_no_number_stops(planted: GeneNetwork) -> None:
    chosen = GraphMAESettings(dim=8, hidden=8, features=8, epochs=50, learning_rate=1e30)
    with pytest.raises(UserError, match=r"the loss is nan in epoch .*lower learning_rate"):
        embed_genes(planted, chosen)
