"""The authors' released weights: a small file in their layout, whose outputs performer-pytorch computes."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from performer_pytorch import Performer
from scipy.sparse import csr_matrix

from celllm.cells.genes import Vocabulary
from celllm.cli import main
from celllm.errors import UserError
from celllm.model.folder import load
from celllm.model.released import run_convert_released

N, DIM, DEPTH, HEADS, DIM_HEAD = 30, 16, 2, 2, 8
NAMES = [f"GENE{i:02d}" for i in range(N)]


@pytest.fixture
def performer() -> Performer:
    torch.manual_seed(0)
    shape = {"dim": DIM, "depth": DEPTH, "heads": HEADS, "dim_head": DIM_HEAD}
    made = Performer(**shape, qkv_bias=False, auto_check_redraw=False)
    for tensor in made.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return made.eval()


@pytest.fixture
def state(performer: Performer) -> dict[str, torch.Tensor]:
    """All tensors under the released names; the gene vectors are float64, as NumPy has them."""
    vectors = torch.randn(N, DIM, dtype=torch.float64)
    rest = {
        "token_emb.weight": torch.randn(8, DIM),
        "pos_emb.emb.weight": torch.cat([vectors, torch.ones(1, DIM), torch.zeros(1, DIM)]),
        "norm.weight": torch.rand(DIM) + 0.5,
        "norm.bias": torch.randn(DIM),
        "to_out.weight": torch.randn(8, DIM),
        "to_out.bias": torch.randn(8),
    }
    layers = {f"performer.net.{name}": tensor for name, tensor in performer.net.state_dict().items()}
    return rest | layers | {"performer.calls_since_last_redraw": torch.tensor(17)}


def given(folder: Path, state: Any, **more: Any) -> dict[str, Any]:
    """Files of the authors', as arguments of the conversion."""
    torch.save({"model_state_dict": state, "epoch": 4} | more, folder / "weights.pth")
    if "pos_emb.emb.weight" in state:
        np.save(folder / "gene2vec.npy", state["pos_emb.emb.weight"][:N].numpy())
    (folder / "names.txt").write_text("\n".join(NAMES) + "\n")
    return {
        "file": folder / "weights.pth",
        "gene2vec": folder / "gene2vec.npy",
        "names": folder / "names.txt",
        "out": folder / "released",
    }


def convert(file: Path, **arguments: Any) -> None:
    run_convert_released(file, **arguments)


def cells(seed: int = 1, n: int = 1) -> AnnData:
    counts = np.random.default_rng(seed).poisson(1.0, size=(n, N)).astype(np.float32)
    counts[:, 0] = 200
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    return AnnData(csr_matrix(counts), obs=obs, var=pd.DataFrame(index=NAMES))


def expected(state: dict[str, torch.Tensor], performer: Performer, adata: AnnData) -> torch.Tensor:
    """What the released model makes of a cell: the expressed genes in order behind [CLS], no padding."""
    counts = torch.from_numpy(adata.X.toarray()[0])
    genes = torch.nonzero(counts).flatten()
    x = torch.log1p(1e4 * counts[genes] / counts.sum())
    tokens = torch.cat([torch.tensor([6]), x.clamp(max=5).long()])
    places = torch.cat([torch.tensor([N]), genes])
    x = state["token_emb.weight"][tokens] + state["pos_emb.emb.weight"][places].float()
    with torch.no_grad():
        x = performer(x[None])
    return torch.nn.functional.layer_norm(x, (DIM,), state["norm.weight"], state["norm.bias"])[0]


@pytest.mark.parametrize("attention", ["favor", "released"])
@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
def test_the_encoder_is_the_released_one(
    attention: Any, prefix: str, state: dict[str, torch.Tensor], performer: Performer, tmp_path: Path
) -> None:
    files = given(tmp_path, {prefix + name: tensor for name, tensor in state.items()})
    if prefix:
        np.save(tmp_path / "gene2vec.npy", state["pos_emb.emb.weight"][:N].numpy())
    convert(**files, attention=attention)
    model = load(tmp_path / "released", "cpu")
    adata = cells()
    states = expected(state, performer, adata)
    # The released stabiliser is one maximum over all heads: with the floor under the features, that shows.
    error = 0.01 if attention == "released" else 2e-5
    for how, wanted in (("cls", states[0]), ("mean", states[1:].mean(0))):
        found = model.embed(adata, how=how, progress=False)[0]
        assert found == pytest.approx(wanted.numpy(), abs=error)
    assert (model.tokeniser.max_length, model.tokeniser.keep) == (6000, "first")


