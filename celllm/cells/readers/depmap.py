"""DepMap's table of cell lines: ``sample_info.csv`` (to 22Q2) or ``Model.csv`` (later)."""

from dataclasses import dataclass
from pathlib import Path

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


def read_lines(path: Path) -> dict[str, CellLine]:
    """Read the cell lines by their DepMap id (``ACH-000001``)."""
    header = delimited.header(path, ",")
    columns = _NEW if "ModelID" in header else _OLD
    tissue = [name for name in _TISSUE if name in header][:1]
    lines = {}
    for row in delimited.rows(path, (*columns, *tissue), ","):
        model, name, disease, cosmic, sanger, *of_tissue = row.values()
        cosmic = delimited.identifier(cosmic, f"{row.where}: COSMICID")
        lines[model] = CellLine(name, disease, cosmic, sanger, "".join(of_tissue))
    return lines
