from pathlib import Path

import pytest
import torch

from celllm.errors import UserError
from celllm.graph.embeddings import load_gene_embeddings, save_gene_embeddings
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.model.weights import save_encoder

GENES = "a" * 64


def test_gene_embeddings_come_back_and_another_list_is_refused(tmp_path: Path) -> None:
    table = torch.randn(6, 8)
    save_gene_embeddings(tmp_path / "g.safetensors", table.double(), GENES)
    assert torch.equal(load_gene_embeddings(tmp_path / "g.safetensors", GENES), table)
    with pytest.raises(UserError, match="made for another gene list"):
        load_gene_embeddings(tmp_path / "g.safetensors", "b" * 64)


def test_another_file_is_refused(tmp_path: Path) -> None:
    config = EncoderConfig(n_genes=6, dim=8, depth=1, heads=1, dim_head=8)
    save_encoder(tmp_path / "e.safetensors", Encoder(config), {})
    with pytest.raises(UserError, match=r"e\.safetensors: not a file of gene embeddings"):
        load_gene_embeddings(tmp_path / "e.safetensors")
