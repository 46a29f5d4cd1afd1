from pathlib import Path

import pytest

from celllm.io import read_yaml
from celllm.settings import as_settings
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
        "frozen": "celllm",
        "scbert_own": "scbert",
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
