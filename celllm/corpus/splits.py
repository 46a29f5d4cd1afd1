"""Which cells train, choose and test: drawn once, saved with their hash, shared by all models of a task.

A split never depends on the order of a file: rows are sorted by name before anything is drawn.
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from celllm.errors import UserError
from celllm.io import read_json, write_text

log = logging.getLogger(__name__)

Rows = NDArray[np.int64]


class Parts(NamedTuple):
    """Row numbers of the three parts of one split, each sorted; no row is in two of them."""

    train: Rows
    validation: Rows
    test: Rows


class Fold(NamedTuple):
    """Names (cell ids) of the three parts of one split."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """The splits of one data set for one task, as in their file."""

    data_set: str
    task: str
    seed: int
    folds: tuple[Fold, ...]


def warn_of_rare(labels: Sequence[str], n_folds: int, where: str) -> None:
    """Name the classes with fewer cells than folds: in some folds they have nothing to test or to learn."""
    names, sizes = np.unique(np.asarray(labels, dtype=str), return_counts=True)
    rare = [f"{name} ({size})" for name, size in zip(names, sizes, strict=True) if size < n_folds]
    if rare:
        log.warning("%s: classes with fewer cells than the %d folds: %s", where, n_folds, ", ".join(rare))


def stratified_folds(
    ids: Sequence[str], labels: Sequence[str], n_folds: int, seed: int, validation_fraction: float = 0.1
) -> list[Parts]:
    """K-fold cross-validation, stratified by label.

    Every row is in the test part of exactly one fold. A class with fewer cells than folds is spread over as
    many folds as it has cells. A class of one cell is tested in one fold, where no training cell has its
    label: nothing can get it right, and the score says so.

    ``ids`` are distinct names of the rows and fix the order in which they are drawn; the validation part is a
    stratified fraction of the training side. :class:`UserError` when a name occurs twice, or no class has as
    many cells as there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    order, sorted_labels = _sorted(ids, labels)
    largest = np.unique(sorted_labels, return_counts=True)[1].max(initial=0)
    if largest < n_folds:
        raise UserError(f"the largest class has {largest} cells, too few for {n_folds} folds; lower n_folds")
    with warnings.catch_warnings():
        # Rare classes have been reported by name.
        warnings.filterwarnings("ignore", message="The least populated class")
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        sides = list(splitter.split(sorted_labels, sorted_labels))
    folds = []
    for number, (side, test) in enumerate(sides):
        rng = np.random.default_rng([seed, number])
        train, validation = _train_and_validation(side, sorted_labels, validation_fraction, rng)
        folds.append(_in_file_order(order, train, validation, test))
    return folds


def stratified_fractions(
    ids: Sequence[str],
    labels: Sequence[str],
    fraction: float,
    seeds: Iterable[int],
    validation_fraction: float = 0.1,
) -> list[Parts]:
    """Stratified draws of a training side, one per seed; all other rows are tested.

    ``fraction`` is the size of the training side, validation included: 0.8 ("full") or 0.05 ("few-shot") in
    the paper. Every class with two cells there keeps one to train on when the validation part is taken.
    :class:`UserError` when a name occurs twice, or the training side or the test part lacks a class.
    """
    order, sorted_labels = _sorted(ids, labels)
    splits = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        test, side = _cut(np.arange(len(order)), sorted_labels, fraction, rng)
        for part, rows in (("training", side), ("test", test)):
            absent = sorted(set(sorted_labels) - set(sorted_labels[rows]))
            if absent:
                raise UserError(f"train_fraction {fraction}: no {part} cell of class '{absent[0]}' is left")
        train, validation = _train_and_validation(side, sorted_labels, validation_fraction, rng)
        splits.append(_in_file_order(order, train, validation, test))
    return splits


def pair_folds(
    lines: Sequence[str],
    drugs: Sequence[str],
    kind: Literal["warm", "cold"],
    n_repeats: int,
    seed: int,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    keep_repeats_together: bool = True,
) -> list[Parts]:
    """Repeated random splits of (cell line, drug) pairs, as row numbers, into 80 % training, 10 %, 10 %.

    ``warm``: pairs are drawn; ``cold``: cell lines are, so that those tested were never seen. Draws are
    independent, the first from ``seed``, the next from ``seed + 1`` ... With ``keep_repeats_together`` the
    repeated measurements of a pair fall into one part of a warm split. Without, as in the paper, the answer
    to a test pair can stand in the training part.
    """
    if kind not in ("warm", "cold"):
        raise UserError(f"kind of split: expected warm or cold, got '{kind}'")
    groups = _groups(lines, drugs, kind, keep_repeats_together)
    n_groups = int(groups.max(initial=-1)) + 1
    sizes = _seats(np.array(fractions), n_groups)
    if n_groups < 3 or not all(sizes):
        raise UserError(f"{kind} split: {n_groups} groups are too few for three parts of {fractions}")
    splits = []
    for repeat in range(n_repeats):
        part_of_group = np.random.default_rng(seed + repeat).permutation(np.repeat(np.arange(3), sizes))
        part_of = part_of_group[groups]
        splits.append(Parts(*(np.flatnonzero(part_of == part) for part in range(3))))
    return splits


