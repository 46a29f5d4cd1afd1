"""Scores by what was scored: the rows and the per-split values behind one cell of a table."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from celllm.report.published import Column
from celllm.scores.scores import OK
from celllm.scores.statistics import Summary, summarise_crossed

_KEY = ["task", "data_set", "model", "protocol", "metric"]


class Lookup:
    """Score rows by task, data set, model, protocol and metric, whatever table they were made for."""

    def __init__(self, scores: pd.DataFrame) -> None:
        self._rows = dict(iter(scores.groupby(_KEY, sort=False))) if len(scores) else {}
        self._fits = dict(iter(scores.groupby(_KEY[:-1], sort=False))) if len(scores) else {}
        self._empty = scores.iloc[:0]
        self._values: dict[tuple[Column, str, str], pd.Series[float]] = {}

    def rows(self, column: Column, model: str, protocol: str) -> pd.DataFrame:
        """Score rows of one cell, any status; empty where there are none."""
        key = (column.task, column.data_set, model, protocol, column.metric.name)
        return self._rows.get(key, self._empty)

    def values(self, column: Column, model: str, protocol: str, scale: float = 1.0) -> "pd.Series[float]":
        """Values of the splits that went well, times ``scale``, by (split, seed)."""
        key = column, model, protocol
        if key not in self._values:  # they are asked for again by each comparison
            rows = self.rows(*key)
            good = rows[rows["status"] == OK]
            by_split = good.assign(split=good["split"].astype(str)).set_index(["split", "seed"])
            self._values[key] = by_split["value"].astype(float).sort_index()
        return self._values[key] * scale

    def one_class(self, column: Column, model: str, protocol: str, least: float = 0) -> str:
        """In how many splits a model gave every test cell the same class.

        Empty for none, or for no more than a share ``least`` of the splits. Such a split has one recall of 1,
        others of 0, and a precision of that class that is the accuracy.
        """
        rows = self._fits.get((column.task, column.data_set, model, protocol), self._empty)
        wide = rows[rows["status"] == OK].pivot_table(
            index=["seed", "split"], columns="metric", values="value"
        )
        recall = wide.filter(regex="^recall:").rename(columns=lambda name: name.partition(":")[2])
        if recall.shape[1] < 2:
            return ""
        precision = wide.filter(regex="^precision:").rename(columns=lambda name: name.partition(":")[2])
        alone = recall.eq(1).sum(axis=1).eq(1) & recall.fillna(0).sum(axis=1).eq(1)
        n = int((alone & np.isclose(precision.where(recall.eq(1)).max(axis=1), wide["accuracy"])).sum())
        if n <= least * len(wide):
            return ""
        what = "splits" if rows["seed"].nunique() == 1 else "fits"
        return f"every test cell is given the same class in {n} of {len(wide)} {what}"

    def n_splits(self, column: Column, protocol: str, models: Iterable[str]) -> int:
        """The most splits that any of the models has in this column: what a complete cell holds."""
        return max((self.rows(column, name, protocol)["split"].nunique() for name in models), default=0)


def over_splits_and_seeds(values: "pd.Series[float]") -> Summary:
    """Mean and spreads of values by (split, seed)."""
    return summarise_crossed(values.unstack("seed").to_numpy().T)


def paired(a: "pd.Series[float]", b: "pd.Series[float]") -> "pd.Series[float]":
    """``a - b`` on the splits and seeds that both have; one with a single seed is paired with each seed."""
    few, many = sorted((a, b), key=lambda values: values.index.get_level_values("seed").nunique())
    if few.index.get_level_values("seed").nunique() == 1 < many.index.get_level_values("seed").nunique():
        table = many.unstack("seed").sub(few.droplevel("seed"), axis=0)
        return (table if many is a else -table).stack().dropna().sort_index()
    return (a - b).dropna()
