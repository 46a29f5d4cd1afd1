"""Cell-line drug response: one method on all splits of a screen.

The prediction is ln IC50 (µM) of a drug on a cell line, from the expression of the line and the structure of
the drug (paper, section 4.2.2, Tables 3 and B.1).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celllm import methods
from celllm.cells.genes import Vocabulary
from celllm.scores import scores
from celllm.settings import fill
from celllm.tasks.folds import read_tasks
from celllm.tasks.runner import Runner, check_protocols, read_row
from celllm.tasks.screen import ScreenData

TASKS = ("response_warm", "response_cold")


def make_runner(
    row: Mapping[str, Any],
    encoder: str | Path | None,
    settings: Mapping[str, Any] | str | None,
    seed: int,
    data: ScreenData,
    vocabulary: Vocabulary,
) -> Runner:
    """The method of a row with its settings; an encoder is read here.

    Raises
    ------
    UserError
        For an unknown method, wrong settings, or an encoder that is missing or of other genes.
    """
    if row["kind"] == "baseline":
        method = methods.response_method(row.get("method", row["name"]))
        return Runner(method, fill(method.settings, settings), seed)
    # PyTorch is not loaded for a control.
    from celllm.methods.celllm_response import response_encoder_method

    method, chosen, on_gpu = response_encoder_method(encoder, row, settings, data, vocabulary)
    return Runner(method, chosen, seed, on_gpu)


def run_drug_response(
    cells: str | Path,
    responses: str | Path,
    data_set: str,
    genes: str | Path,
    splits: Sequence[str | Path],
    model: Mapping[str, Any] | str,
    protocols: Sequence[str],
    out: str | Path,
    encoder: str | Path | None = None,
    settings: Mapping[str, Any] | str | None = None,
    seed: int = 0,
    table: str = "table3",
) -> None:
    """Run one method on all splits of a screen.

    For this task the authors' released code chooses on a validation part; the paper does not say. Here
    ``paper`` chooses on the reported part, as their code for the other tasks and DeepCDR's own code do, so
    that ``paper`` minus ``strict`` means the same in all tables.

    Parameters
    ----------
    cells
        Prepared expression of cell lines, ``.h5ad``.
    responses
        Table of responses, what ``celllm responses`` writes.
    data_set
        Name of the screen in splits and scores.
    genes
        The vocabulary, ``genes.tsv``.
    splits
        Files of saved splits of these pairs, what ``celllm pair-splits`` writes, for ``response_warm``,
        ``response_cold`` or both.
    model
        The model's row with its ``name``, as mapping or JSON.
    protocols
        ``strict``, ``paper`` or both, see :func:`celllm.tasks.folds.offer`.
    out
        Folder of all scores: ``<task>/<data set>/<model>/<protocol>.csv`` in it are those of this row
        (:mod:`celllm.scores.scores`), ``<protocol>.predictions.csv`` beside them the predicted ln IC50.
    encoder
        The pre-trained encoder, for rows of that kind.
    settings
        Of the encoder's training (:class:`celllm.training.finetune_response.ResponseSettings`) or of the
        baseline, as mapping or JSON.
    seed
        Of the method; each split gets its own from it.
    table
        The paper's table that the scores are made for.

    Raises
    ------
    UserError
        For bad input. What happens while a split is fitted is a row instead.
    """
    row = read_row(model)
    check_protocols(protocols)
    vocabulary = Vocabulary.read(genes)
    data = ScreenData.read(cells, responses, vocabulary)
    tasks = read_tasks(splits, data_set, data.ids.tolist(), TASKS)
    runner = make_runner(row, encoder, settings, seed, data, vocabulary)
    base = scores.of_row(table, data_set, row["name"], seed)
    runner.run(data, tasks, base, protocols, out)
