"""One method on all folds of a data set, under one protocol or more.

Each fold is fitted, its test part is predicted once and scored. Where two protocols offer a method the same
(one that chooses nothing), it is fitted once and the result stands under both. A fold that fails is a row of
the score file with its reason, so that a table can always be made; only mistakes in the input stop the
command.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from celllm import methods
from celllm.corpus.splits import Parts
from celllm.errors import UserError
from celllm.methods.method import Method, NotApplicableError
from celllm.scores import scores
from celllm.scores.scores import Score
from celllm.settings import as_settings
from celllm.tasks.cost import Meter
from celllm.tasks.folds import Offer, offer, refuse_leak
from celllm.tasks.task import Task, Values

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a fold; no predictions, and a reason, where it failed."""

    predicted: Values | None
    status: str
    reason: str
    seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Runner:
    """A method, and what it made of its settings, ready for the folds of a data set."""

    method: Method[Any, Any]
    prepared: Any
    seed: int

    @classmethod
    def of_row(
        cls, row: Mapping[str, Any], settings: Mapping[str, Any] | str | None, seed: int, task: Task
    ) -> Self:
        """The method of a model's row: its key ``method``, else ``encoder`` or, for a baseline, its name.

        Raises
        ------
        UserError
            For an unknown method, wrong settings, or an encoder that is missing or of other genes.
        """
        name = row.get("method", "encoder" if row["kind"] == "encoder" else row["name"])
        method = methods.look_up(name, task.methods)
        return cls(method, method.prepare(task.whole, as_settings(method.settings, settings), row), seed)

    def predict(self, data: Task, fold: Parts, offered: Offer, number: int) -> Values:
        """Fit on what is offered and predict the test part, once."""
        selection = None if offered.selection is None else data.part(offered.selection)
        predict = self.method.fit(
            data.part(offered.train), selection, self.prepared, seed_of(self.seed, number)
        )
        return _checked(predict(data.part(fold.test, labelled=False)), data.truth, len(fold.test))

    def attempt(self, data: Task, fold: Parts, offered: Offer, number: int) -> tuple[Values | None, str, str]:
        """Predictions, status and reason of a fold; no predictions where it failed."""
        try:
            return self.predict(data, fold, offered, number), scores.OK, ""
        except NotApplicableError as error:
            log.warning("fold %d: not applicable, %s", number, error)
            return None, *status_of(error)
        except Exception as error:
            log.exception("fold %d failed", number)
            return None, *status_of(error)

    def outcome(self, data: Task, fold: Parts, offered: Offer, number: int) -> Outcome:
        """Fit and predict a fold, and measure what it costs."""
        with Meter() as meter:
            predicted, status, reason = self.attempt(data, fold, offered, number)
        return Outcome(predicted, status, reason, meter.seconds, meter.peak_mib)

    def outcomes(self, data: Task, fold: Parts, number: int, protocols: Sequence[str]) -> list[Outcome]:
        """Outcome of a fold under each protocol; equal offers are fitted once.

        Raises
        ------
        LeakError
            When test rows are offered where a protocol forbids it.
        """
        found: list[tuple[Offer, Outcome]] = []
        for protocol in protocols:
            offered = offer(fold, protocol, self.method.chooses)
            refuse_leak(fold, protocol, offered)
            before = [outcome for other, outcome in found if other.equals(offered)]
            found.append((offered, before[0] if before else self.outcome(data, fold, offered, number)))
        return [outcome for _, outcome in found]


