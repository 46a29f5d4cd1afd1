import logging
from typing import Any

import pytest
import torch

from celllm.model.encoder import forward_flops
from celllm.model.settings import EncoderConfig
from celllm.training import pretrain
from celllm.training.throughput import pass_flops, peak_flops
from tests.training.test_pretrain import Arguments, Pretrained, open_run, read


def forward_of(run: pretrain.Run, batch: Any) -> list[int]:
    """Operations of one forward pass over each chunk, counted cell by cell."""
    config = run.trainer.model.encoder.config
    return [sum(forward_flops(config, int(real.sum())) for real in chunk.mask) for chunk in batch.chunks]


def test_padding_is_no_work_and_a_backward_is_two_forwards() -> None:
    config = EncoderConfig(n_genes=9, dim=8, depth=2, heads=2, dim_head=4)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    forward = forward_flops(config, 3) + forward_flops(config, 5)
    assert pass_flops(config, mask, backward=False) == forward
    assert pass_flops(config, mask, backward=True) == 3 * forward


@pytest.mark.parametrize(("contrast", "passes"), [("end_to_end", 6), ("moco", 4), ("none", 3)])
def test_passes_of_a_step(arguments: Arguments, contrast: str, passes: int) -> None:
    run = open_run(arguments(row={"contrast": contrast}))
    batch = run.batches.make(0)
    run.trainer.add_gradients(batch)
    assert run.trainer.flops == passes * sum(forward_of(run, batch))


def test_divide_and_conquer_counts_its_second_forwards(arguments: Arguments) -> None:
    """One graph fits: all passes but the last run forward twice."""
    run = open_run(arguments(token_budget=60))
    batch = run.batches.make(0)
    assert 60 // batch.largest == 1
    run.trainer.add_gradients(batch)
    forward = forward_of(run, batch)
    assert run.trainer.flops == 8 * sum(forward) - forward[-1]


def test_rate_times_time_is_the_work(pretrained: Pretrained) -> None:
    rows = read(pretrained(row={"contrast": "none"})["metrics"])
    config = EncoderConfig(n_genes=40, dim=16, depth=2, heads=2, dim_head=8)
    for row in rows:  # linear attention: what a step costs follows from its tokens
        work = 3 * forward_flops(config, int(row["n_tokens"]))
        assert float(row["flops_per_second"]) * float(row["seconds"]) == pytest.approx(work, rel=1e-6)
        assert row["utilisation"] == ""


def test_utilisation_is_a_share_of_the_measured_peak(
    pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []
    monkeypatch.setattr(pretrain, "peak_flops", lambda *how: asked.append(how) or 2e9)
    with caplog.at_level(logging.INFO):
        rows = read(pretrained(measure_peak=True)["metrics"])
    assert asked == [(torch.device("cpu"), torch.float32)]
    for row in rows:
        assert float(row["utilisation"]) == pytest.approx(float(row["flops_per_second"]) / 2e9, rel=1e-6)
    last = rows[-1]
    told = f"{float(last['flops_per_second']) / 1e9:.4g} GFLOP/s ({float(last['utilisation']):.0%})"
    assert f"{told}  peak" in caplog.text


def test_measuring_the_peak_changes_no_result(pretrained: Pretrained) -> None:
    with_peak, without = (read(pretrained(str(on), measure_peak=on)["metrics"]) for on in (True, False))
    assert [row["loss"] for row in with_peak] == [row["loss"] for row in without]


def test_a_matrix_product_has_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes grow while there is time, and the best rate counts."""
    times = iter([1e-3, 2e-3, 0.5, 0.5])
    monkeypatch.setattr("celllm.training.throughput._seconds_of_product", lambda _: next(times))
    assert peak_flops(torch.device("cpu"), torch.float32) == pytest.approx(2 * 512**3 / 1e-3)
    assert next(times, None) is None
