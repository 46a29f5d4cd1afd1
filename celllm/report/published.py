"""What the paper prints: its tables, its claims, its names of classes (published.yaml), as typed values."""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from celllm.errors import UserError
from celllm.io import read_yaml

PAPER = Path(__file__).with_name("published.yaml")
_NUMBER = re.compile(r"^\s*(-?[\d.]+)\s*±\s*([\d.]+)\s*$")

# Scores are fractions; a percent column prints them times 100. Digits as the paper prints them.
SCALE = {"percent": 100.0, "fraction": 1.0, "none": 1.0}
DIGITS = {"percent": 1, "fraction": 3, "none": 3}

SENTENCE, PRINTED, OWN = "sentence", "table", "benchmark"

CONTROL = "control"
"""In a claim, all simple methods of this benchmark; also the group of their rows."""


@dataclass(frozen=True)
class Number:
    """A printed mean and standard deviation, in the unit of its table."""

    value: float
    sd: float


@dataclass(frozen=True)
class Metric:
    """A score: how it is written and which direction is better."""

    name: str
    title: str
    tex: str
    better: str
    range: tuple[float, float]

    @property
    def sign(self) -> int:
        """+1 where higher is better, -1 where lower is better."""
        return 1 if self.better == "higher" else -1


@dataclass(frozen=True)
class Column:
    """One column of a table of scores: a metric of one task on one data set."""

    group: str
    group_title: str
    task: str
    data_set: str
    metric: Metric

    @property
    def key(self) -> str:
        """The column in a claim's cell: group/metric."""
        return f"{self.group}/{self.metric.name}"


@dataclass(frozen=True)
class Row:
    """One printed row; ``model`` is the model of this benchmark that stands for it."""

    name: str
    title: str
    model: str
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class ScoreTable:
    """A table of scores as the paper prints it."""

    name: str
    title: str
    section: str
    unit: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    def row(self, name: str) -> Row | None:
        """The row called ``name`` (its key or its title), if the paper has it."""
        return next((r for r in self.rows if name in (r.name, r.title)), None)

    def number(self, row: str, key: str) -> Number | None:
        """The printed number of a row in the column ``group/metric``; None where the paper prints none."""
        found, keys = self.row(row), [c.key for c in self.columns]
        return dict(zip(keys, found.numbers, strict=False)).get(key) if found else None

    def with_columns_of(self, scored: Iterable[tuple[str, str]]) -> "ScoreTable":
        """The table with a group of columns more for each (task, data set) of its tasks that it lacks."""
        known = {(c.task, c.data_set) for c in self.columns}
        tasks = {c.task: c.group_title for c in reversed(self.columns)}  # the first group of a task
        metrics = list(dict.fromkeys(c.metric for c in self.columns))
        added = []
        for task, data_set in dict.fromkeys(scored):
            if task not in tasks or (task, data_set) in known:
                continue
            scenario = tasks[task].rpartition(", ")[2]
            group, title = data_set, data_set_title(data_set)
            if len(tasks) > 1:
                group, title = f"{group}_{task}", f"{title}, {scenario}"
            added += [Column(group, title, task, data_set, metric) for metric in metrics]
        return replace(self, columns=(*self.columns, *added))


@dataclass(frozen=True)
class FactRow:
    """One printed row of a table of facts and the place of the measured fact (None: nothing to measure).

    ``note`` says where a difference is known to come from; without one the note of the table does.
    """

    group: str
    title: str
    values: tuple[Any, ...]
    fact: tuple[Any, ...] | None
    note: str


@dataclass(frozen=True)
class FactTable:
    """A table of facts; ``shares`` marks the columns that are per cent of the first one.

    ``differences`` says whether ours minus the paper's is worth a column of its own.
    """

    name: str
    title: str
    section: str
    columns: tuple[str, ...]
    shares: tuple[bool, ...]
    differences: bool
    rows: tuple[FactRow, ...]


@dataclass(frozen=True)
class CellOf:
    """Address of a printed cell: table, row, column (group/metric)."""

    table: str
    row: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "CellOf":
        """Read ``table/row/group/metric``."""
        table, row, key = text.split("/", 2)
        return cls(table, row, key)

    def of_row(self, row: str) -> "CellOf":
        """The same column in another row."""
        return CellOf(self.table, row, self.key)


@dataclass(frozen=True)
class Claim:
    """One quantitative statement of the paper and how it is recomputed (see published.yaml)."""

    id: str
    section: str
    statement: str
    kind: str
    unit: str
    paper: float | str | None = None
    cells: tuple[CellOf, ...] = ()
    over: tuple[str, ...] = ()
    fact: tuple[Any, ...] | None = None
    over_fact: tuple[Any, ...] | None = None
    bound: str | None = None
    tolerance: float | None = None
    also: tuple[Any, ...] = ()
    note: str = ""
    undecidable: str = ""  # "by construction" | "other data"
    procedure: bool = False
    among: int = 0
    interval: tuple[Any, ...] | None = None  # place of the measured interval of the fact
    taken_as: str = ""  # what is judged where the paper says it in words

    @property
    def source(self) -> str:
        """``sentence`` or ``table`` of the paper; ``benchmark``: an order that nobody wrote down."""
        if not self.section.startswith("Table"):
            return SENTENCE
        return OWN if self.kind == "ordering" else PRINTED


