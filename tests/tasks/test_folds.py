import json
from pathlib import Path

import pytest

from celllm.corpus.splits import Fold, Splits, read_splits, write_splits
from celllm.errors import UserError
from celllm.tasks.folds import places, saved_splits


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
