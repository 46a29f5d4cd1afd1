"""Samples of the pre-training sources: which ones a run uses, and whether their cells are tumour cells."""

import importlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celllm.errors import UserError
from celllm.io import atomic
from celllm.settings import as_settings
from celllm.sources.catalogue import Catalogue
from celllm.sources.lock import verified

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("sample", "tumour", "n_cells_expected", "sra", "srs", "tissue", "protocol", "kind")
"""``tumour`` 0 or 1; ``n_cells_expected`` by the source's own table; ``kind`` its flag or sample type."""

log = logging.getLogger(__name__)


def run_samples(
    source: str,
    /,
    files: Mapping[str, str | Path],
    out: str | Path,
    settings: str | Mapping[str, Any] | None = None,
    mirror: str | Path | None = None,
    catalogue: Sequence[str | Path] = ("config/data_sets.yaml",),
) -> None:
    """List the samples of a pre-training source, as a TSV with the columns :data:`COLUMNS`.

    Parameters
    ----------
    source
        ``panglaodb`` or ``cancerscem``.
    files
        Its files by their names in the catalogue.
    settings
        Of its reader, as mapping or JSON.
    mirror
        Folder taken in place of the internet.
    catalogue
        The lists of all inputs, each laid over those before it.
    """
    found = list_samples(Catalogue.read(catalogue), source, files, settings, mirror)
    log.info("%s: %d samples, %d of them tumours", source, len(found), found["tumour"].sum())
    with atomic(out) as partial:
        found.to_csv(partial, sep="\t", index=False)


def list_samples(
    catalogue: Catalogue,
    source: str,
    files: Mapping[str, str | Path],
    options: str | Mapping[str, Any] | None = None,
    mirror: str | Path | None = None,
) -> "pd.DataFrame":
    """List the samples of a pre-training source that a run uses, from its ``files`` by name.

    The option ``samples`` is ``all``, ``mirrored`` (those whose matrix is in the folder ``mirror``), a number
    (so many of all, evenly spread) or a list of names. ``all`` of a source whose addresses stand in a table
    are the samples of that table, or those in the mirror where there is one.

    Returns
    -------
    One row per sample in the order of the source's table, with the columns :data:`COLUMNS`.

    Raises
    ------
    UserError
        For a source without samples, an unknown sample, or no sample at all.
    """
    entry = catalogue.source(source)
    if not entry.get("sample_files"):
        raise UserError(
            f"{source}: has no samples; pre-training sources have sample_files in {catalogue.where}"
        )
    reader = importlib.import_module(f"celllm.cells.readers.{entry.get('reader', source)}")
    chosen = as_settings(reader.Options, options, f"options of {source}")
    table = reader.sample_table({name: verified(path) for name, path in files.items()}, chosen)
    wanted = "all" if isinstance(chosen.samples, int) else chosen.samples
    names = _chosen(catalogue, source, wanted, Path(mirror) if mirror else None)
    if names is not None:
        unknown = [name for name in names if name not in table.index]
        if unknown and not isinstance(wanted, str):
            raise UserError(
                f"options of {source}.samples: '{unknown[0]}' is none of its {len(table)} samples"
            )
        if unknown:  # a mirror may hold others: of another species, of later projects
            n, example = len(unknown), unknown[0]
            log.info("%s: %d samples are left out by its table or options, such as %s", source, n, example)
        table = table[table.index.isin(names)]
    if isinstance(chosen.samples, int) and chosen.samples < len(table):
        table = table.iloc[[n * len(table) // chosen.samples for n in range(chosen.samples)]]
    for name in table.index:
        catalogue.fields(source, str(name))  # parts of paths and commands: names must fit the pattern
    if table.empty:
        raise UserError(f"{source}: no sample is left by its options (samples: {chosen.samples})")
    names_here = {"n_cells": "n_cells_expected", "flag": "kind", "sample_type": "kind"}
    tidy = table.rename(columns=names_here).rename_axis("sample").reset_index()
    tidy["tumour"] = tidy["tumour"].astype(int)
    return tidy.reindex(columns=list(COLUMNS)).fillna("")


def _chosen(
    catalogue: Catalogue, source: str, samples: str | Sequence[str], mirror: Path | None
) -> Sequence[str] | None:
    """Return the wanted names, None for all that the source's table lists."""
    if not isinstance(samples, str):
        return samples
    has_table = "table" in catalogue.source(source)["sample"]
    if samples == "mirrored" or (samples == "all" and has_table and mirror is not None):
        if mirror is None:
            raise UserError(
                f"options of {source}.samples: 'mirrored' needs a mirror; set one, or samples: all"
            )
        matrix = next(file.path for file in catalogue.sample_files(source) if file.name == "matrix")
        before, _, after = matrix.partition("{sample}")
        found = sorted(str(path.relative_to(mirror)) for path in mirror.glob(f"{before}*{after}"))
        if not found:
            raise UserError(f"mirror {mirror}: holds no file {before}<sample>{after}")
        return [name.removeprefix(before).removesuffix(after) for name in found]
    if samples != "all":
        raise UserError(
            f"options of {source}.samples: expected all, mirrored, a number or names, got '{samples}'"
        )
    if not has_table:
        return None
    names = list(catalogue.table(source))
    if not names:
        where = catalogue.places[source].parent / catalogue.source(source)["sample"]["table"]
        raise UserError(f"{where}: lists no sample of {source}; its first lines say how to fill it")
    return names