@dataclass(frozen=True)
class Task:
    """A task: its title, the size of its test parts in training parts, runs behind a mean of the paper.

    ``choice_against`` is the protocol that learned from the same rows as ``paper``: their difference is what
    the paper's choice of an epoch or setting adds.
    """

    name: str
    title: str
    test_over_train: float
    n: int
    choice_against: str = "strict"


@dataclass(frozen=True)
class Paper:
    """Everything that published.yaml holds."""

    title: str
    authors: str
    year: int
    arxiv: str
    tables: Mapping[str, ScoreTable]
    fact_tables: Mapping[str, FactTable]
    tasks: Mapping[str, Task]
    claims: tuple[Claim, ...]
    classes: Mapping[str, Mapping[str, str]]
    metrics: Mapping[str, Metric]
    data_sets: Mapping[str, str]

    def table(self, name: str) -> ScoreTable | FactTable:
        """The table called ``name``; one that the paper does not have is a :class:`UserError`."""
        found = self.tables.get(name) or self.fact_tables.get(name)
        if found is None:
            known = ", ".join([*self.tables, *self.fact_tables])
            raise UserError(f"table '{name}': the paper has no such table; known are {known}")
        return found

    def claim(self, name: str) -> Claim:
        """The claim called ``name``."""
        return next(claim for claim in self.claims if claim.id == name)

    def number(self, cell: CellOf) -> Number | None:
        """The printed number at ``cell``; None for a row that the paper does not have."""
        return self.tables[cell.table].number(cell.row, cell.key)

    def column(self, cell: CellOf) -> Column:
        """The column of ``cell``."""
        return next(column for column in self.tables[cell.table].columns if column.key == cell.key)

    def where(self, cell: CellOf) -> str:
        """Data set and metric of ``cell``, as printed."""
        column = self.column(cell)
        return f"{column.group_title} {column.metric.title}"


@functools.cache
def load() -> Paper:
    """Read published.yaml (once per process)."""
    raw = read_yaml(PAPER)
    metrics = {
        name: Metric(name, entry["title"], entry["tex"], entry["better"], tuple(entry["range"]))
        for name, entry in raw["metrics"].items()
    }
    return Paper(
        **raw["source"],
        tables={name: _score_table(name, entry, metrics) for name, entry in raw["tables"].items()},
        fact_tables={name: _fact_table(name, entry) for name, entry in raw["fact_tables"].items()},
        tasks={name: Task(name, **entry) for name, entry in raw["tasks"].items()},
        claims=tuple(_claim(entry, raw["tables"]) for entry in raw["claims"]),
        classes=raw["classes"],
        metrics=metrics,
        data_sets=raw["data_sets"],
    )


def data_set_title(data_set: str) -> str:
    """A data set's name for readers; one that the paper does not have is called as in the config."""
    return load().data_sets.get(data_set, data_set)


def _score_table(name: str, entry: Mapping[str, Any], metrics: Mapping[str, Metric]) -> ScoreTable:
    columns = tuple(
        Column(key, group["title"], group["task"], group["data_set"], metrics[metric])
        for key, group in entry["groups"].items()
        for metric in entry["metrics"]
    )
    rows = []
    for key, row in entry["rows"].items():
        numbers = [_NUMBER.match(text) for text in row["numbers"]]
        if None in numbers or len(numbers) != len(columns):
            raise ValueError(f"{PAPER.name}: {name}/{key}: expected {len(columns)} times 'mean ± sd'")
        read = tuple(Number(float(match[1]), float(match[2])) for match in numbers if match)
        rows.append(Row(key, row["title"], row.get("model", key), read))
    remarks = tuple(entry.get("remarks", ()))
    return ScoreTable(name, entry["title"], entry["section"], entry["unit"], columns, tuple(rows), remarks)


def _fact_table(name: str, entry: Mapping[str, Any]) -> FactTable:
    rows = tuple(
        FactRow(
            row.get("group", ""),
            row["title"],
            tuple(row["values"]),
            tuple(row["fact"]) if row.get("fact") else None,
            row.get("note") or entry.get("note", ""),
        )
        for row in entry["rows"]
    )
    columns = tuple(column["title"] for column in entry["columns"])
    shares = tuple(bool(column.get("share")) for column in entry["columns"])
    differences = bool(entry.get("differences"))
    return FactTable(name, entry["title"], entry["section"], columns, shares, differences, rows)


def _claim(entry: Mapping[str, Any], tables: Mapping[str, Any]) -> Claim:
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    for key in ("cells", "also"):
        given[key] = tuple(CellOf.parse(v) if isinstance(v, str) else v for v in entry.get(key, ()))
    if "unit" not in given:
        given["unit"] = tables[given["cells"][0].table]["unit"]
    return Claim(**given)
