"""States on disk: the same numbers, files that come and go, and what is not trusted."""

import logging
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from celllm.training.finetune import Finetuner, FinetuneSettings
from celllm.training.frozen import FrozenStates, Store
from celllm.training.state_cache import MIB, StateCache
from tests.training.test_finetune import GENES, QUICK, accuracy, embedder, planted

ROWS = np.arange(120)


def states(folder: Path | None, seed: int = 1, n_frozen: int = 2, **store: object) -> FrozenStates:
    place = {"folder": str(folder), "folder_mib": 10} if folder else {}
    made = embedder()
    with torch.no_grad():
        made.encoder.norm.bias += seed
    return FrozenStates(made, planted()[0], n_frozen, Store(**place, **store))


def logits(settings: FinetuneSettings) -> tuple[NDArray[np.int64], int]:
    """Predictions of a fine-tuned classifier, and the cells that went through the frozen layers."""
    cells, targets = planted()
    made = Finetuner(embedder(), cells, GENES, 3, settings)
    found = made.choose(ROWS[:60], targets[:60], ROWS[60:80], targets[60:80], accuracy, 0)
    return found.predict(ROWS).argmax(1), made.states.n_computed


def test_states_from_disk_are_those_from_memory_to_the_bit(tmp_path: Path) -> None:
    from_memory, first, again = (states(place) for place in (None, tmp_path, tmp_path))
    order = np.random.default_rng(0).permutation(ROWS)[:50]
    wanted = from_memory.take(order)
    for made in (first, again):
        found = made.take(order)
        assert torch.equal(found.x, wanted.x)
        assert torch.equal(found.gene_ids, wanted.gene_ids)
    assert (from_memory.n_computed, first.n_computed, again.n_computed) == (120, 120, 0)


def test_fine_tuning_is_the_same_with_and_without_a_cache(tmp_path: Path) -> None:
    kept = QUICK.changed(epochs=3, cache=str(tmp_path))
    without, first, again = logits(kept.changed(cache="")), logits(kept), logits(kept)
    assert (without[0] == first[0]).all()
    assert (without[0] == again[0]).all()
    assert (first[1], again[1]) == (120, 0)
    assert len(set(without[0])) == 3


def test_another_encoder_layer_or_number_type_is_another_file(tmp_path: Path) -> None:
    for change in ({}, {"seed": 2}, {"n_frozen": 1}, {"dtype": torch.bfloat16}, {"token_budget": 100}):
        made = states(tmp_path, **change)
        made.take(ROWS[:3])
        assert made.n_computed == 120
    assert len(list(tmp_path.glob("*.states"))) == 5


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_computed_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = states(tmp_path).take(ROWS[:9])
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"flipped": content, "cut": content[:-40], "empty": b""}[damage])
    again = states(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(again.take(ROWS[:9]).x, wanted.x)
    assert again.n_computed == 120
    assert f"{path}: damaged; it is computed again" in caplog.text
    assert states(tmp_path).take(ROWS[:9]).x.equal(wanted.x)


def ones(place: Tensor) -> None:
    place.fill_(1)


def never(place: Tensor) -> None:
    raise AssertionError("computed again")


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    cache, size = StateCache(tmp_path, 1), int(0.3 * MIB)
    for age, key in enumerate("abc"):
        cache.get(key, size, ones)
        os.utime(tmp_path / f"{key}.states", (age, age))
    mapped = cache.get("a", size, never)  # now "b" is the oldest
    cache.get("d", size, ones)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]
    b = cache.get("b", size, ones)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= MIB
    assert b is not None
    assert mapped is not None
    cache.get("e", int(0.9 * MIB), ones)  # all others go; what was mapped stays readable
    assert [path.stem for path in tmp_path.iterdir()] == ["e"]
    assert int(mapped.sum()) == size


def test_what_is_larger_than_the_folder_may_be_is_not_kept(tmp_path: Path) -> None:
    assert StateCache(tmp_path, 1).get("key", 2 * MIB, never) is None
    assert not list(tmp_path.iterdir())
    made = FrozenStates(embedder(), planted()[0], 2, Store(folder=str(tmp_path), folder_mib=0))
    assert torch.equal(made.take(ROWS).x, states(None).take(ROWS).x)


def test_a_failure_while_computing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        StateCache(tmp_path, 1).get("key", 100, never)
    assert not list(tmp_path.iterdir())


def test_parts_of_a_dead_process_go_after_a_day(tmp_path: Path) -> None:
    for name, age in (("old", 1.0), ("new", None)):
        part = tmp_path / f".partial-{name}.states"
        part.write_bytes(bytes(MIB))
        if age is not None:
            os.utime(part, (age, age))
    StateCache(tmp_path, 1).get("key", 100, ones)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-new.states", "key.states"]


def test_processes_that_write_the_same_at_once(tmp_path: Path) -> None:
    both = multiprocessing.get_context("fork")
    filling = both.Barrier(2)

    def get() -> None:
        def fill(place: Tensor) -> None:
            filling.wait(60)
            place.fill_(7)

        found = StateCache(tmp_path, 1).get("key", 100_000, fill)
        assert found is not None
        assert bytes(found.numpy()) == bytes([7]) * 100_000

    started = [both.Process(target=get) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["key.states"]


def test_states_that_memory_does_not_hold_are_read_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits in either number type, no file with a name, and each cell computed once."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    order = np.random.default_rng(0).permutation(ROWS)[:50]
    for dtype in (torch.float32, torch.bfloat16):
        wanted = states(None, dtype=dtype).take(order)
        made = states(None, dtype=dtype, limit_mib=0, spill_mib=100)
        made.expect(order)
        for _ in range(2):
            found = made.take(order)
            made.expect(order)
            assert torch.equal(found.x, wanted.x)
            assert torch.equal(found.gene_ids, wanted.gene_ids)
        assert made.n_computed == 120
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spill_mib", "free", "in_memory", "reason"),
    [
        (0, 2**40, False, "store_mib is 0, spill_mib 0"),
        (100, 2**30, False, "has 1 GiB; set TMPDIR to a larger disk"),
        (100, 2**40, True, "is in memory; set TMPDIR to a folder on a disk"),
    ],
)
def test_what_cannot_be_kept_is_said_with_its_cost(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spill_mib: int,
    free: int,
    in_memory: bool,
    reason: str,
) -> None:
    monkeypatch.setattr("celllm.training.frozen.is_in_memory", lambda _: in_memory)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    caplog.set_level(logging.WARNING)
    made = states(None, limit_mib=0, spill_mib=spill_mib)
    assert torch.allclose(made.take(ROWS[:3]).x, states(None).take(ROWS[:3]).x, atol=1e-5)
    [said] = caplog.messages
    assert reason in said
    assert "2 layers run again for each cell in each epoch, which takes some" in said


def test_the_number_type_depends_on_the_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers must not depend on the room that a machine has."""
    assert states(None).dtype == states(None, limit_mib=0, spill_mib=5).dtype == torch.float32
    monkeypatch.setattr("celllm.training.frozen.FLOAT32_MIB", 0)
    kept, spilled, neither = (
        states(None, **room) for room in ({}, {"limit_mib": 0, "spill_mib": 50}, {"limit_mib": 0})
    )
    assert kept.dtype == spilled.dtype == neither.dtype == torch.bfloat16
    assert torch.equal(kept.take(ROWS).x, spilled.take(ROWS).x)
    assert (kept.take(ROWS).x - neither.take(ROWS).x).abs().max() < 0.05
