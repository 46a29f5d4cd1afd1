import json
from itertools import pairwise

import numpy as np
import pytest

from celllm.corpus.batches import EpochSampler, length_buckets
from celllm.errors import UserError


def test_buckets_hold_every_cell_once_within_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 900, 500)
    chunks = length_buckets(lengths, 4000)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(500))
    for chunk in chunks:
        assert len(chunk) * (1 + lengths[chunk].max()) <= 4000
    assert all(lengths[a].min() >= lengths[b].max() for a, b in pairwise(chunks))


def test_buckets_waste_little() -> None:
    lengths = np.random.default_rng(0).integers(200, 2000, 512)
    chunks = length_buckets(lengths, 16000)
    padded = sum(len(chunk) * (1 + lengths[chunk].max()) for chunk in chunks)
    assert padded < 1.05 * (lengths + 1).sum()


def test_a_cell_beyond_the_budget_comes_alone() -> None:
    chunks = length_buckets([10, 5, 100, 4], token_budget=12)
    assert [chunk.tolist() for chunk in chunks] == [[2], [0], [1, 3]]


def test_buckets_of_chosen_rows() -> None:
    assert [c.tolist() for c in length_buckets([1, 9, 5, 7], 16, rows=[3, 0])] == [[3, 0]]
    assert length_buckets([1, 2], 16, rows=[]) == []
    with pytest.raises(UserError, match="token_budget"):
        length_buckets([1], 0)


def test_an_epoch_draws_no_cell_twice_and_leaves_out_less_than_a_batch() -> None:
    sampler = EpochSampler(23, 5, seed=1)
    assert sampler.batches_per_epoch == 4
    epochs = [np.concatenate([next(sampler) for _ in range(4)]) for _ in range(3)]
    for cells in epochs:
        assert len(set(cells.tolist())) == 20
    assert not np.array_equal(epochs[0], epochs[1])
    assert sampler.state()["epoch"] == 2


def test_the_seed_decides_the_order() -> None:
    first, same, other = (next(EpochSampler(100, 10, seed)).tolist() for seed in (1, 1, 2))
    assert first == same != other


@pytest.mark.parametrize("done", [0, 3, 4, 5, 11])
def test_a_resumed_sampler_goes_on_as_if_never_stopped(done: int) -> None:
    whole, stopped, resumed = (EpochSampler(23, 5, seed=1, rows=np.arange(0, 46, 2)) for _ in range(3))
    for _ in range(done):
        next(whole)
        next(stopped)
    resumed.load(json.loads(json.dumps(stopped.state())))
    for _ in range(9):
        assert np.array_equal(next(whole), next(resumed))


def test_fewer_cells_than_a_batch_are_all_taken() -> None:
    sampler = EpochSampler(3, 8, seed=0)
    assert sorted(next(sampler).tolist()) == sorted(next(sampler).tolist()) == [0, 1, 2]


def test_rows_limit_the_cells() -> None:
    assert sorted(next(EpochSampler(100, 3, 0, rows=[7, 8, 99])).tolist()) == [7, 8, 99]


def test_another_run_is_refused() -> None:
    state = EpochSampler(20, 5, seed=1).state()
    for other, name in ((EpochSampler(20, 5, 2), "seed"), (EpochSampler(20, 4, 1), "batch_size")):
        with pytest.raises(UserError, match=f"checkpoint: {name} was"):
            other.load(state)
    with pytest.raises(UserError, match="n_rows was 20, this run has 21"):
        EpochSampler(21, 5, 1).load(state)


def test_nothing_to_draw_from_is_told() -> None:
    with pytest.raises(UserError, match="no cell to draw"):
        EpochSampler(0, 5, 1)
    with pytest.raises(UserError, match="batch_size"):
        EpochSampler(5, 0, 1)
