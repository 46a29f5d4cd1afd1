from pathlib import Path

import pytest

from celllm.io import read_yaml
from celllm.settings import fill
from celllm.training.model_row import ModelRow

ROWS = read_yaml(Path(__file__).resolve().parents[2] / "config/models.yaml")["models"]


def row(name: str) -> ModelRow:
    return fill(ModelRow, ROWS[name] | {"name": name}, name)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row["kind"] == "encoder"])
def test_every_encoder_can_be_built(name: str) -> None:
    assert row(name).token_settings.n_bins == 6
    if row(name).size != "scbert":  # of no size that the package names
        assert row(name).encoder_config(100).n_genes == 100


@pytest.mark.parametrize(
    ("name", "differing", "value"),
    [
        ("celllm_softmax", "attention", "softmax"),
        ("celllm_e2e", "contrast", "end_to_end"),
        ("celllm_moco", "contrast", "moco"),
        ("celllm_wo_cl", "contrast", "none"),
    ],
)
def test_a_variant_differs_from_celllm_in_one_thing(name: str, differing: str, value: str) -> None:
    assert row(name).science() == row("celllm").science() | {differing: value}
