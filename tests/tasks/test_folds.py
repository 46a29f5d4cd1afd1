import json
from pathlib import Path

import numpy as np
import pytest

from celllm.corpus.splits import Fold, Parts, Splits, read_splits, write_splits
from celllm.errors import UserError
from celllm.tasks.folds import LeakError, Offer, offer, places, refuse_leak, saved_splits

FOLD = Parts(np.arange(0, 6), np.arange(6, 8), np.arange(8, 10))


def test_strict_chooses_on_the_validation_part() -> None:
    offered = offer(FOLD, "strict", chooses=True)
    assert offered.train.tolist() == [0, 1, 2, 3, 4, 5]
    assert offered.selection is not None
    assert offered.selection.tolist() == [6, 7]


def test_paper_chooses_on_the_test_part_and_learns_from_the_rest() -> None:
    offered = offer(FOLD, "paper", chooses=True)
    assert offered.train.tolist() == list(range(8))
    assert offered.selection is not None
    assert offered.selection.tolist() == [8, 9]


@pytest.mark.parametrize("protocol", ["strict", "paper"])
def test_what_chooses_nothing_learns_from_training_and_validation_part(protocol: str) -> None:
    offered = offer(FOLD, protocol, chooses=False)
    assert offered.train.tolist() == list(range(8))
    assert offered.selection is None


@pytest.mark.parametrize(
    ("protocol", "offered", "purpose"),
    [
        ("strict", Offer(np.arange(9), None), "learn from"),
        ("paper", Offer(np.arange(9), FOLD.test), "learn from"),
        ("strict", Offer(FOLD.train, np.array([6, 9])), "choose on"),
    ],
)
def test_a_planted_leak_is_refused(protocol: str, offered: Offer, purpose: str) -> None:
    with pytest.raises(LeakError, match=f"1 test cells among those to {purpose} under '{protocol}'"):
        refuse_leak(FOLD, protocol, offered)


@pytest.mark.parametrize("protocol", ["strict", "paper"])
@pytest.mark.parametrize("chooses", [True, False])
def test_what_is_offered_is_no_leak(protocol: str, chooses: bool) -> None:
    refuse_leak(FOLD, protocol, offer(FOLD, protocol, chooses))


def saved(tmp_path: Path, fold: Fold) -> Path:
    path = tmp_path / "splits.json"
    write_splits(path, Splits("baron", "annotation", 0, (fold,)))
    return path


def test_folds_are_places_in_the_file_of_cells(tmp_path: Path) -> None:
    path = saved(tmp_path, Fold(("a", "d"), ("c",), ("b",)))
    ((name, splits),) = saved_splits([path], "baron").items()
    assert (name, splits.task) == (str(path), "annotation")
    (fold,) = places(name, splits, ["d", "c", "b", "a"])
    assert [part.tolist() for part in fold] == [[0, 3], [1], [2]]


def test_a_cell_in_two_parts_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path, Fold(("a", "d"), ("b",), ("b",)))
    with pytest.raises(UserError, match="fold 0 has the cell 'b' in two parts"):
        places(path, read_splits(path), ["d", "b", "a"])


def test_splits_of_another_data_set_are_told(tmp_path: Path) -> None:
    path = saved(tmp_path, Fold(("a",), ("b",), ("c",)))
    with pytest.raises(UserError, match="splits of 'baron', expected those of 'zheng68k'"):
        saved_splits([path], "zheng68k")


def test_a_fold_edited_by_hand_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path, Fold(("a", "d"), ("b",), ("c",)))
    content = json.loads(path.read_text())
    content["folds"][0]["train"].append("c")
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="changed after they were drawn"):
        saved_splits([path], "baron")
