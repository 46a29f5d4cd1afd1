"""Baron: human pancreas, GSE84133, one CSV per donor in a tar archive; the mouse members are passed over.

Rows are cells: id, barcode, assigned cluster, then whole UMI counts by gene symbol.
Baron et al. 2016, Cell Systems 3:346.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd
from scipy.sparse import vstack

from celllm.cells.raw import RawCells
from celllm.cells.settings import BaronOptions as Options
from celllm.errors import UserError
from celllm.sources.archives import members
from celllm.sources.delimited import NumberTable, read_numbers

FILES = ("matrix",)
OPTIONAL_FILES = ()
_TEXT = ("barcode", "assigned_cluster")
_DONOR = re.compile(r"_(human\d+)_")


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the human members, one after the other."""
    archive = files["matrix"]
    donors: list[tuple[str, NumberTable]] = []
    obs = []
    for name, stream in members(archive, "*_human*_umifm_counts.csv.gz"):
        where = f"{archive}: {name}"
        table = read_numbers(stream, ",", where, count_text=partial(_count_text, where))
        if donors and table.columns != donors[0][1].columns:
            raise UserError(f"{where}: its genes are not those of {donors[0][0]}")
        donors.append((name, table))
        donor = _DONOR.search(name)
        columns = {"sample": donor[1] if donor else name, "label": table.text["assigned_cluster"]}
        obs.append(pd.DataFrame(columns, index=table.row_names))
    matrix = vstack([table.matrix for _, table in donors], format="csr")
    return RawCells(matrix, donors[0][1].columns, pd.concat(obs), report={"n_donors": len(donors)})


def _count_text(where: str, header: list[str], first: list[str]) -> int:
    if tuple(header[1 : 1 + len(_TEXT)]) != _TEXT:
        raise UserError(f"{where}: expected the columns {', '.join(_TEXT)} after the cell id")
    return len(_TEXT)
