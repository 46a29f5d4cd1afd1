import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.training.conftest import run_pretrain
from tests.training.test_pretrain import Arguments, Pretrained, read


def test_events_hold_the_metrics(pretrained: Pretrained) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = pretrained(max_steps=3)
    events = accumulators.EventAccumulator(str(Path(made["checkpoints"]) / "events"))
    events.Reload()
    rows = read(made["metrics"])
    for tag, column in (("loss/loss", "loss"), ("loss/contrast", "contrast"), ("run/n_tokens", "n_tokens")):
        found = events.Scalars(tag)
        assert [event.step for event in found] == [1, 2, 3]
        assert [event.value for event in found] == pytest.approx([float(row[column]) for row in rows])
    assert Counter(tag.split("/")[0] for tag in events.Tags()["scalars"])["loss"] == 4


def test_steps_that_come_again_stand_once(pretrained: Pretrained, arguments: Arguments) -> None:
    """As if killed after step 6 with step 4 as the last checkpoint."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    made = pretrained(checkpoint_steps=4)
    checkpoints = Path(made["checkpoints"])
    (checkpoints / "step-000000006.safetensors").unlink()
    assert run_pretrain(**arguments()) == 0
    events = accumulators.EventAccumulator(str(checkpoints / "events"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/loss")] == [1, 2, 3, 4, 5, 6]


def test_a_new_training_in_the_folder_has_its_own_events(pretrained: Pretrained) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pretrained(max_steps=3)
    made = pretrained(max_steps=2, learning_rate=5e-4)
    events = accumulators.EventAccumulator(str(Path(made["checkpoints"]) / "events"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/loss")] == [1, 2]
    assert len(list((Path(made["checkpoints"]) / "events").iterdir())) == 1


def test_without_tensorboard_nothing_is_missing(
    pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    made = pretrained(max_steps=2)
    assert not (Path(made["checkpoints"]) / "events").exists()
    assert len(read(made["metrics"])) == 2