def test_every_tensor_is_accounted_for(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    convert(**given(tmp_path, state))
    told = pd.read_csv(tmp_path / "released/conversion.csv").set_index("tensor")["became"]
    assert list(told.index) == list(state)
    assert told["performer.net.layers.1.0.fn.to_k.weight"] == "layers.1.attention.to_qkv.weight (k)"
    assert told["to_out.bias"].startswith("not used: head of masked expressions")
    assert told["performer.net.layers.0.1.fn.fn.w1.weight"] == "layers.0.ff.w1.weight"


def test_in_the_vocabulary_of_a_run(
    state: dict[str, torch.Tensor], performer: Performer, tmp_path: Path
) -> None:
    """Other order, another name of a gene, genes that the model lacks: the same vectors of a cell."""
    order = np.random.default_rng(0).permutation(N)
    symbols = [NAMES[i] if i != 3 else "NEW3" for i in order] + ["LACKED1", "LACKED2"]
    run = Vocabulary(tuple(symbols), ("",) * len(symbols))
    run.write(tmp_path / "genes.tsv")
    (tmp_path / "aliases.tsv").write_text("name\tsymbol\tkind\nGENE03\tNEW3\tprevious\n")
    convert(**given(tmp_path, state), genes=tmp_path / "genes.tsv", aliases=tmp_path / "aliases.tsv")
    model = load(tmp_path / "released", "cpu")
    assert model.meta["genes_sha256"] == run.sha256
    table = model.encoder.embedding.genes.weight
    assert not table[-3:].any() and table[:-3].any(1).all()
    adata = cells(2)
    states = expected(state, performer, adata)
    found = model.embed(adata, how="cls", progress=False)[0]
    assert found == pytest.approx(states[0].numpy(), abs=2e-5)


def changed(state: dict[str, torch.Tensor], **changes: Any) -> dict[str, torch.Tensor]:
    return {k: v for k, v in (state | changes).items() if v is not None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"token_emb.weight": None}, "no token_emb.weight under model_state_dict; found pos_emb"),
        ({"token_emb.weight": torch.zeros(7, DIM)}, "7 expression tokens, CellLM has 8"),
        ({"norm.bias": None}, "norm.bias is missing"),
        ({"performer.net.layers.1.0.fn.to_v.weight": None}, "layers.1.0.fn.to_v.weight is missing"),
        ({"performer.net.layers.0.0.fn.to_q.bias": torch.zeros(16)}, "to_q.bias: the encoder has no place"),
        (
            {"performer.net.layers.1.0.fn.to_out.weight": torch.zeros(DIM, 9)},
            "16 x 9 where 16 x 16 is",
        ),
        ({"pos_emb.emb.weight": torch.zeros(N + 2, DIM)}, "other gene vectors than pos_emb of"),
        ({"conv.weight": torch.zeros(1)}, "conv.weight: the encoder has no place for it"),
    ],
)
def test_another_layout_is_refused(
    change: dict[str, Any], words: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    files = given(tmp_path, state)
    torch.save({"model_state_dict": changed(state, **change)}, files["file"])
    with pytest.raises(UserError, match=re.escape(words)):
        convert(**files)
    assert not (tmp_path / "released").exists()


class Trap:
    """Unpickling it would run a command."""

    def __reduce__(self) -> Any:
        return print, ("unpickled",)


def test_nothing_but_tensors_is_read(
    state: dict[str, torch.Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = given(tmp_path, state, trap=Trap())
    with pytest.raises(UserError, match=r"weights\.pth: not a file of tensors alone; nothing else is read"):
        convert(**files)
    files["file"].write_bytes(pickle.dumps({"model_state_dict": Trap()}))
    with pytest.raises(UserError, match="not a file of tensors alone"):
        convert(**files)
    files["file"].write_bytes(b"")
    with pytest.raises(UserError, match="not a file of tensors alone"):
        convert(**files)
    assert "unpickled" not in capsys.readouterr().out


def test_files_that_do_not_go_together(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    files = given(tmp_path, state)
    names = files["names"]
    for text, words in {
        "\n".join(NAMES[1:]): "29 names for 30 gene vectors",
        "\n".join([*NAMES[1:], "GENE05"]): "the gene 'GENE05' appears twice",
    }.items():
        names.write_text(text)
        with pytest.raises(UserError, match=words):
            convert(**files)
    names.write_text("\n".join(NAMES))
    Vocabulary(("A", "B"), ("", "")).write(tmp_path / "genes.tsv")
    with pytest.raises(UserError, match="none of its genes is among the names"):
        convert(**files, genes=tmp_path / "genes.tsv")
    np.save(files["gene2vec"], np.zeros((N, DIM + 1)))
    with pytest.raises(UserError, match=f"expected finite numbers, genes x {DIM}, found float64 of 30 x 17"):
        convert(**files)
    files["gene2vec"].write_text("1 2")
    with pytest.raises(UserError, match="not an array in NumPy's format"):
        convert(**files)


def test_the_command(
    state: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {name: str(path) for name, path in given(tmp_path, state).items()}
    words = ["--gene2vec", files["gene2vec"], "--names", files["names"], "--out", files["out"]]
    assert main(["convert-released", files["file"], *words]) == 0
    assert main(["convert-released", files["file"], *words]) == 2, "the folder exists"
