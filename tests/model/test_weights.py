from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from celllm.errors import UserError
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.model.weights import load_encoder, save_encoder

CONFIG = EncoderConfig(n_genes=6, dim=8, depth=2, heads=1, dim_head=8)
GENES = "a" * 64


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("kind", ["favor", "softmax", "released"])
def test_an_encoder_comes_back_as_it_was(tmp_path: Path, kind: str, frozen: bool) -> None:
    config = EncoderConfig(**{**vars(CONFIG), "attention": kind})
    encoder = Encoder(config, torch.randn(6, 8) if frozen else None).eval()
    save_encoder(tmp_path / "e.safetensors", encoder, {"genes_sha256": GENES, "steps": 7})
    back, meta = load_encoder(tmp_path / "e.safetensors", GENES)

    assert meta == {"genes_sha256": GENES, "steps": 7}
    assert back.config == config
    assert not back.training
    assert back.embedding.genes.weight.requires_grad != frozen
    gene_ids, bins = torch.tensor([[6, 1, 4]]), torch.tensor([[6, 0, 5]])
    assert torch.equal(back(gene_ids, bins), encoder(gene_ids, bins))
    assert all(torch.equal(a, b) for a, b in zip(back.buffers(), encoder.buffers(), strict=True))


def test_equal_encoders_make_equal_files(tmp_path: Path) -> None:
    encoder = Encoder(CONFIG)
    for i in range(6):
        save_encoder(tmp_path / f"{i}.safetensors", encoder, {"genes_sha256": GENES})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_another_gene_list_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path / "e.safetensors", Encoder(CONFIG), {"genes_sha256": GENES})
    with pytest.raises(UserError, match="trained with another gene list") as caught:
        load_encoder(tmp_path / "e.safetensors", "b" * 64)
    assert "\n" not in str(caught.value)


def test_wrong_files_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_encoder(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("<html>not found</html>")
    with pytest.raises(UserError, match="not a safetensors file"):
        load_encoder(tmp_path / "text.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not an encoder"):
        load_encoder(tmp_path / "other.safetensors")


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "e.safetensors"
    save_encoder(place, Encoder(CONFIG), {"genes_sha256": GENES})
    before = place.read_bytes()
    with pytest.raises(TypeError):
        save_encoder(place, Encoder(CONFIG), {"genes_sha256": object()})
    assert place.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["e.safetensors"]
