"""Single-cell drug sensitivity: is a cell sensitive or resistant to a drug (paper, section 4.2.2, Table 2).

Cell annotation with two classes: the same methods, protocols, costs and failures. What differs is the score,
the F1 of the sensitive cells, and how the training side is drawn: 5 % (few-shot) or 80 % (full data) of the
cells, five times each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import Rows
from celllm.errors import UserError
from celllm.methods.method import Labels
from celllm.scores import metrics, scores
from celllm.tasks.annotation import DataSet, run_tasks
from celllm.tasks.folds import read_tasks
from celllm.tasks.runner import check_protocols, read_row

POSITIVE, NEGATIVE = "sensitive", "resistant"
TASKS = ("drug_few_shot", "drug_full")


class DrugDataSet(DataSet):
    """Cells labelled as sensitive or resistant to a drug, with the genes of the run.

    The paper prints ``f1`` only. Calling every cell sensitive scores well in it (0.67 where half of them
    are), so macro F1 and accuracy are told beside it.
    """

    metrics: ClassVar[tuple[str, ...]] = ("f1", "macro_f1", "accuracy")

    @classmethod
    def read(cls, path: str | Path, vocabulary: Vocabulary) -> Self:
        """Read a prepared ``.h5ad``; other labels than the two are a :class:`UserError`."""
        data = super().read(path, vocabulary)
        found = np.unique(data.truth).tolist()
        if found != sorted((POSITIVE, NEGATIVE)):
            told = ", ".join(found[:5])
            raise UserError(
                f"{path}: obs['label'] holds {told}; drug sensitivity needs {POSITIVE} and {NEGATIVE}"
            )
        return data

    def measure(self, rows: Rows, predicted: Labels) -> dict[str, float]:
        """F1 of the sensitive cells, macro F1 and accuracy of labels predicted for some cells."""
        values = super().measure(rows, predicted) | {"f1": metrics.f1(self.truth[rows], predicted, POSITIVE)}
        return {name: values[name] for name in self.metrics}


def run_drug_sensitivity(
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
    table: str = "table2",
) -> None:
    """Run one method on all splits of a data set of sensitive and resistant cells.

    The parameters are those of :func:`celllm.tasks.annotation.run_annotate`, with splits that were drawn for
    the tasks ``drug_few_shot`` and ``drug_full``, or for one of them. Where Table F.1 has other numbers than
    for cell annotation, they come with ``settings`` (config/paper.yaml).

    Raises
    ------
    UserError
        For bad input. What happens while a split is fitted is a row instead.
    """
    row = read_row(model)
    check_protocols(protocols)
    base = scores.of_row(table, data_set, row["name"], seed)
    data = DrugDataSet.read(cells, Vocabulary.read(genes))
    tasks = read_tasks(splits, data_set, data.ids.tolist(), TASKS)
    run_tasks(data, tasks, row, base, protocols, out, encoder, settings)
