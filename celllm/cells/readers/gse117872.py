"""GSE117872: cisplatin on oral squamous cell carcinoma, TPM of Fluidigm C1 cells.

The header of the cell table is shifted: the column named ``cluster`` holds the drug status, ``patient_id`` a
colour. So columns are taken by position. Sharma et al. 2018, Nature Communications 9:4931.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from celllm.cells.raw import RawCells, check_labels
from celllm.cells.settings import Gse117872Options as Options
from celllm.errors import UserError
from celllm.sources import delimited

FILES = ("matrix", "labels")
OPTIONAL_FILES = ()
STATUS = ("Sensitive", "Resistant", "Holiday")
_HEADER = ("groups", "cell_color", "patient_id", "origin", "drug_status", "cluster")
_COLUMNS = ("cell", "sample", "colour", "patient", "site", "drug_status", "cluster", "pca", "pagoda")


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells, labels joined by cell id."""
    table = delimited.read_numbers(files["matrix"], "\t")
    path = files["labels"]
    rows = delimited.rows(path, _COLUMNS, header=False)
    header = tuple(next(rows).values())[: len(_HEADER)]
    if header != _HEADER:
        raise UserError(f"{path}: the header starts with {', '.join(header)}; expected {', '.join(_HEADER)}")
    cells = pd.DataFrame(list(rows), columns=list(_COLUMNS[: len(_HEADER)])).set_index("cell")
    if (cell := delimited.first_repeat(cells.index)) is not None:
        raise UserError(f"{path}: the cell '{cell}' occurs twice")
    unknown = sorted(set(cells["drug_status"]) - set(STATUS))
    if unknown:
        raise UserError(f"{path}: the sixth column holds '{unknown[0]}', expected {', '.join(STATUS)}")
    obs = cells.drop(columns="colour").reindex(table.columns)
    status = obs["drug_status"]
    obs["label"] = status.str.lower().where(status != "Holiday", options.holiday)
    check_labels(obs["label"], path)
    kept = np.flatnonzero(obs["label"] != "drop")
    report: dict[str, int | str] = {f"n_{name.lower()}": int((status == name).sum()) for name in STATUS}
    matrix = csr_matrix(table.matrix.T)[kept]
    return RawCells(matrix, table.row_names, obs.iloc[kept], values="tpm", report=report)
