"""One method on all folds of a data set, under one protocol: what the tasks have in common.

Each fold is fitted, its test part is predicted once and scored. A fold that fails is a row of the score file
with its reason, so that a table can always be made; only mistakes in the input stop the command.
"""

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from celllm.baselines.method import Method, NotApplicableError
from celllm.data.splits import Parts, Rows
from celllm.errors import UserError
from celllm.evaluation import scores
from celllm.evaluation.scores import Score
from celllm.tasks.cost import Meter
from celllm.tasks.folds import LeakError, offer, refuse_leak

log = logging.getLogger(__name__)

Values = NDArray[Any]


class Data(Protocol):
    """What a task offers of its data: rows are cells, or pairs of a cell line and a drug."""

    @property
    def ids(self) -> NDArray[np.str_]:
        """Names of the rows."""

    @property
    def truth(self) -> Values:
        """What is to be predicted of each row: labels or numbers."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the values that :meth:`measure` returns."""

    def part(self, rows: Rows, labelled: bool = True) -> Any:
        """Some of the rows as the methods take them, with what is known of them or without."""

    def measure(self, rows: Rows, predicted: Values) -> dict[str, float]:
        """Metrics of the predictions of some rows."""


@dataclass(frozen=True)
class Runner:
    """A method with its settings, ready for the folds of a data set."""

    method: Method[Any, Any]
    settings: Any
    protocol: str
    seed: int
    on_gpu: bool = False

    def predict(self, data: Data, fold: Parts, number: int) -> Values:
        """Fit on what the protocol offers and predict the test part, once.

        Raises
        ------
        LeakError
            When test rows are offered where the protocol forbids it.
        """
        offered = offer(fold, self.protocol, self.method.chooses)
        refuse_leak(fold, self.protocol, offered)
        selection = None if offered.selection is None else data.part(offered.selection)
        predict = self.method.fit(
            data.part(offered.train), selection, self.settings, seed_of(self.seed, number)
        )
        return _checked(predict(data.part(fold.test, labelled=False)), data.truth, len(fold.test))

    def attempt(self, data: Data, fold: Parts, number: int) -> tuple[Values | None, str, str]:
        """Predictions, status and reason of a fold; no predictions where it failed."""
        try:
            return self.predict(data, fold, number), scores.OK, ""
        except LeakError:
            raise
        except NotApplicableError as error:
            log.warning("fold %d: not applicable, %s", number, error)
            return None, *status_of(error)
        except Exception as error:
            log.exception("fold %d failed", number)
            return None, *status_of(error)

    def score(self, data: Data, fold: Parts, number: int, base: Score) -> tuple[list[Score], Values | None]:
        """Scores of a fold and its predictions; rows that say why, and None, where it failed."""
        with Meter(self.on_gpu) as meter:
            predicted, status, reason = self.attempt(data, fold, number)
        base = dataclasses.replace(
            base,
            split=str(number),
            status=status,
            reason=reason,
            seconds=meter.seconds,
            peak_mib=meter.peak_mib,
        )
        if predicted is None:
            return [dataclasses.replace(base, metric=name) for name in data.metrics], None
        values = data.measure(fold.test, predicted)
        told = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        log.info("fold %d: %s (%.1f s, %.0f MiB)", number, told, meter.seconds, meter.peak_mib)
        return scores.with_values(base, values), predicted

    def run(
        self, data: Data, folds: Iterable[Parts], base: Score, out: str | Path, predictions: str | Path
    ) -> None:
        """Go through all folds and write the scores and the predictions of the test parts."""
        rows: list[Score] = []
        found: list[tuple[str, str, str, str]] = []
        for number, fold in enumerate(folds):
            fold_scores, predicted = self.score(data, fold, number, base)
            rows += fold_scores
            if predicted is not None:
                ids, truth = data.ids[fold.test], data.truth[fold.test]
                found += [
                    (str(i), str(number), str(t), str(p))
                    for i, t, p in zip(ids, truth, predicted, strict=True)
                ]
        scores.write_predictions(predictions, found)
        scores.write(out, rows)


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


def check_protocol(protocol: str) -> None:
    """Refuse a protocol that there is not."""
    if protocol not in scores.PROTOCOLS:
        raise UserError(f"protocol: expected one of {', '.join(scores.PROTOCOLS)}, got '{protocol}'")
