from pathlib import Path

import numpy as np
import pytest
import torch

from celllm.corpus.tokens import Tokeniser
from celllm.errors import UserError
from celllm.model.embedder import Embedder, find_device
from celllm.model.encoder import Encoder
from celllm.model.settings import EncoderConfig
from celllm.model.weights import save_encoder

SHA = "a" * 64
TOKENISERS = [
    Tokeniser(30, max_length=7, keep="first"),
    Tokeniser(30, zeros=True, genes=np.array([3, 4, 29]), n_bins=4, log_base="2"),
]


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(n_genes=30, dim=16, depth=1, heads=2, dim_head=8))


@pytest.mark.parametrize("tokeniser", TOKENISERS)
def test_a_file_holds_encoder_and_tokeniser(tmp_path: Path, tokeniser: Tokeniser) -> None:
    made = Embedder(encoder(), tokeniser, {"genes_sha256": SHA, "steps": 3})
    made.write(tmp_path / "e.safetensors")
    back = Embedder.read(tmp_path / "e.safetensors", SHA, "cpu")
    assert back.tokeniser.to_json() == tokeniser.to_json()
    assert back.meta["steps"] == 3
    assert not back.encoder.training
    weights = made.encoder.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in back.encoder.state_dict().items())


def test_an_encoder_without_its_tokeniser_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path / "e.safetensors", encoder(), {"genes_sha256": SHA})
    with pytest.raises(UserError, match=r"e\.safetensors: no tokeniser in it"):
        Embedder.read(tmp_path / "e.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "device: expected auto, cpu, cuda or cuda:<number>, got 'gpu'"),
        ("cuda:0", "device: cuda:0 asked for, but PyTorch finds no CUDA device"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        find_device(name)
    assert find_device("auto") == torch.device("cpu")
