"""One method on all folds of a data set, under one protocol or more.

Each fold is fitted, its test part is predicted and scored. A fit that two protocols share is made once, and
one that a search of another protocol comes by is read off there. A fold that fails is a row of the score file
with its reason, so that a table can always be made; only mistakes in the input stop the command.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from celllm import methods
from celllm.corpus.splits import Parts
from celllm.errors import NotTrainedError, UserError, one_line
from celllm.meter import Meter
from celllm.methods.method import Method, NotApplicableError, Probabilities
from celllm.scores import scores
from celllm.scores.columns import HELD_OUT
from celllm.scores.scores import Score
from celllm.settings import as_settings
from celllm.tasks.fits import FitStore, Fitted, Predicted
from celllm.tasks.protocols import Rule, refuse_leak, rows_of_part
from celllm.tasks.task import Task

log = logging.getLogger(__name__)

KINDS = ("encoder", "baseline", "embedding", "scores")
"""Kinds of rows: our encoders, methods, embeddings and scores made elsewhere."""


@dataclass(frozen=True)
class Passing:
    """A fit with chosen settings, to be read off a search that comes by them."""

    chosen: Mapping[str, Any]
    keep: Callable[[Fitted], None]


@dataclass(frozen=True)
class Runner:
    """A method with its settings, ready for the folds of a data set."""

    method: Method[Any, Any]
    settings: Any
    seed: int
    store: FitStore | None = None
    shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    failure: Exception | None = None  # of the method's `prepare`: every fold fails with it

    @classmethod
    def of_row(
        cls, row: Mapping[str, Any], settings: Mapping[str, Any] | str | None, seed: int, task: type[Task]
    ) -> Self:
        """The method of a model's row: its key ``method``, else ``encoder`` or, for a baseline, its name.

        Raises :class:`UserError` for an unknown method, wrong settings, or an encoder that is missing or of
        other genes.
        """
        if row["kind"] == "embedding":
            if task.methods is not methods.CELLS:
                raise UserError(f"model {row['name']}: embeddings are of cells; drug response takes none")
            method = methods.look_up(row.get("head", "linear"), methods.HEADS)
        else:
            name = row.get("method", "encoder" if row["kind"] == "encoder" else row["name"])
            method = methods.look_up(name, task.methods)
        return cls(method, as_settings(method.settings, settings), seed)

    def prepared(self, task: Task, row: Mapping[str, Any]) -> Self:
        """With what the method prepares once for a data set; ``missing`` says why a row does not apply."""
        if "missing" in row:
            return dataclasses.replace(self, failure=NotApplicableError(row["missing"]))
        if self.method.prepare is None:
            return self
        try:
            shared = self.method.prepare(task.whole, self.settings, row)
        except NotTrainedError as error:
            log.warning("%s: %s", row["name"], error)
            return dataclasses.replace(self, failure=error)
        except UserError:
            raise
        except Exception as error:
            log.exception("%s: its preparation failed", row["name"])
            return dataclasses.replace(self, failure=error)
        return dataclasses.replace(self, shared={"shared": shared})

    def outcomes(
        self, task: Task, fold: Parts, number: int, protocols: Sequence[str], name: str = ""
    ) -> list[Fitted]:
        """Outcome of a fold under each protocol; fits that two of them share are made once.

        A fit with chosen settings (``strict``) is read off a search on the same rows (``paper`` in cell
        annotation), where one is to be made anyway and comes by these settings. What is read off there
        does not depend on what the search looks at, which are labels of the test part; a search that ends
        earlier, or fails, leaves the fit to be made.

        ``name`` is that of the task in the files of splits: fits that the store has of it are not made again.

        Raises :class:`LeakError` when test rows are offered where a protocol forbids it.
        """
        rules = {protocol: task.rules[protocol] for protocol in protocols}
        for protocol, rule in rules.items():
            refuse_leak(fold, protocol, rule)
        searches = {rule.learn: rule.choose for rule in rules.values()} if self.method.announces else {}
        made: dict[tuple[str, ...], Fitted] = {}

        def keep(key: tuple[str, ...], fitted: Fitted) -> None:
            made[key] = fitted
            if self.store:
                self.store.write(self.store.place(name, fold, number, *key), fitted)

        def is_kept(key: tuple[str, ...]) -> bool:
            if key not in made and self.store:
                kept = self.store.read(self.store.place(name, fold, number, *key))
                made.update({key: kept} if kept else {})
            return key in made

        def fitted(
            learn: str,
            choose: str = "",
            chosen: Mapping[str, Any] | None = None,
            passing: Passing | None = None,
        ) -> Fitted:
            key = learn, choose, json.dumps(chosen, sort_keys=True)
            if is_kept(key):
                return made[key]
            if chosen is not None and learn in searches:
                fitted(learn, searches[learn], passing=Passing(chosen, partial(keep, key)))
            if key not in made:
                keep(key, self.fitted(task, fold, number, learn, choose, chosen or {}, passing))
            return made[key]

        # Those that fit again come first: their fits may be read off the searches of the others.
        in_order = sorted(rules, key=lambda protocol: not rules[protocol].refit)
        found = {protocol: self.outcome(rules[protocol], fitted) for protocol in in_order}
        return [found[protocol] for protocol in protocols]

    def outcome(self, rule: Rule, fitted: Callable[..., Fitted]) -> Fitted:
        """Outcome of a fold under the rule of a protocol; ``fitted`` makes a fit, or knows it."""
        if self.method.choose is None:
            return fitted("both" if rule.refit else rule.learn)
        first = fitted(rule.learn, rule.choose)
        if first.predicted is None or not rule.refit:
            return dataclasses.replace(first, predicted=first.last) if rule.last and first.last else first
        again = fitted("both", chosen=first.chosen)
        seconds, peak_mib = first.seconds + again.seconds, max(first.peak_mib, again.peak_mib)
        return dataclasses.replace(again, seconds=seconds, peak_mib=peak_mib)

    def fitted(
        self,
        task: Task,
        fold: Parts,
        number: int,
        learn: str,
        choose: str,
        chosen: Mapping[str, Any],
        passing: Passing | None = None,
    ) -> Fitted:
        """Learn from a part and predict the test part, and measure what both cost.

        Settings are chosen on the part ``choose``, or are those ``chosen`` before.
        """
        found: dict[str, Any] = {"predicted": None, "status": scores.OK, "reason": ""}

        def announce(settings: Mapping[str, Any], predict: Callable[[Any], Any], seconds: float) -> None:
            if passing is None or settings != passing.chosen:
                return
            start = time.perf_counter()
            try:
                predicted = _of_test(task, fold, predict)
            except Exception:
                log.exception(
                    "fold %d: no prediction on the way with %s; it is fitted for that", number, settings
                )
                return
            meter.read()
            seconds += time.perf_counter() - start
            passing.keep(Fitted(predicted, scores.OK, "", seconds, meter.peak_mib))

        with Meter() as meter:
            try:
                if self.failure is not None:
                    raise self.failure
                settings = self.settings.changed(**chosen)
                train, seed = task.part(rows_of_part(fold, learn)), seed_of(self.seed, number)
                if not choose:
                    model = self.method.fit(train, settings, seed, **self.shared)
                    found["predicted"] = _of_test(task, fold, model)
                else:
                    assert self.method.choose is not None
                    selection = task.part(rows_of_part(fold, choose))
                    more = dict(self.shared) | ({"announce": announce} if passing else {})
                    choice = self.method.choose(train, selection, settings, seed, **more)
                    last = _of_test(task, fold, choice.last) if choice.last else None
                    chosen = json.loads(json.dumps(choice.settings))  # what is no JSON fails the fold only
                    predicted = _of_test(task, fold, choice.predict)
                    found |= {"predicted": predicted, "last": last, "chosen": chosen}
            except NotApplicableError as error:
                log.warning("fold %d: not applicable, %s", number, error)
                found["status"], found["reason"] = status_of(error)
            except (Exception, SystemExit) as error:
                log.exception("fold %d failed", number)
                found["status"], found["reason"] = status_of(error)
        return Fitted(seconds=meter.seconds, peak_mib=meter.peak_mib, **found)


def run_task(
    task: Task,
    folds: Mapping[str, Sequence[Parts]],
    runner: Runner,
    base: Score,
    protocols: Sequence[str],
    out: str | Path,
    folder: str = "",
) -> bool:
    """Go through all folds of a data set and write scores and predictions.

    Scores go to ``<out>/<name>/<data set>/<folder>/<protocol>.csv``, predictions beside them to
    ``<protocol>.predictions.csv`` and, where the task has classes, their probabilities to
    ``<protocol>.probabilities.npz``. Nothing is written of a name before all its folds are done; until then
    finished fits are in the runner's store.

    ``folds`` are saved ones, by the name of the task they were drawn for; ``base`` holds data set, model and
    seed of all scores. Without a ``folder`` of this row it is the name of its model.

    Returns whether all fits came to their end; test rows offered where a protocol
    (:mod:`celllm.tasks.protocols`) forbids it raise :class:`LeakError`.
    """
    complete = True
    for name, drawn in folds.items():
        rows: dict[str, list[Score]] = {protocol: [] for protocol in protocols}
        outcomes: dict[str, list[Fitted]] = {protocol: [] for protocol in protocols}
        for number, fold in enumerate(drawn):
            found = runner.outcomes(task, fold, number, protocols, name)
            complete &= all(outcome.status in (scores.OK, scores.NOT_APPLICABLE) for outcome in found)
            for protocol, outcome in zip(protocols, found, strict=True):
                table = "table_s3" if name in HELD_OUT else base.table
                here = dataclasses.replace(base, table=table, task=name, protocol=protocol, split=str(number))
                rows[protocol] += _scored(task, fold, outcome, here)
                outcomes[protocol].append(outcome)
        place = Path(out, name, base.data_set, folder or base.model)
        for protocol in protocols:
            path = place / f"{protocol}.predictions.csv"
            scores.write_predictions(path, _predicted(task, drawn, outcomes[protocol]))
            if task.truth.dtype.kind == "U":
                scores.write_probabilities(scores.probabilities_of(path), *_probabilities(outcomes[protocol]))
            scores.write(place / f"{protocol}.csv", rows[protocol])
    return complete


def _scored(data: Task, fold: Parts, outcome: Fitted, base: Score) -> list[Score]:
    """Scores of a fold, or rows that say why there are none."""
    costs = {name: getattr(outcome, name) for name in ("status", "reason", "seconds", "peak_mib")}
    base = dataclasses.replace(base, **costs)
    if outcome.predicted is None:
        return [dataclasses.replace(base, metric=name) for name in data.metrics]
    values = data.measure(fold.test, outcome.predicted.values, outcome.predicted.probabilities)
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
    where = f"{base.task}, fold {base.split}, {base.protocol}"
    log.info("%s: %s (%.1f s, %.0f MiB)", where, numbers, base.seconds, base.peak_mib)
    return scores.with_values(base, values)


def _predicted(data: Task, folds: Sequence[Parts], outcomes: Sequence[Fitted]) -> Iterator[tuple[str, ...]]:
    """Rows of the file of predictions: name of the row, fold, truth, prediction."""
    for number, (fold, outcome) in enumerate(zip(folds, outcomes, strict=True)):
        if outcome.predicted is not None:
            found = zip(data.ids[fold.test], data.truth[fold.test], outcome.predicted.values, strict=True)
            yield from ((str(i), str(number), str(t), str(p)) for i, t, p in found)


def _probabilities(outcomes: Sequence[Fitted]) -> tuple[list[str], NDArray[np.float32]]:
    """Classes, and their probabilities for all predicted rows; NaN where a method names labels only."""
    found = [outcome.predicted for outcome in outcomes if outcome.predicted is not None]
    known = {name for one in found if one.probabilities for name in one.probabilities.classes.tolist()}
    classes = sorted(known)
    blocks = []
    for one in found:
        block = np.full((len(one.values), len(classes)), 0.0 if one.probabilities else np.nan, np.float32)
        if one.probabilities:
            block[:, np.searchsorted(classes, one.probabilities.classes)] = one.probabilities.values
        blocks.append(block)
    return classes, np.concatenate(blocks) if blocks else np.empty((0, len(classes)), np.float32)


def _of_test(task: Task, fold: Parts, predict: Callable[[Any], Any]) -> Predicted:
    """What a model predicts of the test part, which it sees without what is known of it.

    That is one value of the kind of the truth for each row, or a failed fold.
    """
    predicted = predict(task.part(fold.test, labelled=False))
    truth, n, probabilities = task.truth, len(fold.test), None
    if isinstance(predicted, Probabilities):
        shares, classes = np.asarray(predicted.values), np.asarray(predicted.classes)
        if shares.shape != (n, len(classes)):
            shape = " x ".join(map(str, shares.shape))
            raise ValueError(f"{shape} probabilities predicted for {n} test rows and {len(classes)} classes")
        if not np.isfinite(shares).all():
            raise FloatingPointError("a predicted probability is not a finite number")
        if shares.min(initial=0) < 0 or np.abs(shares.sum(axis=1) - 1).max(initial=0) > 1e-3:
            raise ValueError("predicted probabilities are negative, or do not add up to 1")
        # As they are saved, so that calibration is that of the file.
        probabilities = Probabilities(predicted.values.astype(np.float32), predicted.classes)
        predicted = predicted.labels
    values = np.asarray(predicted, dtype=truth.dtype.type)
    if values.shape != (n,):
        raise ValueError(f"{values.size} values predicted for {n} test rows")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise FloatingPointError("a predicted value is not a finite number")
    if values.dtype.kind == "U" and (foreign := np.setdiff1d(values, truth)).size:
        raise ValueError(f"predicted '{foreign[0]}', which is no label of the data set")
    return Predicted(values, probabilities)


def status_of(error: BaseException) -> tuple[str, str]:
    """Status and reason of a fold that ended with an error."""
    text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, NotApplicableError):
        return scores.NOT_APPLICABLE, one_line(error)
    if isinstance(error, NotTrainedError):
        text = one_line(error)
    # PyTorch: "CUDA out of memory", and a plain RuntimeError of the allocator of the processor's memory.
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return scores.OUT_OF_MEMORY, text
    return scores.FAILED, text


def seed_of(seed: int, fold: int) -> int:
    """Seed of a fold, another for each (32 bits)."""
    return int(np.random.SeedSequence([seed, fold]).generate_state(1)[0])


def read_rows(models: Mapping[str, Any] | Sequence[Mapping[str, Any]] | str) -> list[dict[str, Any]]:
    """The row of a model, or those of several, from mappings or JSON text.

    Raises :class:`UserError` for anything else, a row without a name or of no known kind, and two rows of one
    name.
    """
    try:
        found = json.loads(models) if isinstance(models, str) else models
    except json.JSONDecodeError as error:
        raise UserError(f"model: not valid JSON ({error})") from error
    rows: list[Any] = list(found) if isinstance(found, list | tuple) else [found]
    for row in rows:
        if not isinstance(row, Mapping) or "name" not in row or row.get("kind") not in KINDS:
            expected = f"'name' and 'kind' (one of {', '.join(KINDS)})"
            raise UserError(f"model: expected a row with the keys {expected}")
    names = [row["name"] for row in rows]
    if not rows or len(set(names)) < len(names):
        raise UserError(f"model: expected rows of different names, got {', '.join(names) or 'none'}")
    return [dict(row) for row in rows]


def check_protocols(protocols: Sequence[str]) -> None:
    """Refuse a protocol that there is not, and none at all."""
    unknown = [name for name in protocols if name not in scores.PROTOCOLS]
    if unknown or not protocols:
        got = f"'{unknown[0]}'" if unknown else "none"
        raise UserError(f"protocols: expected some of {', '.join(scores.PROTOCOLS)}, got {got}")
