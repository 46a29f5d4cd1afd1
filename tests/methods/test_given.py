"""Encoders that were trained elsewhere, as rows of a run: ``pretraining.from``."""

import re
from pathlib import Path
from typing import Any

import pytest

from celllm.cells.genes import Vocabulary
from celllm.config import complete, lay_over
from celllm.errors import UserError
from celllm.io import read_yaml, sha256
from celllm.model.folder import run_take_encoder
from celllm.plan import Plan
from tests.tasks.conftest import Files, files  # noqa: F401
from tests.tasks.test_annotation import run

CONFIG = Path(__file__).parents[2] / "config"


def configured(
    given: dict[str, Any], over: dict[str, Any] | None = None, **pretraining: Any
) -> dict[str, Any]:
    base = lay_over(read_yaml(CONFIG / "paper.yaml"), read_yaml(CONFIG / "toy.yaml"))
    base.pop("over", None)
    base = lay_over(base, {"pretraining": {"from": given} | pretraining})
    return complete(lay_over(base, over or {}), CONFIG, environ={})


@pytest.mark.parametrize("form", ["file", "model.safetensors", "encoder.safetensors"])
def test_a_row_with_a_given_encoder_trains_nothing(form: str, tmp_path: Path) -> None:
    file = tmp_path / ("mine.safetensors" if form == "file" else form)
    file.touch()
    place = str(file if form == "file" else tmp_path)
    plan = Plan(configured({"celllm": place}))
    assert plan.given["celllm"] == str(file)
    assert "celllm" in plan.encoders and "celllm" not in plan.trained and "celllm" not in plan.compared
    assert plan.pretrained("frozen") == "celllm"
    assert plan.encoder_files("frozen") == ["results/toy/checkpoints/celllm/encoder.safetensors"]
    assert "celllm" not in plan.figure_files["loss_curves"]
    seeds = configured({"celllm": place}, seeds=[0, 1], seeds_of=["celllm", "celllm_wo_cl"])["models"]
    assert "celllm.seed1" not in seeds and "celllm_wo_cl.seed1" in seeds


def test_released_weights(tmp_path: Path) -> None:
    without = Plan(configured({}))
    assert without.pretrained("celllm_released") is None and "celllm_released" not in without.encoders
    assert without.encoder_files("celllm_released") == [] == without.row_files("celllm_released", "baron")
    (tmp_path / "model.safetensors").touch()
    given = Plan(configured({"celllm_released": str(tmp_path)}))
    assert "celllm_released" in given.encoders and "celllm_released" not in given.trained
    assert given.scored_row("celllm_released")["encoder"].endswith("celllm_released/encoder.safetensors")


def test_rows_on_the_released_encoder(tmp_path: Path) -> None:
    """Probes and heads of it wait for it as its own row does."""
    frozen = {"title": "Released, frozen", "kind": "encoder", "group": "added", "encoder": "celllm_released"}
    over = {"models": {"released_frozen": frozen}, "annotation": {"models": {"add": ["released_frozen"]}}}
    (tmp_path / "model.safetensors").touch()
    for given in ({}, {"celllm_released": str(tmp_path)}):
        plan = Plan(configured(given, over=over))
        assert plan.pretrained("released_frozen") == ("celllm_released" if given else None)
        assert "celllm_released" not in plan.trained
        assert len(plan.encoder_files("released_frozen")) == len(given)
        assert "released_frozen" in plan.models()
        missing = plan.config["models"]["released_frozen"].get("missing", "")
        assert ("pretraining.from.celllm_released" in missing) is not bool(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"celllm": "nowhere"}, "from.celllm: nowhere: expected a model's file, or a folder with model.safe"),
        ({"cellm": "x"}, "from.cellm: unknown model 'cellm'; did you mean 'celllm'"),
        ({"frozen": "x"}, "from.frozen: 'frozen' has no pre-training of its own"),
        ({"majority": "x"}, "from.majority: 'majority' has no pre-training of its own"),
        ({"random_init": "x"}, "from.random_init: 'random_init' has no pre-training of its own"),
        ({"celllm": 3}, "from.celllm: expected a string, got 3"),
    ],
)
def test_slips(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"config: pretraining.{words}")):
        configured(given)


def test_an_encoder_is_taken_if_its_genes_are_those_of_the_run(files: Files, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "run/encoder.safetensors"
    run_take_encoder(files.encoder, genes=files.genes, out=out)
    assert sha256(out) == sha256(files.encoder)
    Vocabulary(("A", "B"), ("", "")).write(tmp_path / "genes.tsv")
    with pytest.raises(UserError, match=r"encoder\.safetensors: trained with another gene list"):
        run_take_encoder(files.encoder, genes=tmp_path / "genes.tsv", out=tmp_path / "other.safetensors")
    assert not (tmp_path / "other.safetensors").exists()


def test_without_the_weights_the_row_is_not_applicable(files: Files, tmp_path: Path) -> None:  # noqa: F811
    frame = run(files, tmp_path, Plan(configured({})).scored_row("celllm_released", "baron"))
    assert set(frame["status"]) == {"not-applicable"}
    assert frame["reason"].str.contains("under pretraining.from.celllm_released").all()
