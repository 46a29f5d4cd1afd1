"""GSE149383: erlotinib on PC9 lung cancer cells, as scDEAL's prepared pair of tables.

A CSV of whole UMI counts, genes x cells, and a table without a header: cell id, ``erl`` or ``erlres``, UMI
count, label. Aissa et al. 2021, Nature Communications 12:1628; Chen et al. 2022, Nature Communications
13:6494.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from celllm.cells.raw import RawCells, check_labels
from celllm.cells.settings import CellOptions as Options
from celllm.errors import UserError
from celllm.sources import delimited

FILES = ("matrix", "labels")
OPTIONAL_FILES = ()
LABEL_OF = {"erl": "sensitive", "erlres": "resistant"}


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells, labels joined by cell id."""
    table = delimited.read_numbers(files["matrix"], ",")
    path = files["labels"]
    groups: dict[str, tuple[str, str]] = {}
    for row in delimited.rows(path, ("cell", "group", "n_counts", "label"), ",", header=False):
        cell, group, label = row["cell"], row["group"], row["label"]
        if LABEL_OF.get(group) != label:
            raise UserError(
                f"{row.where}: the group '{group}' and the label '{label}' do not go together; "
                "expected erl, sensitive or erlres, resistant"
            )
        if cell in groups:
            raise UserError(f"{path}: the cell '{cell}' occurs twice")
        groups[cell] = (group, row["n_counts"])
    totals = np.asarray(table.matrix.sum(axis=0, dtype=np.float64)).ravel()
    said = [groups.get(cell, ("", ""))[1] for cell in table.columns]
    wrong = [i for i, total in enumerate(totals) if said[i] != f"{total:.0f}"]
    # Where the totals in the table of labels are those of most cells, they are those of all.
    if wrong and len(wrong) < len(said) / 2:
        cell, total = table.columns[wrong[0]], totals[wrong[0]]
        raise UserError(
            f"{files['matrix']}: the counts of cell '{cell}' sum to {total:.0f}, but {path} says "
            f"{said[wrong[0]] or 'nothing'}, and those of most others agree; {delimited.AGAIN}"
        )
    obs = pd.DataFrame(index=pd.Index(table.columns, dtype=object))
    obs["sample"] = [groups.get(cell, ("", ""))[0] for cell in table.columns]
    obs["label"] = [LABEL_OF.get(group) for group in obs["sample"]]
    check_labels(obs["label"], path)
    report: dict[str, int | str] = {"n_labels_without_cell": len(set(groups) - set(table.columns))}
    return RawCells(csr_matrix(table.matrix.T), table.row_names, obs, report=report)
