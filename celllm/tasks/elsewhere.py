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
    """Write the scores that a row brings for the run's splits where those of a method would stand.

    The row's key ``scores`` is ``SCORES.csv + SPLITS.json``: a score file (:mod:`celllm.scores.scores`) and
    the file of splits that it was made on, one for each task; nothing where it has none of this data set.
    ``metrics`` are what a task would have measured, ``base`` holds table, data set and model of the scores;
    the others as in :func:`celllm.tasks.runner.run_task`.

    Raises :class:`UserError` for scores of other splits, of a split that does not exist, of several models
    none of which has the row's name, and what :func:`celllm.scores.scores.read_many` refuses.
    """
    place = row.get("scores")
    frame, sources = _read(place, base) if place else (None, {})
    kept = ("split", "seed", "metric", "value", "status", "seconds", "peak_mib", "reason")
    for splits in saved:
        if frame is not None:
            _check(frame[frame["task"] == splits.task], splits, sources, str(place))
        for protocol in protocols:
            table = "table_s3" if splits.task in HELD_OUT else base.table
            here = replace(base, table=table, task=splits.task, protocol=protocol)
            found: list[Score] = []
            if frame is not None:
                part = frame[(frame["task"] == splits.task) & (frame["protocol"] == protocol)]
                rows: list[dict[str, Any]] = part[list(kept)].astype(object).to_dict("records")
                for given in rows:
                    value = None if pd.isna(given["value"]) else given["value"]
                    found.append(replace(here, **given | {"value": value}))
            if not found:
                reason = f"no score under protocol {protocol} of {splits.task} in {place}"
                if place is None:
                    reason = "the row's `file` names no scores of this data set"
                none = replace(here, status=NOT_APPLICABLE, reason=reason)
                numbers = range(len(splits.folds))
                found = [
                    replace(none, split=str(number), metric=name) for number in numbers for name in metrics
                ]
            folder = Path(out, splits.task, base.data_set, base.model)
            path = folder / f"{protocol}.predictions.csv"
            scores.write_predictions(path, [])
            if "accuracy" in metrics:
                scores.write_probabilities(scores.probabilities_of(path), [], np.empty((0, 0)))
            scores.write(folder / f"{protocol}.csv", found)


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
