"""CancerSCEM: one table of whole UMI counts per sample, and the cell type of each barcode.

Neither the orientation of the tables nor the form of their header is documented, so both are found out:
barcodes are at least twelve bases. Zeng et al. 2022, Nucleic Acids Research 50:D1147.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from celllm.cells.raw import RawCells
from celllm.cells.settings import CancerscemOptions as Options
from celllm.errors import UserError
from celllm.sources import delimited

FILES = ("matrix",)
OPTIONAL_FILES = ("cell_types", "metadata")
PER_SAMPLE = True

_TYPES = {"Tumour", "Normal", "PBMC"}
_BARCODE = re.compile(r"(?:^|[_:.#-])[ACGT]{11,}[ACGTN](?:[-._:#]\w+)*$")


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells of one sample."""
    path = files["matrix"]
    table = delimited.read_numbers(path, "\t")
    sides = (table.row_names, table.columns)
    in_rows, in_columns = (
        sum(bool(_BARCODE.search(name)) for name in names) > len(names) / 2 for names in sides
    )
    if in_rows == in_columns:
        row, column = table.row_names[0], table.columns[0]
        raise UserError(
            f"{path}: cannot tell cells from genes (row '{row}', column '{column}'); "
            "one side must be barcodes of at least 12 bases"
        )
    if in_rows:
        matrix, cells, genes = table.matrix, table.row_names, table.columns
    else:
        matrix, cells, genes = csr_matrix(table.matrix.T), table.columns, table.row_names
    obs = pd.DataFrame(index=pd.Index(cells, dtype=object))
    if "cell_types" in files:
        obs["cell_type"] = _cell_types(files["cell_types"], cells)
    return RawCells(matrix, genes, obs)


def _cell_types(path: Path, cells: Sequence[str]) -> list[str]:
    """Type of each cell, empty where the file has none; it writes ``.`` for the ``-`` of the barcodes."""
    rows = delimited.rows(path, ("barcode", "type"), header=False)
    types = {_plain(row["barcode"]): row["type"] for row in rows}
    found = [types.get(_plain(cell), "") for cell in cells]
    if not any(found):
        raise UserError(
            f"{path}: none of the {len(cells)} barcodes of the matrix occurs in it; is it another sample's?"
        )
    return found


def _plain(barcode: str) -> str:
    return barcode.replace("-", ".")


def sample_table(files: Mapping[str, Path], options: Options) -> pd.DataFrame:
    """List the samples of a run, ``sample, sample_type, tissue, n_cells, tumour``, by the options.

    A sample type other than Tumour, Normal and PBMC is a :class:`UserError`: it must be decided on.
    """
    columns = ("Project ID", "Sample ID", "Sample Type", "Cancer type", "Cell count")
    rows = [tuple(row.values()) for row in delimited.rows(files["metadata"], columns)]
    table = pd.DataFrame([row[1:] for row in rows], columns=["sample", "sample_type", "tissue", "n_cells"])
    unknown = sorted(set(table["sample_type"]) - _TYPES)
    if unknown:
        raise UserError(
            f"{files['metadata']}: unknown sample type '{unknown[0]}'; known are {', '.join(sorted(_TYPES))}"
        )
    is_blood = table["sample_type"] == "PBMC"
    table["tumour"] = (
        (table["sample_type"] == "Tumour")
        | (is_blood & (options.blood_samples == "tumour"))
        | (options.label == "all_tumour")
    )
    projects = [row[0].rpartition("-")[2] for row in rows]
    if wrong := next((row[0] for row, n in zip(rows, projects, strict=True) if not n.isdigit()), None):
        raise UserError(f"the CancerSCEM project '{wrong}' does not end in a number, as MCC-001 does")
    kept = pd.Series([int(n) <= (options.projects or np.inf) for n in projects], dtype=bool)
    if options.label == "sample_type" and options.blood_samples == "drop":
        kept &= ~is_blood
    return table[kept].set_index("sample")
