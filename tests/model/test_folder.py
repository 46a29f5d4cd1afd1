from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from celllm.cells.genes import Vocabulary
from celllm.errors import UserError
from celllm.model.embedder import Embedder
from celllm.model.folder import load


def same(model: Embedder, other: Embedder, adata: AnnData) -> bool:
    return np.array_equal(model.embed(adata, progress=False), other.embed(adata, progress=False))


@pytest.mark.parametrize("form", ["folder", "file", "own gene list"])
def test_an_encoder_of_a_run(form: str, run_folder: Path, embedder: Embedder, adata: AnnData) -> None:
    place = run_folder / "encoder.safetensors" if form == "file" else run_folder
    if form == "own gene list":
        for name in ("genes.tsv", "aliases.tsv"):
            (run_folder.parents[1] / "prepared" / name).rename(run_folder / name)
    model = load(place, "cpu")
    assert model.name == "small"
    adata.var_names = [name.replace("GENE07", "OLD7") for name in adata.var_names]
    assert same(model, embedder, adata)


def test_a_name_of_a_hub_that_is_on_disk(
    run_folder: Path, embedder: Embedder, adata: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    cache = tmp_path / "hf" / "hub" / "models--lab--small"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("abc\n")
    (cache / "snapshots").mkdir()
    (run_folder.parents[1] / "prepared" / "genes.tsv").rename(run_folder / "genes.tsv")
    run_folder.rename(cache / "snapshots" / "abc")
    assert same(load("lab/small", "cpu"), embedder, adata)
    with pytest.raises(UserError, match="lab/other: no such file or folder, and no model of that name"):
        load("lab/other")


def test_what_is_missing_is_named(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no such file or folder"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no model\.safetensors or encoder\.safetensors in it"):
        load(tmp_path)
    (run_folder.parents[1] / "prepared" / "genes.tsv").unlink()
    with pytest.raises(UserError, match=r"encoder\.safetensors: no genes\.tsv beside it"):
        load(run_folder)


def test_a_gene_list_of_another_model_is_refused(run_folder: Path) -> None:
    Vocabulary(("A", "B"), ("", "")).write(run_folder / "genes.tsv")
    with pytest.raises(UserError, match="trained with another gene list"):
        load(run_folder)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{}", "no sha256 in it"),
        ("[]", "no sha256 in it"),
        ("{", "not a JSON file"),
        ('{"sha256": {"aliases.tsv": "0"}}', "aliases.tsv: changed since the model was exported"),
        ('{"sha256": {"more.tsv": "0"}}', "more.tsv: no such file"),
    ],
)
def test_a_damaged_description_is_refused(config: str, words: str, run_folder: Path) -> None:
    for name in ("genes.tsv", "aliases.tsv"):
        (run_folder.parents[1] / "prepared" / name).rename(run_folder / name)
    (run_folder / "config.json").write_text(config)
    with pytest.raises(UserError, match=words):
        load(run_folder)
