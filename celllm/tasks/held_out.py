"""Whole groups held out: donors, patients, tissues and drugs that no training row is of (Table S3)."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from celllm.corpus.settings import GroupSplitSettings
from celllm.corpus.splits import Splits, group_folds, named
from celllm.errors import UserError

log = logging.getLogger(__name__)

Names = NDArray[np.str_]
UNKNOWN = "unknown"  # the group of cells or lines without a value


def groups_of(obs: "pd.DataFrame", column: str, source: str | Path) -> NDArray[np.str_]:
    """Group of every cell or line; one without a value is of the group ``unknown``, and the log says so.

    Raises :class:`UserError` when there is no such column.
    """
    if column not in obs:
        raise UserError(
            f"{source}: no column '{column}' in obs to hold groups out by; expected one of "
            f"{', '.join(map(str, obs.columns))}"
        )
    groups = obs[column].astype(object).where(obs[column].notna(), "").astype(str).to_numpy(dtype=str)
    unknown = groups == ""
    if unknown.any():
        log.warning("%s: %d of %d without a value in obs['%s']", source, unknown.sum(), len(obs), column)
    return np.where(unknown, UNKNOWN, groups)


def draw_groups(
    name: str,
    data_set: str,
    settings: GroupSplitSettings,
    ids: Names,
    groups: Names,
    labels: Names,
    source: str | Path,
) -> Splits:
    """Splits of rows over their groups; ``labels`` are all the same where rows have none.

    Raises :class:`UserError` for too few groups, and when one is held out without which all rows to train on
    have one label.
    """
    where = f"{source}: groups by '{settings.group}'"
    fraction, kind = settings.validation_fraction, settings.validation
    rows = ids.tolist(), groups.tolist(), labels.tolist()
    try:
        parts = group_folds(*rows, settings.n_folds, settings.seed, fraction, kind)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    for part in parts:
        if len(np.unique(labels)) > 1 and len(np.unique(labels[part.train])) < 2:
            held_out = ", ".join(np.unique(groups[part.test]))
            raise UserError(
                f"{where}: with {held_out} held out, all rows to train on have the label "
                f"'{labels[part.train][0]}'; hold out by another column"
            )
    return Splits(data_set, name, settings.seed, tuple(named(part, rows[0]) for part in parts))
