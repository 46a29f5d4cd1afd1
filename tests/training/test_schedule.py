import math

import pytest

from celllm.training.randomness import Stream, seed_of
from celllm.training.schedule import cosine, cosine_restarts


def test_cosine_without_warmup() -> None:
    rates = [cosine(step, 4, 2.0) for step in range(5)]
    assert rates == pytest.approx([2.0, 1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5), 0.0])


def test_warmup_rises_to_the_peak() -> None:
    rates = [cosine(step, 13, 4.0, warmup_steps=3) for step in range(13)]
    assert rates[:5] == pytest.approx([1.0, 2.0, 3.0, 4.0, 2 + 2 * math.cos(math.pi / 10)])
    assert max(rates) == rates[3]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] > 0


def test_every_place_has_a_seed_of_its_own() -> None:
    seeds = {
        seed_of(seed, stream, step, rank)
        for seed in (0, 1)
        for stream in Stream
        for step in range(20)
        for rank in (0, 1)
    }
    assert len(seeds) == 2 * len(Stream) * 20 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_streams_never_move() -> None:
    """Every checkpoint and every result rests on these numbers."""
    assert [seed_of(7, stream, 3) for stream in Stream] == [
        5093101976529578930,
        7964965305340474863,
        1684239238610986860,
        1729168002221264068,
        4064374570681395613,
        4633231845053684815,
    ]


def test_restarts_are_those_of_scbert() -> None:
    """Cycles of 15, 25, 45 and 85 epochs, 5 of each warm-up, peaks of 1, 0.9, 0.81; from 0.01 on."""
    rates = [cosine_restarts(epoch, 1.0) for epoch in range(100)]
    assert rates[:6] == pytest.approx([0.01, 0.208, 0.406, 0.604, 0.802, 1.0])
    assert rates[10] == pytest.approx(0.01 + 0.99 * 0.5)
    assert [epoch for epoch, rate in enumerate(rates) if rate == pytest.approx(0.01)] == [0, 15, 40, 85]
    assert [rates[epoch] for epoch in (20, 45, 90)] == pytest.approx([0.9, 0.81, 0.729])
    assert rates[30] == pytest.approx(0.01 + 0.89 * 0.5)
    assert cosine_restarts(7, 3e-4) == pytest.approx(3e-4 * rates[7])
