"""The commands of the tasks: draw the splits of a data set, score a method on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import write_splits
from celllm.scores import scores
from celllm.tasks.folds import places, saved_splits
from celllm.tasks.runner import Runner, check_protocols, read_row, run_task
from celllm.tasks.task import task_of


def run_splits(
    task: str,
    cells: str | Path,
    data_set: str,
    out: str | Path,
    responses: str | Path | None = None,
    settings: Mapping[str, Any] | str | None = None,
) -> None:
    """Labelled cells, or pairs of a cell line and a drug -> saved splits.

    Parameters
    ----------
    task
        ``annotation``, ``drug_few_shot``, ``drug_full``, ``response_warm`` or ``response_cold``.
    cells
        Prepared ``.h5ad`` of labelled cells, or of cell lines.
    data_set
        Name of the data set (or of the screen).
    out
        The splits, JSON.
    responses
        For drug response, the table of responses that ``celllm responses`` wrote.
    settings
        :class:`celllm.corpus.settings.SplitSettings`, or for drug response
        :class:`celllm.corpus.settings.PairSplitSettings`, as mapping or JSON.

    Raises
    ------
    UserError
        For settings that make no split, and whatever reading the data refuses.
    """
    data = task_of(task).read(cells, responses)
    write_splits(out, data.draw(task, data_set, settings))


def run_score(
    cells: str | Path,
    data_set: str,
    genes: str | Path,
    splits: Sequence[str | Path],
    model: Mapping[str, Any] | str,
    protocols: Sequence[str],
    out: str | Path,
    responses: str | Path | None = None,
    settings: Mapping[str, Any] | str | None = None,
    seed: int = 0,
) -> None:
    """One method on all splits of a data set -> scores and predictions.

    Parameters
    ----------
    cells
        Prepared ``.h5ad`` of labelled cells, or of cell lines.
    data_set
        Its name in splits and scores.
    genes
        The vocabulary, ``genes.tsv``.
    splits
        Files that ``celllm splits`` wrote for this data set, one or more of one task: they say which it is.
    model
        The model's row with its ``name``, as mapping or JSON; that of a pre-trained encoder has the path of
        its file as ``encoder``. The scores of a row with ``replicate_of`` bear the name of that row, and
        their seed tells them from its own.
    protocols
        Some of ``strict``, ``no_refit`` and ``paper``, see :mod:`celllm.tasks.protocols`. A fit that two of
        them share is made once; all share what the method prepared for the data set.
    out
        Folder of all scores: ``<task>/<data set>/<name>/<protocol>.csv`` in it are those of this row
        (:mod:`celllm.scores.scores`), ``<protocol>.predictions.csv`` beside them what was predicted.
    responses
        For drug response, the table of responses that ``celllm responses`` wrote.
    settings
        Of the method, as mapping or JSON.
    seed
        Of the method; each split gets its own from it.

    Raises
    ------
    UserError
        For bad input. What happens while a split is fitted is a row instead.
    """
    row = read_row(model)
    check_protocols(protocols)
    saved = saved_splits(splits, data_set)
    kind = task_of(next(iter(saved.values())).task)
    task = kind.read(cells, responses, Vocabulary.read(genes))
    folds = {drawn.task: places(path, drawn, task.ids.tolist()) for path, drawn in saved.items()}
    runner = Runner.of_row(row, settings, seed, task)
    base = scores.of_row(task.table, data_set, row.get("replicate_of", row["name"]), seed)
    run_task(task, folds, runner, base, protocols, out, row["name"])
