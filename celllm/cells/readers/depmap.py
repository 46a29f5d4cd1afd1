"""DepMap's table of cell lines: ``sample_info.csv`` (to 22Q2) or ``Model.csv`` (later)."""

import re
from dataclasses import dataclass
from pathlib import Path

from celllm.errors import UserError
from celllm.sources import delimited

_OLD = ("DepMap_ID", "cell_line_name", "primary_disease", "COSMICID", "Sanger_Model_ID")
_NEW = ("ModelID", "CellLineName", "OncotreePrimaryDisease", "COSMICID", "SangerModelID")
_TISSUE = ("OncotreeLineage", "lineage")


@dataclass(frozen=True)
class CellLine:
    """A cell line and its ids; what DepMap does not know is empty."""

    name: str
    disease: str
    cosmic: str
    sanger: str
    tissue: str


def model_id(text: str, where: str) -> str:
    """Return a DepMap id; anything else is a :class:`UserError`."""
    if not re.fullmatch(r"ACH-\d{6}", text):
        raise UserError(f"{where}: '{text}' is not a DepMap id such as ACH-000001")
    return text


def read_lines(path: Path) -> dict[str, CellLine]:
    """Read the cell lines by their DepMap id (``ACH-000001``)."""
    header = delimited.header(path, ",")
    columns = _NEW if "ModelID" in header else _OLD
    tissue = [name for name in _TISSUE if name in header][:1]
    lines = {}
    for row in delimited.rows(path, (*columns, *tissue), ","):
        model, name, disease, cosmic, sanger, *of_tissue = row.values()
        cosmic = delimited.identifier(cosmic, f"{row.where}: COSMICID")
        model = model_id(model, row.where)
        if model in lines:
            raise UserError(f"{row.where}: the cell line '{model}' occurs twice; remove one of the two")
        lines[model] = CellLine(name, disease, cosmic, sanger, "".join(of_tissue))
    return lines
