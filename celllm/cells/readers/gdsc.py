"""GDSC: response of cell lines to drugs, in DeepCDR's layout and in that of GDSC's own releases.

Both end in the same table, one row per screen of a drug on a line. Yang et al. 2013, Nucleic Acids Research
41:D955; Liu et al. 2020, Bioinformatics 36:i911 (DeepCDR).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from celllm.cells.readers.depmap import read_lines
from celllm.errors import UserError
from celllm.sources import delimited

DEEPCDR_FILES = ("ic50", "annotation", "lines", "drugs", "smiles")
RELEASE_FILES = ("response", "lines", "drugs", "smiles")
COLUMNS = ("cell_line", "drug", "drug_name", "smiles", "screen", "ln_ic50")
"""DepMap id, PubChem compound id, GDSC's name of the drug, SMILES, GDSC's drug id, ln of IC50 in µM."""

TCGA_LABELS = frozenset((
    "ALL", "BLCA", "BRCA", "CESC", "COAD/READ", "DLBC", "ESCA", "GBM", "HNSC", "KIRC", "LAML", "LCML", "LGG",
    "LIHC", "LUAD", "LUSC", "MESO", "MM", "NB", "OV", "PAAD", "SCLC", "SKCM", "STAD", "THCA",
))  # fmt: skip
"""The cancer types that DeepCDR's code lists; its test for them is commented out there."""


@dataclass(frozen=True)
class Options:
    """Which responses.

    Attributes
    ----------
    tcga_label
        Only lines of DeepCDR's TCGA cancer types (DeepCDR layout only).
    deduplicate
        One row, the mean, for a drug that was screened twice on a line; the paper kept both.
    """

    tcga_label: bool = False
    deduplicate: bool = False


@dataclass(frozen=True)
class Drug:
    """A drug of GDSC's list with its structure."""

    cid: str
    name: str
    smiles: str


def read_deepcdr(files: Mapping[str, Path], options: Options) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read DeepCDR's matrix of ln IC50: 107,446 rows of 561 lines and 223 drugs.

    A drug counts when GDSC's list gives it one PubChem id that has a SMILES, a line when it is one of the 561
    with expression, mutation and methylation features and has an annotation.

    Returns
    -------
    The table :data:`COLUMNS`, and numbers for the log.
    """
    drugs = _drugs_by_screen(files)
    annotated = _annotated(files["annotation"])
    lines = {line for line, _, label in delimited.records(files["lines"], 3, "\t") if _wanted(label, options)}
    lines &= annotated
    pairs = [
        (line, drug.cid, drug.name, drug.smiles, f"GDSC:{screen}", value)
        for screen, line, value in _matrix(files["ic50"])
        if line in lines and (drug := drugs.get(screen)) is not None
    ]
    return _table(pairs, files["ic50"], options), {"n_drug_ids": len(drugs), "n_lines_listed": len(lines)}


def read_release(files: Mapping[str, Path], options: Options) -> tuple[pd.DataFrame, dict[str, int]]:
    """Read a release of GDSC (``GDSC2_fitted_dose_response_*.csv`` or ``.xlsx``).

    Lines are joined to DepMap by Sanger's id or, failing that, by COSMIC's; drugs to their structure by
    GDSC's id of the drug or, failing that, by name. Rows without either are left out and counted.

    Returns
    -------
    The table :data:`COLUMNS`, and numbers for the log.
    """
    if options.tcga_label:
        raise UserError("options of gdsc2: tcga_label belongs to DeepCDR's layout; leave it out")
    line_of = _line_ids(files["lines"])
    by_screen = _drugs_by_screen(files)
    by_name = {_plain(drug.name): drug for drug in by_screen.values()}
    pairs, lost = [], {"n_without_line": 0, "n_without_drug": 0}
    for cosmic, sanger, screen, name, value in _release_rows(files["response"]):
        line = line_of.get(sanger) or line_of.get(cosmic)
        drug = by_screen.get(screen) or by_name.get(_plain(name))
        if line and drug:
            pairs.append((line, drug.cid, drug.name, drug.smiles, f"GDSC:{screen}", value))
        lost["n_without_line"] += not line
        lost["n_without_drug"] += not drug
    return _table(pairs, files["response"], options), lost


def _table(pairs: list[tuple[str, str, str, str, str, float]], where: Path, options: Options) -> pd.DataFrame:
    if not pairs:
        raise UserError(f"{where}: no response left, no line or no drug of it is known; wrong files?")
    table = pd.DataFrame(pairs, columns=list(COLUMNS))
    if not options.deduplicate:
        return table
    merged = table.groupby(["cell_line", "drug"], sort=False, as_index=False)
    return merged.agg(
        {"drug_name": "first", "smiles": "first", "screen": ";".join, "ln_ic50": "mean"},
    )[list(COLUMNS)]


def _wanted(label: str, options: Options) -> bool:
    return not options.tcga_label or label in TCGA_LABELS


def _annotated(path: Path) -> set[str]:
    return {row["depMapID"] for row in delimited.rows(path, ("depMapID",), encoding="latin-1")}


def _drugs_by_screen(files: Mapping[str, Path]) -> dict[str, Drug]:
    """Drugs with one PubChem id and a structure, by GDSC's id of the drug."""
    smiles = dict(delimited.records(files["smiles"], 2, "\t"))
    rows = delimited.rows(files["drugs"], ("drug_id", "Name", "PubCHEM"), ",")
    return {
        row["drug_id"]: Drug(row["PubCHEM"], row["Name"], smiles[row["PubCHEM"]])
        for row in rows
        if row["PubCHEM"].isdigit() and row["PubCHEM"] in smiles
    }


def _matrix(path: Path) -> Iterator[tuple[str, str, float]]:
    """Screen, line and ln IC50 of every measured field of DeepCDR's matrix."""
    header = delimited.header(path, ",")
    if (line := delimited.first_repeat(header)) is not None:
        raise UserError(f"{path}: the cell line '{line}' has two columns")
    for number, (name, *fields) in enumerate(delimited.records(path, len(header)), start=1):
        if number == 1:
            continue
        prefix, _, screen = name.partition(":")
        if prefix != "GDSC" or not screen.isdigit():
            raise UserError(f"{path}: line {number} starts with '{name}', expected an id such as GDSC:1")
        for line, field in zip(header[1:], fields, strict=True):
            if field != "NA":
                yield screen, line, _number(field, f"{path}: line {number}, {line}")


def _number(field: str, where: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: '{field}' is not a ln IC50; a finite number or NA is expected")
    return value


def _line_ids(path: Path) -> dict[str, str]:
    """DepMap id by Sanger's and by COSMIC's id."""
    ids: dict[str, str] = {}
    for model, line in read_lines(path).items():
        ids |= {other: model for other in (line.sanger, line.cosmic) if other}
    return ids


def _release_rows(path: Path) -> Iterator[tuple[str, str, str, str, float]]:
    columns = ("COSMIC_ID", "SANGER_MODEL_ID", "DRUG_ID", "DRUG_NAME", "LN_IC50")
    if path.suffix == ".xlsx":
        found: Iterator[tuple[str, ...]] = delimited.sheet(path, columns)
    else:
        found = (tuple(row.values()) for row in delimited.rows(path, columns, ","))
    for number, (cosmic, sanger, screen, name, value) in enumerate(found, start=2):
        yield cosmic.removesuffix(".0"), sanger, screen, name, _number(value, f"{path}: line {number}")


def _plain(name: str) -> str:
    """Name of a drug without case, spaces and signs: PD-0325901 and PD0325901 are one."""
    return re.sub(r"[\W_]", "", name).lower()
