"""CCLE: expression of cell lines from DepMap, log2(TPM + 1), taken back to TPM.

Rows are cell lines (``ACH-000001``), columns ``SYMBOL (entrez)``; from 25Q2 on, columns of ids come first and
a line can have several profiles, one of them marked as default. Ghandi et al. 2019, Nature 569:503.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from celllm.cells.raw import RawCells
from celllm.cells.readers.depmap import model_id, read_lines
from celllm.cells.settings import CcleOptions as Options
from celllm.cells.values import value_problem
from celllm.errors import UserError
from celllm.sources.delimited import NumberTable, read_numbers

FILES = ("expression",)
OPTIONAL_FILES = ("lines",)
MAX_SUM = 1.1e6
"""TPM of all genes are a million; those of protein-coding ones most of it."""
MANY_GENES = 15_000
_GENE = re.compile(r".+ \((?:\d+|Unknown|ENSG\d+(?:\.\d+)?)\)")
_ENTREZ = re.compile(r"(.+) \((?:\d+|Unknown)\)")
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?|NA|nan")
_PROFILE = re.compile(r"(PR|CDS|MC)-\w+$")
_MODEL = ("ModelID", "DepMap_ID", "depmap_id")
_DEFAULT = ("is_default_entry", "IsDefaultEntryForModel")
_MARKS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}
_IDS = frozenset((*_MODEL, *_DEFAULT, "SequencingID", "ModelConditionID", "IsDefaultEntryForMC", "ProfileID"))


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cell lines, values as TPM."""
    path = files["expression"]
    table = read_numbers(path, ",", count_text=_count_ids)
    problem = value_problem(table.matrix, "log2_tpm", True, table.row_names, table.columns)
    if problem:
        raise UserError(f"{path}: {problem}")
    kept = _default_rows(table, path)
    lines = [next((table.text[n] for n in _MODEL if n in table.text), table.row_names)[i] for i in kept]
    if wrong := next((line for line in lines if _PROFILE.match(line)), None):
        raise UserError(
            f"{path}: the row '{wrong}' is a profile, and no column ModelID says of which cell line; take "
            "the file whose rows are models, such as OmicsExpressionProteinCodingGenesTPMLogp1.csv"
        )
    for line in lines:
        model_id(line, f"{path}: row")
    matrix = table.matrix[kept]
    matrix.data = np.expm1(matrix.data * np.log(2, dtype=np.float32))
    if (sums := np.asarray(matrix.sum(axis=1)).ravel()).max() > MAX_SUM or (
        len(table.columns) > MANY_GENES and np.median(sums) < MAX_SUM / 4
    ):
        raise UserError(
            f"{path}: as log2(TPM + 1) the values of a line sum to {np.median(sums):,.0f}, expected is up to "
            "1,000,000; is the logarithm another one?"
        )
    genes = [match[1] if (match := _ENTREZ.fullmatch(name)) else name for name in table.columns]
    report: dict[str, int | str] = {"n_profiles_not_default": len(table.row_names) - len(kept)}
    take_log = options.values == "log2_tpm"
    obs = pd.DataFrame({"sample": lines}, index=pd.Index(lines, dtype=object))
    if "lines" in files:
        known = read_lines(files["lines"])
        obs["name"] = [known[line].name if line in known else "" for line in lines]
        obs["disease"] = [known[line].disease if line in known else "" for line in lines]
        tissue = [known[line].tissue if line in known else "" for line in lines]
        if any(tissue):
            obs["tissue"] = tissue
    return RawCells(matrix, genes, obs, "tpm", take_log=take_log, report=report)


def _count_ids(header: list[str], first: list[str]) -> int:
    """Columns of ids between the row names and the genes: known by name, or text where genes have numbers."""
    n_ids = 0
    for name, value in zip(header[1:], first[1:], strict=False):
        is_number = not value.strip() or _NUMBER.fullmatch(value.strip())
        if _GENE.fullmatch(name) or (name not in _IDS and is_number):
            break
        n_ids += 1
    return n_ids


def _default_rows(table: NumberTable, path: Path) -> list[int]:
    """Rows that DepMap marks as the default of their line; all where no column marks any."""
    name = next((name for name in _DEFAULT if name in table.text), None)
    if name is None:
        return list(range(len(table.row_names)))
    marks = [mark.lower().removesuffix(".0") for mark in table.text[name]]
    if wrong := next((mark for mark in marks if mark not in _MARKS), None):
        raise UserError(f"{path}: the column {name} holds '{wrong}', expected Yes or No")
    kept = [i for i, mark in enumerate(marks) if _MARKS[mark]]
    if not kept:
        raise UserError(
            f"{path}: none of the {len(marks)} rows has Yes in the column {name}: no cell line is left"
        )
    return kept
