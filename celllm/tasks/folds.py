"""Which cells a method may see, and when: the two protocols, and the guard of ``strict``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from celllm.corpus.splits import Parts, Rows, Splits, check_cells, read_splits, rows_of
from celllm.errors import UserError
from celllm.tasks.task import TASKS, task_of


class LeakError(AssertionError):
    """Test cells in what a method learns from or chooses on: a fault of this program, never a failed fold."""


@dataclass(frozen=True)
class Offer:
    """What a method is fitted with: cells to learn from, and labelled cells to choose on (or none)."""

    train: Rows
    selection: Rows | None

    def equals(self, other: "Offer") -> bool:
        """Whether a method that is given the other one learns the same."""
        if self.selection is None or other.selection is None:
            return self.selection is other.selection and np.array_equal(self.train, other.train)
        return np.array_equal(self.train, other.train) and np.array_equal(self.selection, other.selection)


def offer(fold: Parts, protocol: str, chooses: bool) -> Offer:
    """The cells of a fold that a method is fitted with under a protocol.

    ``strict``: it learns from the training part and chooses on the validation part. ``paper``, as the
    authors' released code: it learns from both and chooses on the test part, which is the one reported. A
    method that chooses nothing learns from training and validation part under both.
    """
    both = np.concatenate([fold.train, fold.validation])
    if not chooses:
        return Offer(both, None)
    return Offer(fold.train, fold.validation) if protocol == "strict" else Offer(both, fold.test)


def refuse_leak(fold: Parts, protocol: str, offered: Offer) -> None:
    """Hold an offer against its protocol.

    Raises
    ------
    LeakError
        When a test cell is learned from, or chosen on under ``strict``.
    """
    parts = {"learn from": offered.train}
    if protocol == "strict" and offered.selection is not None:
        parts["choose on"] = offered.selection
    for purpose, rows in parts.items():
        n_leaked = len(np.intersect1d(rows, fold.test))
        if n_leaked:
            raise LeakError(f"{n_leaked} test cells among those to {purpose} under '{protocol}'")


def saved_splits(paths: Sequence[str | Path], data_set: str) -> dict[str, Splits]:
    """Read files of splits, by the file; the first decides which task all of them are for.

    Raises
    ------
    UserError
        For splits of another data set or another task, and for two files of one name.
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

    Raises
    ------
    UserError
        For splits of other cells, and for a cell that is in two parts of a fold.
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
