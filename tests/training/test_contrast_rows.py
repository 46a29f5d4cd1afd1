"""What a row says of its contrast: vectors, temperature, views."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from celllm.errors import UserError
from celllm.model.heads import cell_embedding
from celllm.probes.contrast import run_contrast
from celllm.scores.columns import CONTRAST, GEOMETRY
from celllm.settings import as_settings
from celllm.training.contrastive import info_nce
from celllm.training.settings import ModelRow
from tests.training.conftest import SIZE
from tests.training.test_pretrain import Arguments, Pretrained, open_run, read


@pytest.mark.parametrize("contrast", ["end_to_end", "divide_and_conquer"])
@pytest.mark.parametrize("how", ["cls", "mean"])
def test_the_contrast_compares_what_the_row_says(arguments: Arguments, how: Any, contrast: str) -> None:
    run = open_run(arguments(row={"contrast": contrast, "contrast_on": how, "temperature": 0.3}))
    assert run.trainer.model.pooling is None
    batch = run.batches.make(0)
    torch.manual_seed(4)
    losses = run.trainer.add_gradients(batch)
    torch.manual_seed(4)
    views: list[list[torch.Tensor]] = [[], []]
    for chunk in batch.chunks:
        for view in views:
            states = run.trainer.model.encoder(chunk.gene_ids, chunk.bins, chunk.mask)
            view.append(cell_embedding(states, chunk.mask, how))
    wanted = info_nce(*map(torch.cat, views), 0.3).item()
    assert losses["contrast"] == pytest.approx(wanted, rel=1e-5)


def test_the_temperature_of_the_row_wins(arguments: Arguments) -> None:
    found = {}
    for name, row, settings in [
        ("settings", {}, {"temperature": 1.0}),
        ("row", {"temperature": 1.0}, {"temperature": 0.05}),
        ("neither", {}, {}),
    ]:
        run = open_run(arguments(name, row=row, **settings))
        torch.manual_seed(4)
        found[name] = run.trainer.add_gradients(run.batches.make(0))["contrast"]
    assert found["row"] == found["settings"] != found["neither"]


def test_moco_on_cls_has_keys_of_the_encoders_width(arguments: Arguments) -> None:
    run = open_run(arguments(row={"contrast": "moco", "contrast_on": "cls", "temperature": 0.5}))
    assert run.trainer.moco is not None
    assert run.trainer.moco.queue.shape[1] == SIZE["dim"]
    assert run.trainer.moco.temperature == 0.5
    assert math.isfinite(run.trainer.add_gradients(run.batches.make(0))["contrast"])


def test_two_views_without_contrast_are_the_mean_of_two_passes(arguments: Arguments) -> None:
    one = open_run(arguments("one", row={"contrast": "none"}))
    two = open_run(arguments("two", row={"contrast": "none", "views": 2}))
    batch = one.batches.make(0)
    torch.manual_seed(4)
    passes = [one.trainer.add_gradients(batch) for _ in range(2)]
    added = {n: p.grad for n, p in one.trainer.model.named_parameters() if p.grad is not None}
    torch.manual_seed(4)
    losses = two.trainer.add_gradients(batch)
    assert losses["mlm"] == pytest.approx((passes[0]["mlm"] + passes[1]["mlm"]) / 2, rel=1e-6)
    for name, parameter in two.trainer.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, added[name] / 2, rtol=1e-4, atol=1e-7)
    assert two.trainer.flops == one.trainer.flops


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"views": 2, "contrast": "moco"}, "model.views: expected null with contrast moco, got 2"),
        ({"views": 1}, "model.views: expected null with contrast divide_and_conquer, got 1"),
        ({"temperature": 0}, "model.temperature: expected more than 0"),
        ({"contrast_on": "pool"}, "model.contrast_on: expected"),
    ],
)
def test_rows_that_make_no_sense(row: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        as_settings(ModelRow, {"size": SIZE, **row}, "model")


def test_a_checkpoint_of_another_contrast_is_refused(pretrained: Pretrained, arguments: Arguments) -> None:
    made = pretrained(max_steps=2, checkpoint_steps=1)
    (Path(made["checkpoints"]) / "step-000000002.safetensors").unlink()
    with pytest.raises(UserError, match=r"temperature was None, now it is 0\.2"):
        open_run(arguments(row={"temperature": 0.2}, max_steps=2, checkpoint_steps=1))


def test_the_contrast_of_each_encoder_is_told(pretrained: Pretrained, tmp_path: Path) -> None:
    rows = {
        "plain": {},
        "on_cls": {"contrast_on": "cls", "temperature": 0.2},
        "none": {"contrast": "none", "views": 2},
        "moco": {"contrast": "moco"},
    }
    made = {name: pretrained(name, row=row, max_steps=4) for name, row in rows.items()}
    geometry = [[name, "baron", how, 16, 30, 0.5, -1, 0.1, 7.5] for name in rows for how in ("mean", "cls")]
    pd.DataFrame(geometry, columns=GEOMETRY).to_csv(tmp_path / "geometry.csv", index=False)
    run_contrast(
        {name: files["out"] for name, files in made.items()},
        {name: files["metrics"] for name, files in made.items()},
        tmp_path / "geometry.csv",
        tmp_path / "contrast.csv",
    )
    found = pd.read_csv(tmp_path / "contrast.csv").drop_duplicates("model").set_index("model")
    assert tuple(pd.read_csv(tmp_path / "contrast.csv").columns) == CONTRAST
    assert found["contrast_on"].to_dict()["on_cls"] == "cls"
    assert found["temperature"].to_dict() == pytest.approx(
        {"plain": 0.05, "on_cls": 0.2, "none": math.nan, "moco": 0.05}, nan_ok=True
    )
    assert found["views"].tolist() == [2, 2, 2, 1]
    steps = [float(row["contrast"]) for row in read(made["on_cls"]["metrics"])]
    assert found.loc["on_cls", ["start", "end"]].tolist() == pytest.approx([steps[0], steps[-1]], rel=1e-5)
    assert found.loc["plain", "ignorant"] == pytest.approx(math.log(24), rel=1e-5)
    assert found.loc["moco", "ignorant"] == pytest.approx(math.log(51), rel=1e-5)
    assert math.isnan(found.loc["none", "start"])
