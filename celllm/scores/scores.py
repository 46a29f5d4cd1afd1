"""Score files: the only thing that passes from runs to tables and figures.

A score is one number of one model on one split, with what it cost; a failure is a row as well. Tables and
figures are made from these files and from nothing else. Beside each is a file of predictions and, where a
task has classes, one of probabilities.
"""

import dataclasses
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from celllm.errors import UserError
from celllm.io import atomic, read_csv, reading, write_csv
from celllm.scores.columns import PROTOCOLS
from celllm.scores.metrics import NAMES

OK = "ok"
FAILED = "failed"
OUT_OF_MEMORY = "out-of-memory"
NOT_APPLICABLE = "not-applicable"
STATUSES = (OK, FAILED, OUT_OF_MEMORY, NOT_APPLICABLE)
PREDICTION_COLUMNS = ("cell", "split", "label", "predicted")


@dataclass(frozen=True)
class Score:
    """One row of a score file; the fields are its columns, in this order."""

    table: str  # of the paper, e.g. "1"
    task: str
    data_set: str
    model: str
    protocol: str  # strict | no_refit | paper
    split: str  # number of the fold or repeat
    seed: int
    metric: str  # one of celllm.scores.metrics.NAMES
    value: float | None  # fractions in 0..1 for F1 and accuracy; None when there is none
    status: str  # ok | failed | out-of-memory | not-applicable
    seconds: float  # fitting and predicting this split
    peak_mib: float  # highest memory of the process (of the GPU where one is used) meanwhile
    reason: str = ""  # why there is no value


COLUMNS = tuple(field.name for field in dataclasses.fields(Score))
_KEY = ["table", "task", "data_set", "model", "protocol", "split", "seed", "metric"]


def of_row(table: str, data_set: str, model: str, seed: int) -> Score:
    """What all scores of a row of a table have in common; the rest is blank."""
    return Score(table, "", data_set, model, "", "", seed, "", None, OK, 0.0, 0.0)


def with_values(base: Score, values: Mapping[str, float]) -> list[Score]:
    """Rows like ``base``, one per metric; a value that does not exist (NaN) is "not-applicable"."""
    scores = []
    for metric, value in values.items():
        of_metric: dict[str, Any] = {"value": value}
        if math.isnan(value):
            reason = f"{metric} is undefined for a constant target or prediction"
            of_metric = {"value": None, "status": NOT_APPLICABLE, "reason": reason}
        scores.append(dataclasses.replace(base, metric=metric, **of_metric))
    return scores


def write(path: str | Path, scores: Iterable[Score]) -> None:
    """Write a score file, complete or not at all."""

    def text(value: object) -> str:
        """Numbers so that reading gives them back exactly; a reason on one line."""
        if value is None:
            return ""
        return repr(value) if isinstance(value, float) else " ".join(str(value).split())

    write_csv(path, COLUMNS, ([text(value) for value in dataclasses.astuple(score)] for score in scores))


def read_many(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Read score files into one frame with the columns :data:`COLUMNS`.

    Raises
    ------
    UserError
        Naming the file, and the line where there is one: other columns, an unknown status, protocol or
        metric, a value that is not a finite number, a missing or surplus value, a failure without a reason,
        or the same score in two places.
    """
    frames = [_read_csv(Path(path), COLUMNS).assign(file=str(path)) for path in paths]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    frame = pd.concat(frames)  # all of text
    frame = frame.assign(line=frame.index + 2).reset_index(drop=True)  # of its file; line 1 is the header
    for name, allowed in {"status": STATUSES, "protocol": PROTOCOLS, "metric": NAMES}.items():
        _refuse(frame, ~frame[name].str.split(":").str[0].isin(allowed), name, f"one of {', '.join(allowed)}")
    ok = frame["status"] == OK
    _refuse(frame, ~ok & (frame["value"] != ""), "value", "nothing where the status is not ok")
    _refuse(frame, ~ok & (frame["reason"] == ""), "reason", "why there is no value")
    for name in ("value", "seconds", "peak_mib", "seed"):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wanted = ok if name == "value" else pd.Series(True, index=frame.index)
        _refuse(frame, wanted & ~numbers.abs().lt(math.inf), name, "a finite number")
        frame[name] = numbers
    frame = frame.astype({"seed": "int64"})
    twice = frame.duplicated(_KEY)
    if twice.any():
        row = frame.loc[twice].iloc[0]
        named = " / ".join(str(row[column]) for column in _KEY)
        raise UserError(f"{row['file']}: the score {named} occurs twice; keep one of the files")
    return frame[list(COLUMNS)]


def _refuse(frame: pd.DataFrame, bad: "pd.Series[bool]", column: str, expected: str) -> None:
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        row = frame.iloc[place]
        where = f"{row['file']}, line {row['line']}"
        raise UserError(f"{where}: {column} is {row[column]!r}, expected {expected}")


def write_predictions(path: str | Path, rows: Iterable[Sequence[str]]) -> None:
    """Write rows of (cell, split, label, predicted), complete or not at all."""
    write_csv(path, PREDICTION_COLUMNS, rows)


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read a file of predictions; all columns are text."""
    return _read_csv(Path(path), PREDICTION_COLUMNS)


def write_probabilities(path: str | Path, classes: Sequence[str], values: NDArray[np.floating]) -> None:
    """Write the probability of each class for every row of a file of predictions, complete or not at all.

    Parameters
    ----------
    path
        A ``.npz``, ``<protocol>.probabilities.npz`` beside ``<protocol>.predictions.csv``.
    classes, values
        Class of each column; (n_rows, n_classes), kept as float32, NaN in rows without probabilities.
    """
    with atomic(path) as partial, open(partial, "wb") as handle:
        np.savez_compressed(handle, classes=np.array(classes, dtype=str), values=np.float32(values))


def read_probabilities(path: str | Path) -> tuple[NDArray[np.str_], NDArray[np.float32]]:
    """Read what :func:`write_probabilities` wrote: classes, and (n_rows, n_classes) values.

    Raises
    ------
    UserError
        For a file that is missing, damaged or of something else.
    """
    damaged = "not a whole file of probabilities ({}); score the row again"
    errors = (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error)
    with reading(path, damaged, *errors), np.load(path, allow_pickle=False) as stored:
        classes, values = stored["classes"], stored["values"]
    if values.ndim != 2 or values.shape[1] != len(classes):
        shapes = f"{values.shape} probabilities of {len(classes)} classes"
        raise UserError(f"{path}: {shapes}; score the row again")
    return classes, values


def probabilities_of(predictions: str | Path) -> Path:
    """The file of probabilities beside a file of predictions."""
    path = Path(predictions)
    return path.with_name(path.name.removesuffix("predictions.csv") + "probabilities.npz")


def _read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    frame = read_csv(path)
    if tuple(frame.columns) != tuple(columns):
        raise UserError(
            f"{path}: columns are {','.join(frame.columns)}; expected exactly {','.join(columns)}"
        )
    return frame
