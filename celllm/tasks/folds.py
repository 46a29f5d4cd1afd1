"""Saved splits, read for a task as places among its rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from celllm.corpus.splits import Parts, Splits, check_cells, read_splits, rows_of
from celllm.errors import UserError
from celllm.tasks.task import TASKS, task_of


def saved_splits(paths: Sequence[str | Path], data_set: str) -> dict[str, Splits]:
    """Read files of splits, by the file; the first decides which task all of them are for.

    Raises :class:`UserError` for splits of another data set or another task, and for two files of one name.
    """
    found: dict[str, Splits] = {}
    for path in map(str, paths):
        splits = read_splits(path)
        name, before = splits.task, [other.task for other in found.values()]
        if splits.data_set != data_set:
            raise UserError(f"{path}: splits of '{splits.data_set}', expected those of '{data_set}'")
        if name in before:
            raise UserError(f"{path}: a second file of splits for the task '{name}'; give one for each task")
        kind = task_of(name, path)
        if before and kind is not task_of(before[0]):
            expected = " or ".join(other for other in TASKS if TASKS[other] == TASKS[before[0]])
            raise UserError(f"{path}: splits for the task '{name}', expected those for {expected}")
        found[path] = splits
    if not found:
        raise UserError("splits: no file; give one that `celllm splits` wrote")
    return found


def places(path: str | Path, splits: Splits, ids: Sequence[str]) -> list[Parts]:
    """Folds of splits, read from ``path``, as places in ``ids``.

    Raises :class:`UserError` for splits of other cells, and for a cell that is in two parts of a fold.
    """
    check_cells(path, splits, ids)
    folds = [rows_of(fold, ids) for fold in splits.folds]
    for number, fold in enumerate(folds):
        rows, times = np.unique(np.concatenate(fold), return_counts=True)
        if times.max(initial=1) > 1:
            cell = ids[rows[times.argmax()]]
            raise UserError(
                f"{path}: fold {number} has the cell '{cell}' in two parts; draw the splits again"
            )
    return folds