def run_task(
    task: Task,
    folds: Mapping[str, Sequence[Parts]],
    runner: Runner,
    base: Score,
    protocols: Sequence[str],
    out: str | Path,
) -> None:
    """Go through all folds of a data set and write scores and predictions.

    Scores go to ``<out>/<name>/<data set>/<model>/<protocol>.csv``, predictions beside them to
    ``<protocol>.predictions.csv``. Nothing is written of a name before all its folds are done.

    Parameters
    ----------
    task, folds
        The rows, and their saved folds by the name of the task they were drawn for.
    runner : Runner
        The method.
    base : Score
        Data set, model and seed of all scores.
    protocols : sequence of str
        See :func:`celllm.tasks.folds.offer`.
    out : path
        A folder.

    Raises
    ------
    LeakError
        When test rows are offered where a protocol forbids it.
    """
    for name, drawn in folds.items():
        rows: dict[str, list[Score]] = {protocol: [] for protocol in protocols}
        predicted: dict[str, list[tuple[str, ...]]] = {protocol: [] for protocol in protocols}
        for number, fold in enumerate(drawn):
            found = runner.outcomes(task, fold, number, protocols)
            for protocol, outcome in zip(protocols, found, strict=True):
                here = dataclasses.replace(base, task=name, protocol=protocol, split=str(number))
                rows[protocol] += _scored(task, fold, outcome, here)
                predicted[protocol] += _predicted(task, fold, outcome, number)
        folder = Path(out, name, base.data_set, base.model)
        for protocol in protocols:
            scores.write_predictions(folder / f"{protocol}.predictions.csv", predicted[protocol])
            scores.write(folder / f"{protocol}.csv", rows[protocol])


def _scored(data: Task, fold: Parts, outcome: Outcome, base: Score) -> list[Score]:
    """Scores of a fold, or rows that say why there are none."""
    costs = {name: getattr(outcome, name) for name in ("status", "reason", "seconds", "peak_mib")}
    base = dataclasses.replace(base, **costs)
    if outcome.predicted is None:
        return [dataclasses.replace(base, metric=name) for name in data.metrics]
    values = data.measure(fold.test, outcome.predicted)
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    where = f"{base.task}, fold {base.split}, {base.protocol}"
    log.info("%s: %s (%.1f s, %.0f MiB)", where, numbers, base.seconds, base.peak_mib)
    return scores.with_values(base, values)


def _predicted(data: Task, fold: Parts, outcome: Outcome, number: int) -> list[tuple[str, ...]]:
    """Rows of the file of predictions: name of the row, fold, truth, prediction."""
    if outcome.predicted is None:
        return []
    ids, truth = data.ids[fold.test], data.truth[fold.test]
    return [
        (str(i), str(number), str(t), str(p)) for i, t, p in zip(ids, truth, outcome.predicted, strict=True)
    ]


def _checked(predicted: Any, truth: Values, n: int) -> Values:
    """One value of the kind of the truth for each row, or a failed fold."""
    values = np.asarray(predicted, dtype=truth.dtype.type)
    if values.shape != (n,):
        raise ValueError(f"{values.size} values predicted for {n} test rows")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise FloatingPointError("a predicted value is not a finite number")
    return values


def status_of(error: Exception) -> tuple[str, str]:
    """Status and reason of a fold that ended with an error."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, NotApplicableError):
        return scores.NOT_APPLICABLE, " ".join(str(error).split())
    # PyTorch: "CUDA out of memory", and a plain RuntimeError of the allocator of the processor's memory.
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return scores.OUT_OF_MEMORY, text
    return scores.FAILED, text


def seed_of(seed: int, fold: int) -> int:
    """Seed of a fold, another for each (32 bits)."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def read_row(model: Mapping[str, Any] | str) -> dict[str, Any]:
    """The model's row from a mapping or JSON text.

    Raises
    ------
    UserError
        When it is neither, has no name, or is of no known kind.
    """
    try:
        row = json.loads(model) if isinstance(model, str) else dict(model)
    except json.JSONDecodeError as error:
        raise UserError(f"model: not valid JSON ({error})") from error
    if not isinstance(row, dict) or "name" not in row or row.get("kind") not in ("encoder", "baseline"):
        raise UserError("model: expected a row with the keys 'name' and 'kind' (encoder or baseline)")
    return row


def check_protocols(protocols: Sequence[str]) -> None:
    """Refuse a protocol that there is not, and none at all."""
    unknown = [name for name in protocols if name not in scores.PROTOCOLS]
    if unknown or not protocols:
        got = f"'{unknown[0]}'" if unknown else "none"
        raise UserError(f"protocols: expected some of {', '.join(scores.PROTOCOLS)}, got {got}")
