"""Cells of one's own, in any file that :mod:`celllm.cells.formats` opens: a row of the catalogue and no code.

Files of CELLxGENE, scPerturb and Cell Ranger are read as they are. Whole counts are looked for in ``X``,
``raw.X`` and the layers; labels and samples are columns of ``obs``.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from celllm.cells.check import find_counts
from celllm.cells.formats import open_cells
from celllm.cells.raw import RawCells, category_names
from celllm.cells.settings import H5adOptions as Options
from celllm.errors import UserError
from celllm.sources import delimited

FILES = ("cells",)
OPTIONAL_FILES = ()
SAMPLE_FILES = ("matrix", "samples")
"""Names of the files of a pre-training source: the cells of one sample, and the table of samples."""


def read(files: Mapping[str, Path], options: Options) -> RawCells:
    """Read the cells, their labels and samples."""
    path = files["cells"] if "cells" in files else files["matrix"]
    adata = open_cells(path)
    counts = find_counts(adata, where=path, layer=options.layer, gene_key=options.gene_key)
    obs = pd.DataFrame(index=pd.Index(adata.obs_names.astype(str), dtype=object))
    if options.sample_key:
        obs["sample"] = samples = _column(adata.obs, options.sample_key, "sample_key", path)
        if None in samples:
            raise UserError(
                f"{path}: {samples.count(None)} of {len(samples)} cells have no sample in "
                f"obs['{options.sample_key}'], e.g. '{obs.index[samples.index(None)]}'"
            )
    else:
        obs["sample"] = path.stem
    if options.label_key:
        obs["label"] = _column(adata.obs, options.label_key, "label_key", path)
    report: dict[str, int | str] = {"values": f"in {counts.place}: {counts.values.words}"}
    matrix = counts.matrix.astype("float32")
    return RawCells(matrix, counts.genes, obs, fractions=not counts.whole, report=report)


def _column(obs: pd.DataFrame, name: str, option: str, path: Path) -> list[str | None]:
    if name not in obs:
        raise UserError(f"{path}: obs has no column '{name}' ({option}); it has {', '.join(obs) or 'none'}")
    return category_names(obs[name])


def sample_table(files: Mapping[str, Path], options: Options) -> pd.DataFrame:
    """Samples of a pre-training source, from a table with the columns ``sample`` and ``tumour`` (0 or 1)."""
    rows = list(delimited.rows(files["samples"], ("sample", "tumour")))
    if wrong := next((row for row in rows if row["tumour"].lower() not in _TUMOUR), None):
        raise UserError(f"{wrong.where}: tumour is '{wrong['tumour']}', expected 0 or 1")
    table = pd.DataFrame(rows).set_index("sample")
    table["tumour"] = [_TUMOUR[row["tumour"].lower()] for row in rows]
    return table


_TUMOUR = {"0": False, "false": False, "1": True, "true": True}
