"""GSE149383: erlotinib on PC9 lung cancer cells, as scDEAL's prepared pair of tables.

A CSV of whole UMI counts, genes x cells, and a table without a header: cell id, ``erl`` or ``erlres``, UMI
count, label. Aissa et al. 2021, Nature Communications 12:1628; Chen et al. 2022, Nature Communications
13:6494.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from scipy.sparse import csr_matrix

from celllm.cells.raw import RawCells, check_labels
from celllm.cells.settings import CellOptions as Options
from celllm.errors import UserError
from celllm.sources import delimited

FILES = ("matrix", "labels")
OPTIONAL_FILES = ()
LABELS = ("resistant", "sensitive")


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells, labels joined by cell id."""
    table = delimited.read_numbers(files["matrix"], ",")
    groups = _groups(files["labels"])
    obs = pd.DataFrame(index=pd.Index(table.columns, dtype=object))
    obs["sample"] = [groups.get(cell, ("", None))[0] for cell in table.columns]
    obs["label"] = [groups.get(cell, ("", None))[1] for cell in table.columns]
    check_labels(obs["label"], files["labels"])
    report: dict[str, int | str] = {"n_labels_without_cell": len(set(groups) - set(table.columns))}
    return RawCells(csr_matrix(table.matrix.T), table.row_names, obs, report=report)


def _groups(path: Path) -> dict[str, tuple[str, str]]:
    """Group and label of each cell; as in scDEAL a group with ``res`` in its name is resistant."""
    groups: dict[str, tuple[str, str]] = {}
    for row in delimited.rows(path, ("cell", "group", "n_counts", "label"), ",", header=False):
        cell, group, label = row["cell"], row["group"], row["label"]
        if label not in LABELS or ("res" in group) != (label == "resistant"):
            raise UserError(
                f"{row.where}: the group '{group}' and the label '{label}' do not go together; "
                "expected erl, sensitive or erlres, resistant"
            )
        if cell in groups:
            raise UserError(f"{path}: the cell '{cell}' occurs twice")
        groups[cell] = (group, label)
    return groups
