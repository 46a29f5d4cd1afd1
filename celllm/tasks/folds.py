"""Which cells a method may see, and when: the two protocols, and the guard of ``strict``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from celllm.corpus.splits import Parts, Rows, read_splits, rows_of
from celllm.errors import UserError


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


def read_tasks(
    paths: Sequence[str | Path], data_set: str, ids: Sequence[str], tasks: Sequence[str]
) -> dict[str, list[Parts]]:
    """Read the saved splits of some tasks of a data set, as places in ``ids``, by the task.

    Raises
    ------
    UserError
        For splits of other cells, another data set or another task, for two files of one task, and for a cell
        that is in two parts of a fold.
    """
    found: dict[str, list[Parts]] = {}
    for path in paths:
        task, folds = read_folds(path, data_set, ids)
        if task not in tasks:
            raise UserError(f"{path}: splits for the task '{task}', expected those for {' or '.join(tasks)}")
        if task in found:
            raise UserError(f"{path}: a second file of splits for the task '{task}'; give one for each task")
        found[task] = folds
    return found


def read_folds(path: str | Path, data_set: str, ids: Sequence[str]) -> tuple[str, list[Parts]]:
    """Read one file of splits, as :func:`read_tasks` does: its task, and the folds as places in ``ids``."""
    splits = read_splits(path, ids)
    if splits.data_set != data_set:
        raise UserError(f"{path}: splits of '{splits.data_set}', expected those of '{data_set}'")
    folds = [rows_of(fold, ids) for fold in splits.folds]
    for number, fold in enumerate(folds):
        rows, times = np.unique(np.concatenate(fold), return_counts=True)
        if times.max(initial=1) > 1:
            cell = ids[rows[times.argmax()]]
            raise UserError(
                f"{path}: fold {number} has the cell '{cell}' in two parts; draw the splits again"
            )
    return splits.task, folds
