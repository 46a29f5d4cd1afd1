"""Response of cell lines to drugs: one tidy table, whatever layout it came in."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from celllm.cells.raw import check_files
from celllm.cells.readers import gdsc
from celllm.errors import UserError
from celllm.io import atomic
from celllm.settings import as_settings

log = logging.getLogger(__name__)

LAYOUTS = {"gdsc": (gdsc.read_deepcdr, gdsc.DEEPCDR_FILES), "gdsc2": (gdsc.read_release, gdsc.RELEASE_FILES)}


def run_responses(
    source: str, /, files: Mapping[str, str | Path], settings: str | Mapping[str, Any] | None, out: str | Path
) -> None:
    """GDSC's files -> one row per screen of a drug on a cell line.

    Parameters
    ----------
    source
        ``gdsc`` (DeepCDR's files) or ``gdsc2`` (a release of GDSC).
    files
        Its files by their names in the catalogue.
    settings
        :class:`celllm.cells.readers.gdsc.Options`, as JSON or a mapping.
    out
        The table, CSV.

    Raises
    ------
    UserError
        For whatever is wrong with options, files or values, in one line; nothing is written then.
    """
    if source not in LAYOUTS:
        raise UserError(f"unknown source of responses '{source}'; known are {', '.join(LAYOUTS)}")
    read, needed = LAYOUTS[source]
    options = as_settings(gdsc.Options, settings, where=f"options of {source}")
    paths = {name: Path(path) for name, path in files.items()}
    check_files(source, paths, needed)
    table, report = read(paths, options)
    for name, value in (report | counts(table)).items():
        log.info("%s: %s %d", source, name, value)
    with atomic(out) as partial:
        table.to_csv(partial, index=False)


def read_responses(path: str | Path) -> pd.DataFrame:
    """Read the table of :func:`run_responses`; drug ids stay text."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    table = pd.read_csv(path, dtype={name: str for name in gdsc.COLUMNS if name != "ln_ic50"})
    if tuple(table.columns) != gdsc.COLUMNS:
        raise UserError(
            f"{path}: expected the columns {', '.join(gdsc.COLUMNS)}; make it with `celllm responses`"
        )
    return table


def counts(table: pd.DataFrame) -> dict[str, int]:
    """Rows, distinct (line, drug) pairs, lines and drugs of a table of responses."""
    return {
        "n_pairs": len(table),
        "n_distinct_pairs": len(table[["cell_line", "drug"]].drop_duplicates()),
        "n_lines": table["cell_line"].nunique(),
        "n_drugs": table["drug"].nunique(),
    }
