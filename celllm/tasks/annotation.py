"""Cell annotation: one method on all folds of a labelled data set, under one protocol.

Each fold is fitted, its test cells are predicted once and scored. A fold that fails is a row of the score
file with its reason, so that a table can always be made; only mistakes in the input stop the command.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from celllm import baselines
from celllm.baselines.method import Labels, Method, NotApplicableError, Part
from celllm.data import prepared
from celllm.data.genes import Vocabulary
from celllm.data.splits import Parts, Rows
from celllm.errors import UserError
from celllm.evaluation import metrics, scores
from celllm.evaluation.scores import Score
from celllm.settings import fill
from celllm.tasks.cost import Meter
from celllm.tasks.folds import LeakError, offer, read_folds, refuse_leak

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSet:
    """Labelled cells and the genes of the run.

    Attributes
    ----------
    cells : Part
        All cells, with labels.
    genes : int64 array
        Vocabulary index of each column of the counts.
    vocabulary : Vocabulary
        The genes of the run.
    """

    cells: Part
    genes: Rows
    vocabulary: Vocabulary

    @classmethod
    def read(cls, path: str | Path, vocabulary: Vocabulary) -> "DataSet":
        """Read a prepared ``.h5ad``; one without labels is a :class:`UserError`."""
        data = prepared.read(path, vocabulary)
        if "label" not in data.obs:
            raise UserError(f"{path}: no obs['label']; cell annotation needs a labelled data set")
        ids, labels = (np.asarray(names, dtype=str) for names in (data.obs_names, data.obs["label"]))
        genes = np.array([vocabulary.index_of[symbol] for symbol in data.var_names])
        return cls(Part(np.arange(data.n_obs), ids, data.X, labels), genes, vocabulary)

    def part(self, rows: Rows, labelled: bool = True) -> Part:
        """Some of the cells, with their labels or without."""
        cells = self.cells
        return Part(rows, cells.ids[rows], cells.counts[rows], cells.known[rows] if labelled else None)


@dataclass(frozen=True)
class Runner:
    """A method with its settings, ready for the folds of a data set."""

    method: Method
    settings: Any
    protocol: str
    seed: int
    on_gpu: bool = False

    def predict(self, data: DataSet, fold: Parts, number: int) -> Labels:
        """Fit on what the protocol offers and predict the test cells, once.

        Raises
        ------
        LeakError
            When test cells are offered where the protocol forbids it.
        """
        offered = offer(fold, self.protocol, self.method.chooses)
        refuse_leak(fold, self.protocol, offered)
        selection = None if offered.selection is None else data.part(offered.selection)
        predict = self.method.fit(
            data.part(offered.train), selection, self.settings, seed_of(self.seed, number)
        )
        labels = np.asarray(predict(data.part(fold.test, labelled=False)), dtype=str)
        if labels.shape != fold.test.shape:
            raise ValueError(f"{labels.size} labels predicted for {len(fold.test)} cells")
        return labels

    def attempt(self, data: DataSet, fold: Parts, number: int) -> tuple[Labels | None, str, str]:
        """Predictions, status and reason of a fold; no predictions where it failed."""
        try:
            return self.predict(data, fold, number), scores.OK, ""
        except LeakError:
            raise
        except Exception as error:
            log.exception("fold %d failed", number)
            return None, *status_of(error)

    def score(
        self, data: DataSet, fold: Parts, number: int, base: Score
    ) -> tuple[list[Score], Labels | None]:
        """Scores of a fold and its predictions; rows that say why, and None, where it failed."""
        with Meter(self.on_gpu) as meter:
            labels, status, reason = self.attempt(data, fold, number)
        base = dataclasses.replace(
            base,
            split=str(number),
            status=status,
            reason=reason,
            seconds=meter.seconds,
            peak_mib=meter.peak_mib,
        )
        if labels is None:
            return [dataclasses.replace(base, metric=name) for name in metrics.CLASSIFICATION], None
        known = data.cells.known
        values = metrics.classification(known[fold.test], labels, np.unique(known).tolist())
        told = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
        log.info("fold %d: %s (%.1f s, %.0f MiB)", number, told, meter.seconds, meter.peak_mib)
        return scores.with_values(base, values), labels


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


def make_runner(
    row: Mapping[str, Any],
    encoder: str | Path | None,
    settings: Mapping[str, Any] | str | None,
    protocol: str,
    seed: int,
    data: DataSet,
) -> Runner:
    """The method of a row with its settings; an encoder is read here.

    Raises
    ------
    UserError
        For an unknown method or protocol, wrong settings, or an encoder that is missing or of other genes.
    """
    if protocol not in scores.PROTOCOLS:
        raise UserError(f"protocol: expected one of {', '.join(scores.PROTOCOLS)}, got '{protocol}'")
    if row["kind"] == "baseline":
        method = baselines.method(row.get("method", row["name"]))
        return Runner(method, fill(method.settings, settings), protocol, seed)
    # PyTorch is not loaded for a baseline.
    from celllm.tasks.encoder_method import encoder_method

    method, chosen, on_gpu = encoder_method(encoder, row, settings, data.cells, data.genes, data.vocabulary)
    return Runner(method, chosen, protocol, seed, on_gpu)


def run_annotate(
    cells: str | Path,
    data_set: str,
    genes: str | Path,
    splits: str | Path,
    model: Mapping[str, Any] | str,
    protocol: str,
    out: str | Path,
    predictions: str | Path,
    encoder: str | Path | None = None,
    settings: Mapping[str, Any] | str | None = None,
    seed: int = 0,
    table: str = "table1",
) -> None:
    """Run one method on all folds of a data set.

    Parameters
    ----------
    cells
        Prepared ``.h5ad`` with ``obs["label"]``.
    data_set
        Its name in splits and scores.
    genes
        The vocabulary, ``genes.tsv``.
    splits
        Saved folds of these cells.
    model
        The model's row with its ``name``, as mapping or JSON.
    protocol
        ``strict`` or ``paper``, see :func:`celllm.tasks.folds.offer`.
    out, predictions
        Outputs: scores (:mod:`celllm.evaluation.scores`) and predicted labels, CSV.
    encoder
        The pre-trained encoder, for rows of that kind.
    settings
        Of fine-tuning (:class:`celllm.training.finetune.FinetuneSettings`) or of the baseline, as mapping or
        JSON.
    seed
        Of the method; each fold gets its own from it.
    table
        The paper's table that the scores are made for.

    Raises
    ------
    UserError
        For bad input. What happens while a fold is fitted is a row instead.
    """
    row = read_row(model)
    data = DataSet.read(cells, Vocabulary.read(genes))
    folds = read_folds(splits, data_set, data.cells.ids.tolist())
    runner = make_runner(row, encoder, settings, protocol, seed, data)
    base = Score(
        table, "annotation", data_set, row["name"], protocol, "", seed, "", None, scores.OK, 0.0, 0.0
    )
    rows: list[Score] = []
    predicted: list[tuple[str, str, str, str]] = []
    for number, fold in enumerate(folds):
        fold_scores, labels = runner.score(data, fold, number, base)
        rows += fold_scores
        if labels is not None:
            ids, truth = data.cells.ids[fold.test], data.cells.known[fold.test]
            predicted += [(c, str(number), t, p) for c, t, p in zip(ids, truth, labels, strict=True)]
    scores.write_predictions(predictions, predicted)
    scores.write(out, rows)
