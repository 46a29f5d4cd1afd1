from pathlib import Path

import pytest
import torch

from celllm.cells.genes import Vocabulary
from celllm.errors import UserError
from celllm.graph.embeddings import save_gene_embeddings
from celllm.io import read_yaml
from celllm.settings import as_settings
from celllm.training.model_row import read_embedder
from celllm.training.settings import ModelRow

ROWS = read_yaml(Path(__file__).resolve().parents[2] / "config/models.yaml")["models"]
ENCODERS = [name for name, row in ROWS.items() if row["kind"] == "encoder"]
# Rows without a pre-training of their own have another row's encoder, or random numbers.
PRETRAINED = [name for name in ENCODERS if not {"encoder", "pretrained"} & ROWS[name].keys()]


def row(name: str) -> ModelRow:
    return as_settings(ModelRow, ROWS[name] | {"name": name}, name)


@pytest.mark.parametrize("name", PRETRAINED)
def test_every_encoder_can_be_built(name: str) -> None:
    assert row(name).tokens.n_bins == 6
    if row(name).size != "scbert":  # of no size that the package names
        assert row(name).encoder_config(100).n_genes == 100


def test_other_encoders_take_that_of_a_row_or_none() -> None:
    others = {name: ROWS[name].get("encoder", ROWS[name].get("pretrained")) for name in ENCODERS}
    assert {name: others[name] for name in ENCODERS if name not in PRETRAINED} == {
        "random_init": False,
        "random_init_random_genes": False,
        "frozen": "celllm",
        "scbert_own": "scbert",
        "celllm_lines_normalised": "celllm",
        "celllm_released": "elsewhere",
    }


@pytest.mark.parametrize(
    ("name", "differing", "value"),
    [
        ("celllm_softmax", "attention", "softmax"),
        ("celllm_e2e", "contrast", "end_to_end"),
        ("celllm_moco", "contrast", "moco"),
        ("celllm_wo_cl", "contrast", "none"),
        ("celllm_t02", "temperature", 0.2),
        ("celllm_t1", "temperature", 1.0),
        ("celllm_on_cls", "contrast_on", "cls"),
    ],
)
def test_a_variant_differs_from_celllm_in_one_thing(name: str, differing: str, value: str) -> None:
    assert row(name).science() == row("celllm").science() | {differing: value}


def test_without_contrast_there_is_a_row_of_two_views() -> None:
    one, two = row("celllm_wo_cl"), row("celllm_wo_cl_two_views")
    assert two.science() == one.science() | {"views": 2}
    assert (one.n_views, two.n_views, row("celllm").n_views) == (1, 2, 2)


def test_an_untrained_encoder_has_graphmaes_vectors_or_random_ones(tmp_path: Path) -> None:
    size = {"dim": 16, "depth": 1, "heads": 2, "dim_head": 8}
    start = {"name": "start", "kind": "encoder", "pretrained": False, "size": size}
    (tmp_path / "genes.tsv").write_text("index\tsymbol\tensembl_id\n0\tA\tENSG1\n1\tB\tENSG2\n2\tC\tENSG3\n")
    vocabulary = Vocabulary.read(tmp_path / "genes.tsv")
    vectors, path = torch.arange(48.0).reshape(3, 16), tmp_path / "vectors.safetensors"
    save_gene_embeddings(path, vectors, vocabulary.sha256)
    given = read_embedder(None, start | {"gene_embeddings": str(path)}, vocabulary, "cpu").encoder
    random = read_embedder(None, start | {"gene_embeddings": "trained"}, vocabulary, "cpu").encoder
    assert torch.equal(given.embedding.genes.weight[:3], vectors)
    assert not torch.equal(random.embedding.genes.weight[:3], vectors)
    layers = (dict(encoder.layers.named_parameters()) for encoder in (given, random))
    for (name, a), (_, b) in zip(*(found.items() for found in layers), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(UserError, match="no such file"):
        read_embedder(None, start | {"gene_embeddings": "graphmae"}, vocabulary, "cpu")
