"""Scores made elsewhere, on the run's own splits: a row of kind ``scores``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from celllm.cells.embeddings import files_of
from celllm.corpus.splits import Splits, read_splits
from celllm.errors import UserError
from celllm.scores import scores
from celllm.scores.columns import HELD_OUT
from celllm.scores.scores import NOT_APPLICABLE, Score

# Metrics that are no fractions; all others are 1 at most.
ERRORS = ("rmse", "mae")


def take_scores(
    row: Mapping[str, Any],
    saved: Sequence[Splits],
    metrics: Sequence[str],
    base: Score,
    protocols: Sequence[str],
    out: str | Path,
) -> None:
    """Write the scores that a row brings where those of a method would stand.

    Parameters
    ----------
    row
        Its key ``scores`` is ``SCORES.csv + SPLITS.json``: a score file (:mod:`celllm.scores.scores`) and the
        file of splits that it was made on, one for each task; nothing where it has none of this data set.
    saved
        The run's splits of the data set.
    metrics
        What a task would have measured.
    base
        Table, data set and model of the scores.
    protocols, out
        See :func:`celllm.tasks.runner.run_task`.

    Raises
    ------
    UserError
        For scores of other splits, of a split that does not exist, of several models none of which has the
        row's name, and what :func:`celllm.scores.scores.read_many` refuses.
    """
    place = row.get("scores")
    frame, sources = _read(place, base) if place else (None, {})
    for splits in saved:
        if frame is not None:
            _check(frame[frame["task"] == splits.task], splits, sources, str(place))
        for protocol in protocols:
            table = "table_s3" if splits.task in HELD_OUT else base.table
            here = replace(base, table=table, task=splits.task, protocol=protocol)
            found = [] if frame is None else _rows(frame, here)
            folder = Path(out, splits.task, base.data_set, base.model)
            path = folder / f"{protocol}.predictions.csv"
            scores.write_predictions(path, [])
            if "accuracy" in metrics:
                scores.write_probabilities(scores.probabilities_of(path), [], np.empty((0, 0)))
            scores.write(folder / f"{protocol}.csv", found or _none(here, metrics, len(splits.folds), place))


def _read(place: str, base: Score) -> tuple[pd.DataFrame, dict[str, Splits]]:
    """Scores of the data set, and the splits that they were made on, by task."""
    path, *others = files_of(place)
    frame = scores.read_many([path])
    frame = frame[frame["data_set"] == base.data_set]
    if frame.empty:
        raise UserError(f"{path}: no score of the data set '{base.data_set}'")
    models = frame["model"].unique().tolist()
    if base.model in models:
        frame = frame[frame["model"] == base.model]
    elif len(models) > 1:
        raise UserError(f"{path}: scores of {', '.join(models)}; name one of them '{base.model}', as the row")
    return frame, {splits.task: splits for splits in map(read_splits, others)}


def _check(frame: pd.DataFrame, splits: Splits, sources: Mapping[str, Splits], place: str) -> None:
    if frame.empty:
        return
    if splits.task not in sources:
        raise UserError(f"{place}: expected ' + SPLITS.json' behind the scores, the splits of {splits.task}")
    if sources[splits.task].folds != splits.folds:
        raise UserError(
            f"{place}: scored on other splits of {splits.data_set} than those of this run; "
            f"score on the run's splits/{splits.task}/{splits.data_set}.json"
        )
    numbers = [str(number) for number in range(len(splits.folds))]
    unknown = frame.loc[~frame["split"].isin(numbers), "split"]
    if len(unknown):
        raise UserError(f"{place}: split '{unknown.iloc[0]}'; expected one of {', '.join(numbers)}")
    large = frame[(frame["value"] > 1) & ~frame["metric"].str.split("_").str[0].isin(ERRORS)]
    if len(large):
        raise UserError(
            f"{place}: {large['metric'].iloc[0]} is {large['value'].iloc[0]}; expected a fraction, 1 at most"
        )


def _rows(frame: pd.DataFrame, base: Score) -> list[Score]:
    here = frame[(frame["task"] == base.task) & (frame["protocol"] == base.protocol)]
    kept = ("split", "seed", "metric", "value", "status", "seconds", "peak_mib", "reason")
    rows: list[dict[str, Any]] = here[list(kept)].astype(object).to_dict("records")
    return [replace(base, **row | {"value": None if pd.isna(row["value"]) else row["value"]}) for row in rows]


def _none(base: Score, metrics: Sequence[str], n_splits: int, place: str | None) -> list[Score]:
    """Rows that say why there are no scores."""
    reason = f"no score under protocol {base.protocol} of {base.task} in {place}"
    if place is None:
        reason = "the row's `file` names no scores of this data set"
    base = replace(base, status=NOT_APPLICABLE, reason=reason)
    return [
        replace(base, split=str(number), metric=metric) for number in range(n_splits) for metric in metrics
    ]
