"""The commands of the tasks: draw the splits of a data set, score a method on them."""

import dataclasses
import logging
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celllm.cells import embeddings
from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import write_splits
from celllm.errors import UserError
from celllm.interruption import EXIT_INTERRUPTED, Interrupted, StopRequest
from celllm.methods.outside import file_of
from celllm.scores import scores
from celllm.tasks.elsewhere import take_scores
from celllm.tasks.fits import FitStore, Fitted, identity
from celllm.tasks.folds import places, saved_splits
from celllm.tasks.runner import Runner, check_protocols, read_row, run_task
from celllm.tasks.task import task_of
from celllm.training.attempts import Attempts

log = logging.getLogger(__name__)


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
    model: Mapping[str, Any] | str,
    protocols: Sequence[str],
    out: str | Path,
    responses: str | Path | None = None,
    settings: Mapping[str, Any] | str | None = None,
    seed: int = 0,
    attempts_left: int = 0,
    killed_by: int | None = None,
) -> int:
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
        their seed tells them from its own. What is made elsewhere stands under ``embedding`` or ``scores``.
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
    attempts_left
        How often this command is run again if it is killed, as by Snakemake with more memory: it then fails,
        and its finished fits are kept for the next attempt. The last attempt after two that were killed fits
        nothing more: what is missing is a row with the status ``out-of-memory`` (``failed`` after a crash).
        The finished fits stay, for who forces the row to be scored again with more memory.
    killed_by
        The signal that ended this attempt: where none is left, it writes such rows at once.

    Returns
    -------
    0, or :data:`EXIT_INTERRUPTED` when a signal asked to stop: the fits finished by then are kept.

    Raises
    ------
    UserError
        For bad input. What happens while a split is fitted is a row instead.
    """
    row = read_row(model)
    check_protocols(protocols)
    saved = saved_splits(splits, data_set)
    kind = task_of(next(iter(saved.values())).task)
    base = scores.of_row(kind.table, data_set, row.get("replicate_of", row["name"]), seed)
    if row["kind"] == "scores":
        take_scores(row, list(saved.values()), kind.metrics, base, protocols, out)
        return 0
    runner = Runner.of_row(row, settings, seed, kind)
    inputs = {"cells": cells, "genes": genes, "responses": responses, **files_of(row)}
    what = {"row": row, "settings": runner.settings.science(), "seed": seed, "data set": data_set}
    tasks = "+".join(sorted(splits.task for splits in saved.values()))
    store = FitStore(Path(out, ".fits", tasks, data_set, row["name"]), identity(inputs, what))
    if killed_by is not None and attempts_left:
        store.note_kill(attempts_left, killed_by)
        said = f"{_lost(killed_by).reason}; {store.n_kept} finished fits are kept for the next attempt"
        raise UserError(said)
    kills = [killed_by] if killed_by is not None else store.kills(attempts_left)
    lost = _lost(kills[0]) if killed_by is not None or (len(kills) > 1 and not attempts_left) else None
    store = dataclasses.replace(store, lost=lost)
    log.info("%d fits of an earlier attempt are kept", store.n_kept)
    try:
        with Attempts(store.folder, unit="fit") as attempts, StopRequest() as stop:
            attempts.started(store.n_kept)
            try:
                with stop.at_once():
                    task = kind.read(cells, responses, Vocabulary.read(genes))
                    folds = {
                        drawn.task: places(path, drawn, task.ids.tolist()) for path, drawn in saved.items()
                    }
                    runner = dataclasses.replace(runner if lost else runner.prepared(task, row), store=store)
                    complete = run_task(task, folds, runner, base, protocols, out, row["name"])
            except Interrupted as asked:
                log.warning(
                    "%s: stopped with %d finished fits; the same command resumes", asked, store.n_kept
                )
                attempts.interrupted(store.n_kept)
                return EXIT_INTERRUPTED
    except Exception:
        if not store.n_kept:  # nothing that another attempt could go on from
            store.clear()
        raise
    if complete:
        store.clear()
    return 0


def _lost(killed_by: int) -> Fitted:
    """What stands in for the fits that a killed process did not finish."""
    name = signal.Signals(killed_by).name
    if killed_by == signal.SIGKILL:
        reason = (
            f"killed from outside ({name}), as when memory runs out; give the job more (mem_mb in the "
            "profile), or lower token_budget or batch_size of its settings"
        )
        return Fitted(None, scores.OUT_OF_MEMORY, reason, 0.0, 0.0)
    return Fitted(None, scores.FAILED, f"the process crashed ({name})", 0.0, 0.0)


def files_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Files that a model's row names, by their keys; of a method from outside, the file that it is in."""
    words = {key: value for key, value in row.items() if isinstance(value, str)}
    files = {key: file_of(value) or value if key == "method" else value for key, value in words.items()}
    if "embedding" in files:
        parts = embeddings.files_of(files.pop("embedding"))
        files |= {f"embedding {number}": part for number, part in enumerate(parts)}
    return {key: file for key, file in files.items() if "." in file and Path(file).is_file()}
