"""Cells as a reader returns them: the numbers and names of the source, nothing changed yet."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from celllm.cells.values import Kind, value_problem
from celllm.errors import UserError
from celllm.sources.delimited import AGAIN, MISSING, first_repeat
from celllm.sources.lock import verified

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

ENOUGH = 50
"""Cells from which on their labels must be fewer."""


@dataclass
class RawCells:
    """The content of a source: cells x genes, CSR float32.

    ``genes`` names the columns as the source has them, and may repeat; ``obs`` has one row per cell, indexed
    by cell id: ``sample``, ``label`` and whatever else the source provides. ``values`` are linear, for those
    of one gene are summed; with ``take_log`` the prepared data set holds log2(value + 1). ``fractions``:
    counts may be some. ``report`` has numbers for the log, such as cells passed over.
    """

    matrix: "csr_matrix"
    genes: list[str]
    obs: "pd.DataFrame"
    values: Kind = "counts"
    take_log: bool = False
    fractions: bool = False
    report: dict[str, int | str] = field(default_factory=dict)

    def check(self, where: str | Path) -> None:
        """Refuse repeated cell ids, missing labels and values of another kind; ``where`` names the file."""
        if self.matrix.shape != (len(self.obs), len(self.genes)):
            shape, named = self.matrix.shape, (len(self.obs), len(self.genes))
            raise UserError(f"{where}: a matrix of {shape} for (cells, genes) = {named}")
        if (cell := first_repeat(self.obs.index)) is not None:
            raise UserError(f"{where}: the cell '{cell}' occurs twice; cell ids must be unique")
        if "label" in self.obs:
            check_labels(self.obs["label"], where)
            warn_of_missing_words(self.obs["label"], where)
        problem = value_problem(self.matrix, self.values, self.fractions, list(self.obs.index), self.genes)
        if problem:
            raise UserError(f"{where}: {problem}")
        if self.values == "tpm" and len(self.obs):
            sums = np.asarray(self.matrix.sum(axis=1, dtype=np.float64)).ravel()
            usual = float(np.median(sums))
            off = np.abs(sums - usual) > 1e-4 * usual
            if off.any() and off.mean() < 0.1:  # where most cells have one sum, one of another is damaged
                cell = self.obs.index[int(np.argmax(off))]
                raise UserError(
                    f"{where}: the values of cell '{cell}' sum to {sums[np.argmax(off)]:,.0f}, "
                    f"those of most others to {usual:,.0f}; {AGAIN}"
                )


def category_names(column: "pd.Series[Any]") -> list[str | None]:
    """Labels or samples as text: without spaces around, whole numbers without ``.0``, None if missing."""
    texts = [f"{v:.0f}" if isinstance(v, float) and v.is_integer() else str(v).strip() for v in column]
    return [None if missing else text or None for text, missing in zip(texts, column.isna(), strict=True)]


def check_labels(labels: "pd.Series[Any]", where: str | Path) -> None:
    """Refuse missing labels, two spellings of one, and what is no class but a number or name of each cell."""
    names = category_names(labels)
    if n_missing := names.count(None):
        example = labels.index[names.index(None)]
        raise UserError(f"{where}: {n_missing} of {len(labels)} cells have no label, e.g. '{example}'")
    spellings: dict[str, str] = {}
    for name in labels.astype(str).unique():
        other = spellings.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            raise UserError(
                f"{where}: the labels '{other}' and '{name}' differ only in capitals or spaces; make them one"
            )
    if len(labels) >= ENOUGH and (n_labels := labels.nunique()) > len(labels) / 2:
        raise UserError(
            f"{where}: {n_labels} different labels for {len(labels)} cells, e.g. '{labels.iloc[0]}'; "
            "is it another column?"
        )


def warn_of_missing_words(labels: "pd.Series[Any]", where: str | Path) -> None:
    """``NA`` and the like may be the name of a class; the log says that they are taken for one."""
    for word, n_cells in labels.value_counts().items():
        if str(word).lower() in (*MISSING, "<na>"):
            log.warning("%s: %d cells have the label '%s'; it is taken as a class", where, n_cells, word)


def check_files(
    source: str, files: Mapping[str, Path], needed: Collection[str], optional: Collection[str] = ()
) -> None:
    """Refuse a missing, unknown, absent or changed file of a data set."""
    for name in needed:
        if name not in files:
            raise UserError(
                f"{source}: the file '{name}' is missing; give {', '.join(f'{n}=PATH' for n in needed)}"
            )
    for name, path in files.items():
        if name not in (*needed, *optional):
            raise UserError(f"{source}: unknown file '{name}'; allowed are {', '.join((*needed, *optional))}")
        verified(path, f"the file '{name}' of {source}")