def _groups(lines: Sequence[str], drugs: Sequence[str], kind: str, keep_repeats_together: bool) -> Rows:
    """Number of the group of each pair, in the order of the groups' names; a group is never cut."""
    if kind == "cold":
        names = list(lines)
    else:
        pairs = list(zip(lines, drugs, strict=True))
        names = [f"{line}\t{drug}" for line, drug in pairs]
    if kind == "warm" and not keep_repeats_together:
        seen: dict[str, int] = {}
        for i, name in enumerate(names):
            seen[name] = seen.get(name, -1) + 1
            names[i] = f"{name}\t{seen[name]}"
    return np.unique(np.asarray(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def group_folds(
    ids: Sequence[str],
    groups: Sequence[str],
    labels: Sequence[str],
    n_folds: int | None,
    seed: int,
    validation_fraction: float = 0.1,
    validation: Literal["rows", "groups"] = "rows",
) -> list[Parts]:
    """Cross-validation over whole groups: no group of a test part is in the training side of its fold.

    ``ids`` are distinct names of the rows and fix the order in which they are drawn. Folds have about as many
    rows each: the largest groups are dealt out first, those of equal size in an order by the seed; without
    ``n_folds`` each group is one. The validation part is, of ``rows``, a fraction stratified by label from
    all training groups; of ``groups``, whole groups until they have that many rows, one at least staying to
    train on. :class:`UserError` when a name occurs twice, or there are fewer groups than folds, or than the
    parts of a fold.
    """
    order, sorted_labels = _sorted(ids, labels)
    names, group_of, sizes = np.unique(
        np.asarray(groups, dtype=str)[order], return_inverse=True, return_counts=True
    )
    n_folds, least = n_folds or len(names), 3 if validation == "groups" else 2
    if len(names) < max(n_folds, least):
        raise UserError(
            f"{len(names)} groups ({', '.join(names[:5])}) are too few to hold some out: expected "
            f"{max(n_folds, least)} at least"
        )
    by_size = np.random.default_rng(seed).permutation(len(names))
    by_size = by_size[np.argsort(-sizes[by_size], kind="stable")]
    fold_of_group, n_rows = np.empty(len(names), dtype=np.int64), np.zeros(n_folds, dtype=np.int64)
    for group in by_size:
        fold_of_group[group] = n_rows.argmin()
        n_rows[fold_of_group[group]] += sizes[group]
    folds = []
    for number in range(n_folds):
        rng = np.random.default_rng([seed, number])
        in_test = fold_of_group[group_of] == number
        side, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
        if validation == "rows":
            train, chosen_on = _train_and_validation(side, sorted_labels, validation_fraction, rng)
        else:
            drawn = rng.permutation(np.unique(group_of[side]))
            before = np.concatenate([[0], np.cumsum(sizes[drawn])[:-1]])
            held_out = np.isin(group_of[side], drawn[:-1][before[:-1] < validation_fraction * len(side)])
            train, chosen_on = side[~held_out], side[held_out]
        folds.append(_in_file_order(order, train, chosen_on, test))
    return folds


def _sorted(ids: Sequence[str], labels: Sequence[str]) -> tuple[Rows, NDArray[Any]]:
    """Row numbers in the order of the names, and the labels in that order."""
    names = np.asarray(ids, dtype=str)
    if len(names) != len(labels):
        raise ValueError(f"{len(names)} names and {len(labels)} labels")
    order = np.argsort(names, kind="stable")
    repeated = np.flatnonzero(names[order][1:] == names[order][:-1])
    if len(repeated):
        raise UserError(f"the cell id '{names[order][repeated[0]]}' occurs twice; cell ids must be unique")
    return order, np.asarray(labels, dtype=str)[order]


def _train_and_validation(
    side: Rows, labels: NDArray[Any], fraction: float, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    train, validation = _cut(side, labels, fraction, rng)
    if not len(validation):
        raise UserError(f"{len(side)} training cells, one per class, are too few for a validation part")
    return train, validation


def _cut(rows: Rows, labels: NDArray[Any], fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Take a stratified ``fraction`` out of ``rows``; returns what stays and what was taken.

    The number taken is the fraction of all rows, rounded; classes get seats in proportion, largest remainder
    first, and keep at least one row.
    """
    classes, class_of = np.unique(labels[rows], return_inverse=True)
    sizes = np.bincount(class_of, minlength=len(classes))
    n_taken = min(max(1, round(fraction * len(rows))), int((sizes - 1).sum()))
    seats = _seats(sizes / sizes.sum(), n_taken, sizes - 1)
    taken = np.zeros(len(rows), dtype=bool)
    for number, n in enumerate(seats):
        taken[rng.permutation(np.flatnonzero(class_of == number))[:n]] = True
    return rows[~taken], rows[taken]


def _seats(shares: NDArray[np.float64], n: int, most: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Whole numbers that add up to ``n``, in proportion to ``shares``, none above ``most``."""
    ideal = shares * n / shares.sum()
    limit = np.full(len(shares), n) if most is None else most
    seats = np.minimum(np.floor(ideal + 1e-9).astype(np.int64), limit)
    while seats.sum() < n:
        wanting = np.where(seats < limit, ideal - seats, -np.inf)
        seats[np.argmax(wanting)] += 1
    return seats


def _in_file_order(order: Rows, train: Rows, validation: Rows, test: Rows) -> Parts:
    """From places in the sorted order to row numbers of the file."""
    return Parts(*(np.sort(order[part]) for part in (train, validation, test)))


def named(parts: Parts, ids: Sequence[str]) -> Fold:
    """Names in place of row numbers, sorted."""
    return Fold(*(tuple(sorted(ids[row] for row in part)) for part in parts))


def rows_of(fold: Fold, ids: Sequence[str]) -> Parts:
    """Row numbers in place of names, for a file whose rows are called ``ids``."""
    place = {name: row for row, name in enumerate(ids)}
    return Parts(*(np.sort(np.array([place[name] for name in part], dtype=np.int64)) for part in fold))


def write_splits(path: str | Path, splits: Splits) -> None:
    """Write splits as JSON with the hash of the cells and of the folds; every list of cells is one line."""
    folds = [{name: list(part) for name, part in fold._asdict().items()} for fold in splits.folds]
    cells = {name for fold in splits.folds for part in fold for name in part}
    head: dict[str, Any] = {
        "data_set": splits.data_set,
        "task": splits.task,
        "seed": splits.seed,
        "n_folds": len(folds),
        "cells_sha256": cells_sha256(cells),
        "sha256": _folds_sha256(folds),
    }
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in head.items()]
    texts = [
        ",\n     ".join(
            f"{json.dumps(name)}: {json.dumps(part, ensure_ascii=False)}" for name, part in fold.items()
        )
        for fold in folds
    ]
    body = ",\n".join(f"    {{{text}}}" for text in texts)
    write_text(path, "\n".join(["{", *lines, '  "folds": [', body, "  ]", "}"]) + "\n")


def cells_sha256(ids: Iterable[str]) -> str:
    """Hash of a set of cell ids, whatever their order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _folds_sha256(folds: Sequence[Mapping[str, Any]]) -> str:
    """Hash of the canonical JSON of the folds: keys sorted, no spaces."""
    text = json.dumps(folds, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_splits(path: str | Path, cell_ids: Collection[str] | None = None) -> Splits:
    """Read saved splits and hold them to their hash and, where given, to all cells of the data set.

    A file that is no splits file, was edited, names a cell that is not there or leaves one out is a
    :class:`UserError`.
    """
    content = read_json(path)
    try:
        folds = tuple(Fold(*(tuple(fold[name]) for name in Parts._fields)) for fold in content["folds"])
        splits = Splits(content["data_set"], content["task"], content["seed"], folds)
        expected = content["sha256"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a file of splits ({error}); make it with `celllm splits`") from error
    if expected != _folds_sha256(content["folds"]):
        raise UserError(
            f"{path}: the folds were changed after they were drawn; make them with `celllm splits`"
        )
    if cell_ids is not None:
        check_cells(path, splits, cell_ids)
    return splits


def check_cells(path: str | Path, splits: Splits, cell_ids: Collection[str]) -> None:
    """Refuse splits, read from ``path``, of other cells than those of the data set."""
    known = set(cell_ids)
    used = {name for fold in splits.folds for part in fold for name in part}
    again = "make the splits again with `celllm splits`"
    unknown = sorted(used - known)
    if unknown:
        raise UserError(
            f"{path}: the cell '{unknown[0]}' is not in the data set ({len(unknown)} are not); {again}"
        )
    if len(used) < len(known):
        raise UserError(f"{path}: drawn for {len(used)} cells, the data set has {len(known)}; {again}")
