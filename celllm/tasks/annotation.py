"""Tasks that give each cell a label: one method on all folds of a labelled data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from celllm import methods
from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import Parts, Rows
from celllm.errors import UserError
from celllm.methods.method import Labels, Part
from celllm.scores import metrics, scores
from celllm.scores.scores import Score
from celllm.settings import fill
from celllm.tasks.folds import read_tasks
from celllm.tasks.runner import Runner, check_protocols, read_row


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
    metrics: ClassVar[tuple[str, ...]] = metrics.CLASSIFICATION

    @classmethod
    def read(cls, path: str | Path, vocabulary: Vocabulary) -> Self:
        """Read a prepared ``.h5ad``; one without labels is a :class:`UserError`."""
        data = h5ad.read(path, vocabulary)
        if "label" not in data.obs:
            raise UserError(f"{path}: no obs['label']; this task needs a labelled data set")
        ids, labels = (np.asarray(names, dtype=str) for names in (data.obs_names, data.obs["label"]))
        genes = np.array([vocabulary.index_of[symbol] for symbol in data.var_names])
        return cls(Part(np.arange(data.n_obs), ids, data.X, labels), genes, vocabulary)

    def part(self, rows: Rows, labelled: bool = True) -> Part:
        """Some of the cells, with their labels or without."""
        cells = self.cells
        return Part(rows, cells.ids[rows], cells.counts[rows], cells.known[rows] if labelled else None)

    @property
    def ids(self) -> Labels:
        """Names of the cells."""
        return self.cells.ids

    @property
    def truth(self) -> Labels:
        """Labels of the cells."""
        return self.cells.known

    def measure(self, rows: Rows, predicted: Labels) -> dict[str, float]:
        """F1 and accuracy of labels predicted for some cells, over the classes of the data set."""
        return metrics.classification(self.truth[rows], predicted, np.unique(self.truth).tolist())


def make_runner(
    row: Mapping[str, Any],
    encoder: str | Path | None,
    settings: Mapping[str, Any] | str | None,
    seed: int,
    data: DataSet,
) -> Runner:
    """The method of a row with its settings; an encoder is read here.

    Raises
    ------
    UserError
        For an unknown method, wrong settings, or an encoder that is missing or of other genes.
    """
    if row["kind"] == "baseline":
        method = methods.method(row.get("method", row["name"]))
        return Runner(method, fill(method.settings, settings), seed)
    # PyTorch is not loaded for a baseline.
    from celllm.methods.celllm_labels import encoder_method

    method, chosen, on_gpu = encoder_method(encoder, row, settings, data.cells, data.genes, data.vocabulary)
    return Runner(method, chosen, seed, on_gpu)


def run_annotate(
    cells: str | Path,
    data_set: str,
    genes: str | Path,
    splits: Sequence[str | Path],
    model: Mapping[str, Any] | str,
    protocols: Sequence[str],
    out: str | Path,
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
        Files of saved folds of these cells, one for each task.
    model
        The model's row with its ``name``, as mapping or JSON.
    protocols
        ``strict``, ``paper`` or both, see :func:`celllm.tasks.folds.offer`. Together they share what the
        frozen layers of an encoder make of a cell, and a method that chooses nothing is fitted once for both.
    out
        Folder of all scores: ``<task>/<data set>/<model>/<protocol>.csv`` in it are those of this row
        (:mod:`celllm.scores.scores`), ``<protocol>.predictions.csv`` beside them the predicted labels.
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
    check_protocols(protocols)
    base = scores.of_row(table, data_set, row["name"], seed)
    data = DataSet.read(cells, Vocabulary.read(genes))
    tasks = read_tasks(splits, data_set, data.ids.tolist(), ["annotation"])
    run_tasks(data, tasks, row, base, protocols, out, encoder, settings)


def run_tasks(
    data: DataSet,
    tasks: Mapping[str, Sequence[Parts]],
    row: Mapping[str, Any],
    base: Score,
    protocols: Sequence[str],
    out: str | Path,
    encoder: str | Path | None = None,
    settings: Mapping[str, Any] | str | None = None,
) -> None:
    """Run a row's method on the folds of all tasks, which share what its frozen layers make of a cell.

    Raises
    ------
    UserError
        For an unknown method, wrong settings, or an encoder that is missing or of other genes.
    """
    runner = make_runner(row, encoder, settings, base.seed, data)
    runner.run(data, tasks, base, protocols, out)
