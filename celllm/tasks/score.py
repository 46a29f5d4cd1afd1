"""The commands of the tasks: draw the splits of a data set, score a method on them."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from celllm.cells import embeddings
from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import Parts, write_splits
from celllm.methods.outside import file_of
from celllm.scores import scores
from celllm.scores.scores import Score
from celllm.tasks.elsewhere import take_scores
from celllm.tasks.fits import FitStore, identity
from celllm.tasks.folds import places, saved_splits
from celllm.tasks.job import Job, run_all
from celllm.tasks.runner import Runner, check_protocols, read_rows, run_task
from celllm.tasks.task import Task, task_of


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
        ``annotation``, ``drug_few_shot``, ``drug_full``, ``response_warm`` or ``response_cold``; with whole
        groups held out ``annotation_donor``, ``drug_patient``, ``response_tissue`` or ``response_drug``.
    cells
        Prepared ``.h5ad`` of labelled cells, or of cell lines.
    data_set
        Name of the data set (or of the screen).
    out
        The splits, JSON.
    responses
        For drug response, the table of responses that ``celllm responses`` wrote.
    settings
        :class:`celllm.corpus.settings.SplitSettings`, for drug response
        :class:`celllm.corpus.settings.PairSplitSettings`, for held-out groups
        :class:`celllm.corpus.settings.GroupSplitSettings`, as mapping or JSON.

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
    model: Mapping[str, Any] | Sequence[Mapping[str, Any]] | str,
    protocols: Sequence[str],
    out: str | Path,
    responses: str | Path | None = None,
    settings: Mapping[str, Any] | str | None = None,
    seed: int = 0,
    attempt: int = 1,
    attempts: int = 1,
    apart: bool = False,
) -> int:
    """One method, or several in turn, on all splits of a data set -> scores and predictions.

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
        The model's row with its ``name``, as mapping or JSON, or a list of rows with their ``settings``. That
        of a pre-trained encoder has the path of its file as ``encoder``. The scores of a row with
        ``replicate_of`` bear the name of that row, and their seed tells them from its own. What is made
        elsewhere stands under ``embedding`` or ``scores``.
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
    attempt, attempts
        Number of times that a workflow has begun this command, this time included, and how often it does, as
        with more memory after a kill: finished fits are kept from one to the next. What the last one cannot
        finish for a kill is a row with the status ``out-of-memory`` (``failed`` after a crash); see
        :class:`celllm.tasks.job.Job`.
    apart
        Do the work of each row in a child process of its own: where that is killed, this command lives on.
        Several rows share the reading of the data.

    Returns
    -------
    0, or :data:`EXIT_INTERRUPTED` when a signal asked to stop: the fits finished by then are kept.

    Raises
    ------
    UserError
        For bad input, and for an attempt that was killed. What happens while a split is fitted is a row
        instead.
    """
    rows = read_rows(model)
    check_protocols(protocols)
    saved = saved_splits(splits, data_set)
    kind = task_of(next(iter(saved.values())).task)
    tasks = "+".join(sorted(splits.task for splits in saved.values()))

    @cache
    def data() -> tuple[Task, dict[str, list[Parts]]]:
        task = kind.read(cells, responses, Vocabulary.read(genes))
        return task, {drawn.task: places(path, drawn, task.ids.tolist()) for path, drawn in saved.items()}

    def work(row: Mapping[str, Any], runner: Runner, base: Score, store: FitStore) -> bool:
        task, folds = data()
        ready = dataclasses.replace(runner if store.lost else runner.prepared(task, row), store=store)
        return run_task(task, folds, ready, base, protocols, out, row["name"])

    jobs = []
    for row in rows:
        base = scores.of_row(kind.table, data_set, row.get("replicate_of", row["name"]), seed)
        if row["kind"] == "scores":
            take_scores(row, list(saved.values()), kind.metrics, base, protocols, out)
            continue
        runner = Runner.of_row(row, row.pop("settings", settings), seed, kind)
        inputs = {"cells": cells, "genes": genes, "responses": responses, **files_of(row)}
        what = {"row": row, "settings": runner.settings.science(), "seed": seed, "data set": data_set}
        store = FitStore(Path(out, ".fits", tasks, data_set, row["name"]), identity(inputs, what))
        jobs.append(Job(store, partial(work, row, runner, base), attempt, attempts))
    if len(jobs) > 1:
        data()  # here, so that all child processes share it
    return run_all(jobs, apart)


def files_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Files that a model's row names, by their keys; of a method from outside, the file that it is in."""
    words = {key: value for key, value in row.items() if isinstance(value, str)}
    files = {key: file_of(value) or value if key == "method" else value for key, value in words.items()}
    if "embedding" in files:
        parts = embeddings.files_of(files.pop("embedding"))
        files |= {f"embedding {number}": part for number, part in enumerate(parts)}
    return {key: file for key, file in files.items() if "." in file and Path(file).is_file()}
