import weakref

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from celllm.model import favor
from celllm.model.settings import EncoderConfig
from celllm.probes.peak_memory import Accountant, PeakMeter, contrast_peak

CONFIG = EncoderConfig(n_genes=300, dim=32, depth=3, heads=4, dim_head=8)


def allocator_peak(meter: PeakMeter, contrast: str, n_cells: int, length: int) -> int:
    """Most bytes that the CPU allocator of PyTorch gave out within a step, from its own log."""
    meter.peak(contrast, n_cells, length)  # whatever is made once is there
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as log:
        meter.peak(contrast, n_cells, length)
    now = most = 0
    for event in log.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def at_rest(meter: PeakMeter) -> int:
    return meter.accountant.now


def test_storages_are_counted_once_and_forgotten() -> None:
    with Accountant("cpu") as accountant:
        x = torch.zeros(1000)  # 4,000 bytes: eight pieces of 512
        assert accountant.now == 4096
        view = x[10:].reshape(9, 110)
        assert accountant.now == 4096
        y = view + 1
        assert accountant.now == 4096 + 4096
        del y
        assert (accountant.now, accountant.peak) == (4096, 8192)
        alive = weakref.ref(x)
        del x, view
        assert alive() is None
        assert accountant.now == 0


@pytest.mark.parametrize("contrast", ["end_to_end", "divide_and_conquer"])
@pytest.mark.parametrize(("n_cells", "length"), [(4, 60), (8, 250)])
def test_accounting_of_real_tensors_is_what_the_allocator_says(
    contrast: str, n_cells: int, length: int
) -> None:
    meter = PeakMeter(CONFIG, "cpu")
    expected = allocator_peak(meter, contrast, n_cells, length)
    found = meter.peak(contrast, n_cells, length) - at_rest(meter)
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("contrast", ["end_to_end", "divide_and_conquer"])
@pytest.mark.parametrize("attention", ["favor", "released"])
def test_steps_without_values_take_what_steps_with_values_take(
    contrast: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout, whose masks differ on a CPU, and with the CPU's blocks of FAVOR+."""
    monkeypatch.setitem(favor.BLOCK, "meta", favor.BLOCK["cpu"])
    config = CONFIG.changed(dropout=0.0, attention=attention)
    real, predicted = (PeakMeter(config, device).peak(contrast, 6, 200) for device in ("cpu", "meta"))
    assert predicted == pytest.approx(real, rel=0.02)


def test_divide_and_conquer_keeps_one_graph_whatever_the_batch() -> None:
    meter = PeakMeter(CONFIG)
    divided = [meter.peak("divide_and_conquer", n, 200) for n in (2, 16)]
    end_to_end = [meter.peak("end_to_end", n, 200) for n in (2, 16)]
    above = [peak - at_rest(meter) for peak in divided]
    # What grows are two vectors of 512 numbers for each cell and view, and the loss itself.
    assert above[1] - above[0] <= 14 * 2 * 2 * 512 * 4 + contrast_peak(16)
    assert end_to_end[1] - at_rest(meter) == pytest.approx(8 * (end_to_end[0] - at_rest(meter)), rel=0.15)


def test_loss_grows_with_the_square_of_the_batch() -> None:
    a, b = contrast_peak(4096), contrast_peak(8192)
    assert 3 < b / a < 4
    assert contrast_peak(256) >= 2 * 256 * 512 * 4 + 256 * 256 * 4
