"""What a task is: its data, its splits, its metrics, and the table that its scores are for."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from celllm.cells.genes import Vocabulary
from celllm.corpus.splits import Rows, Splits
from celllm.errors import UserError
from celllm.methods.method import Probabilities
from celllm.scores.columns import HELD_OUT
from celllm.tasks.protocols import Rule

Values = NDArray[Any]


class Task(Protocol):
    """A task with the data of one data set; its rows are cells, or pairs of a cell line and a drug."""

    table: ClassVar[str]
    """Table of the paper that the scores are made for."""
    metrics: ClassVar[tuple[str, ...]]
    """Names of the values that :meth:`measure` returns."""
    rules: ClassVar[Mapping[str, Rule]]
    """What a method learns from and chooses on under each protocol."""
    methods: ClassVar[Mapping[str, str]]
    """The methods that can do it: :data:`celllm.methods.CELLS` or :data:`celllm.methods.PAIRS`."""

    @classmethod
    def read(
        cls, cells: str | Path, responses: str | Path | None = None, vocabulary: Vocabulary | None = None
    ) -> Self:
        """Read the data; without a vocabulary the splits can be drawn but no encoder can be scored."""

    @property
    def ids(self) -> NDArray[np.str_]:
        """Names of the rows."""

    @property
    def truth(self) -> Values:
        """What is to be predicted of each row: labels or numbers."""

    @property
    def whole(self) -> Any:
        """All rows without the truth, as :attr:`celllm.methods.method.Method.prepare` takes them."""

    def part(self, rows: Rows, labelled: bool = True) -> Any:
        """Some of the rows as the methods take them, with what is known of them or without."""

    def measure(
        self, rows: Rows, predicted: Values, probabilities: Probabilities | None = None
    ) -> dict[str, float]:
        """Metrics of the predictions of some rows."""

    def draw(self, name: str, data_set: str, settings: Mapping[str, Any] | str | None) -> Splits:
        """Draw the splits of the task of this name."""


# Name in files of splits and scores -> module that holds the task.
TASKS = {
    "annotation": "annotation",
    "drug_few_shot": "drug_sensitivity",
    "drug_full": "drug_sensitivity",
    "response_warm": "drug_response",
    "response_cold": "drug_response",
}
TASKS |= {name: TASKS[mixed] for name, (mixed, _) in HELD_OUT.items()}


def task_of(name: str, where: str = "task") -> type[Task]:
    """The class of the task of this name.

    Raises
    ------
    UserError
        When there is none; the message begins with ``where``.
    """
    if name not in TASKS:
        raise UserError(f"{where}: unknown task '{name}'; known are {', '.join(TASKS)}")
    found: type[Task] = importlib.import_module(f"celllm.tasks.{TASKS[name]}").TASK
    return found
