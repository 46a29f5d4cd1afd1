"""CCLE: expression of cell lines from DepMap, log2(TPM + 1), taken back to TPM.

Rows are cell lines (``ACH-000001``), columns ``SYMBOL (entrez)``; from 25Q2 on, columns of ids come first and
a line can have several profiles, one of them marked as default. Ghandi et al. 2019, Nature 569:503.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from celllm.cells.raw import CellOptions, RawCells
from celllm.cells.readers.depmap import read_lines
from celllm.cells.values import value_problem
from celllm.errors import UserError
from celllm.sources.archives import open_text
from celllm.sources.delimited import NumberTable, read_numbers

FILES = ("expression",)
OPTIONAL_FILES = ("lines",)
_GENE = re.compile(r"(.+) \(\d+\)")
_DEFAULT = ("is_default_entry", "IsDefaultEntryForModel")


@dataclass(frozen=True)
class Options(CellOptions):
    """What the prepared data set holds.

    Attributes
    ----------
    values
        ``tpm``: 2^x - 1, taken as counts by the tokens; ``log2_tpm``: as the file has it. The paper does not
        say.
    """

    values: Literal["tpm", "log2_tpm"] = "tpm"


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cell lines, values as TPM."""
    path = files["expression"]
    with open_text(path) as handle:
        table = read_numbers(handle, path, ",", count_text=partial(_count_ids, path))
    problem = value_problem(table.matrix, "log2_tpm", True, table.row_names, table.columns)
    if problem:
        raise UserError(f"{path}: {problem}")
    kept = _default_rows(table)
    lines = [table.text.get("ModelID", table.row_names)[i] for i in kept]
    matrix = table.matrix[kept]
    matrix.data = np.expm1(matrix.data * np.log(2, dtype=np.float32))
    genes = [match[1] if (match := _GENE.fullmatch(name)) else name for name in table.columns]
    return RawCells(matrix, genes, _obs(files, lines), "tpm", take_log=options.values == "log2_tpm")


def _count_ids(path: Path, header: list[str]) -> int:
    """Columns between the row names and the first one named like a gene."""
    found = next((i for i, name in enumerate(header[1:]) if _GENE.fullmatch(name)), None)
    if found is None:
        raise UserError(f"{path}: no column is named 'SYMBOL (entrez)', such as 'TSPAN6 (7105)'")
    return found


def _default_rows(table: NumberTable) -> list[int]:
    column = next((table.text[name] for name in _DEFAULT if name in table.text), None)
    if column is None:
        return list(range(len(table.row_names)))
    return [i for i, mark in enumerate(column) if mark.lower() in ("yes", "true", "1")]


def _obs(files: Mapping[str, Path], lines: list[str]) -> pd.DataFrame:
    """One row per line: its id as sample, and name and disease where the table of lines is given."""
    obs = pd.DataFrame({"sample": lines}, index=pd.Index(lines, dtype=object))
    if "lines" in files:
        known = read_lines(files["lines"])
        obs["name"] = [known[line].name if line in known else "" for line in lines]
        obs["disease"] = [known[line].disease if line in known else "" for line in lines]
    return obs
