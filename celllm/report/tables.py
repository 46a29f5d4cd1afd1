"""Tables from score files: what the paper prints beside what a run measured, under each protocol.

A table is described by its entry in published.yaml and by the run's models; there is one code path for all of
them. The tidy CSV holds one line per row, column and protocol and is what the other formats (and the report)
are rendered from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from celllm.report import published as printed
from celllm.report.fact_tables import fact_frame
from celllm.report.lookup import Lookup, over_splits_and_seeds, paired
from celllm.report.published import CONTROL, DIGITS, SCALE, Column, FactTable, Row, ScoreTable
from celllm.report.render import fact_view, score_view, write_pages
from celllm.report.run import Model, read_models
from celllm.report.settings import TableSettings
from celllm.scores import scores as score_files
from celllm.scores.facts import read_facts
from celllm.scores.statistics import Summary

NOT_RUN = "not-run"
PARTIAL = "partial"
NOTHING = Summary(0, math.nan, math.nan, 0)  # of a cell without scores


@dataclass(frozen=True)
class Line:
    """One row of a table: a model, and the paper's row beside it where there is one."""

    model: str
    title: str
    group: str
    paper: Row | None
    in_run: bool
    seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)  # of its pre-trainings, by task


def run_table(
    name: str,
    /,
    scores: Sequence[str | Path],
    models: str | Path | Mapping[str, Any],
    settings: TableSettings,
    out: str | Path,
    facts: Sequence[str | Path] = (),
) -> None:
    """Scores -> one table of the paper as CSV, Markdown, LaTeX and HTML, the paper's values beside ours.

    Parameters
    ----------
    name
        ``table1``, ``table2``, ``table3``, ``tableb1``, ``tableb2`` (from scores) or ``tablec1``,
        ``tabled1``, ``tabled2``, ``tabled3``, ``tablef1`` (from facts).
    scores
        Score files; rows of other tasks are ignored.
    models
        The models this table is made for (see :func:`celllm.report.run.read_models`). The paper's rows
        come first, then the models that the paper does not print, in the order given.
    facts
        JSON files of measured facts, merged; used by the tables of facts.

    Raises
    ------
    UserError
        For an unknown table and for malformed score or facts files.
    """
    table = printed.load().table(name)
    if isinstance(table, FactTable):
        frame = fact_frame(table, read_facts(facts), settings.run, settings.size)
        view = fact_view(frame, table.title)
    else:
        frame = score_frame(table, score_files.read_many(scores), read_models(models), settings)
        view = score_view(frame, table.title)
    write_pages(out, frame, "table", ("md", "tex", "html"), table=view)


def score_frame(
    table: ScoreTable, scores: pd.DataFrame, models: Mapping[str, Model], settings: TableSettings
) -> pd.DataFrame:
    """The tidy form of a table of scores: one line per row, column and protocol, in printed order.

    Means, standard deviations and differences stand in the unit of the table (percent or fraction).
    """
    lookup = Lookup(scores)
    rows = lines(table, models)
    scored = scores[["task", "data_set"]].drop_duplicates()
    table = table.with_columns_of(scored.itertuples(index=False, name=None))
    known = [line.model for line in rows]
    digits = DIGITS[table.unit]
    cells = []
    for protocol in settings.protocols:
        for column in table.columns:
            expected = lookup.n_splits(column, protocol, known)
            of_column = [_cell(table, line, column, protocol, lookup, expected) for line in rows]
            # The best printed mean among complete cells; equal print is an equal place.
            complete = [cell for cell in of_column if cell["status"] == score_files.OK]
            top = max((column.metric.sign * round(cell["mean"], digits) for cell in complete), default=0)
            for cell in complete:
                cell["best"] = column.metric.sign * round(cell["mean"], digits) == top
            cells += of_column
    frame = pd.DataFrame(cells)
    frame.insert(0, "run", settings.run)
    frame.insert(1, "size", settings.size)
    return frame


def lines(table: ScoreTable, models: Mapping[str, Model]) -> list[Line]:
    """The paper's rows in printed order, then the run's other models by their group, controls last.

    A model that the paper prints in another table of the same columns is no row of this one.
    """
    rows = []
    for row in table.rows:
        named = [m for m in models.values() if m.paper_row in (row.name, row.title)]
        model = named[0] if named else models.get(row.model)
        name, seeds = (model.name, model.seeds) if model else (row.model, {})
        # "scBERT without gene2vec" says more than the paper's "scBERT"; "CellLM" less than its "CellLM 50M".
        title = model.title if model and model.title.startswith(row.title) else row.title
        rows.append(Line(name, title, "paper", row, model is not None, seeds))
    others = (t for t in printed.load().tables.values() if t.columns == table.columns)
    taken = {line.model for line in rows} | {row.model for other in others for row in other.rows}
    for m in sorted(models.values(), key=lambda m: m.group == CONTROL):
        if m.name not in taken:
            group = "added" if m.group == "paper" else m.group
            rows.append(Line(m.name, m.title, group, None, True, m.seeds))
    return rows


def _cell(
    table: ScoreTable, line: Line, column: Column, protocol: str, lookup: Lookup, expected: int
) -> dict[str, Any]:
    """One line of the tidy form."""
    scale = SCALE[table.unit]
    values = lookup.values(column, line.model, protocol, scale)
    seeds = line.seeds.get(column.task, ())
    status, reason = _status(line, lookup.rows(column, line.model, protocol), expected, seeds)
    found = over_splits_and_seeds(values) if line.in_run and len(values) else NOTHING
    number = table.number(line.paper.name, column.key) if line.paper else None
    effects: dict[str, float] = {}
    # On the same splits: what the paper's choice adds, and what the larger training part adds.
    against = printed.load().tasks[column.task].choice_against
    for name, more, less in (("optimism", "paper", against), ("refit", "strict", "no_refit")):
        gain = NOTHING
        if protocol == more:
            gap = paired(*(lookup.values(column, line.model, p, scale) for p in (more, less)))
            gain = over_splits_and_seeds(gap) if len(gap) else NOTHING
        effects |= {name: gain.mean, f"{name}_sd": gain.sd}
    return {
        "table": table.name,
        "group": line.group,
        "model": line.model,
        "title": line.title,
        "task": column.task,
        "data_set": column.data_set,
        "column": column.key,
        "metric": column.metric.name,
        "protocol": protocol,
        "unit": table.unit,
        **asdict(found),
        "text": mean_sd(found.mean, found.sd, DIGITS[table.unit]) if found.n else "",
        "best": False,
        "paper_value": number.value if number else None,
        "paper_sd": number.sd if number else None,
        "difference": found.mean - number.value if number else None,
        **effects,
        "status": status,
        "reason": reason or lookup.one_class(column, line.model, protocol),
    }


def mean_sd(mean: float, sd: float, digits: int) -> str:
    """``71.8 ± 1.0``; the mean alone where one split gives no spread."""
    text = f"{mean:.{digits}f}".replace("-", "−")
    return text if sd != sd else f"{text} ± {sd:.{digits}f}"


def _status(line: Line, rows: pd.DataFrame, expected: int, seeds: Sequence[int]) -> tuple[str, str]:
    """Status of a cell and, unless it is complete, the reason."""
    if not line.in_run:
        return NOT_RUN, "not among the models of this run"
    if rows.empty:
        return NOT_RUN, "no scores in this run"
    bad = rows[rows["status"] != score_files.OK]
    n_ok = len(rows) - len(bad)
    if n_ok == 0:
        return str(bad["status"].iloc[0]), _reasons(bad)
    lost = sorted(set(seeds) - set(rows["seed"]))
    n_seeds = rows["seed"].nunique() + len(lost)
    if n_ok == expected * n_seeds:
        return score_files.OK, ""
    why = _reasons(bad) if len(bad) else "the others have no scores"
    if lost:
        why = f"seed {', '.join(map(str, lost))} of {n_seeds} has no scores"
    return PARTIAL, f"{n_ok} of {expected * n_seeds} splits; {why}"


def _reasons(bad: pd.DataFrame) -> str:
    """The distinct reasons, each with its splits: ``split 0, 3: out-of-memory, batch of 32 needs 40 GiB``."""
    texts = []
    for (seed, status, reason), rows in bad.groupby(["seed", "status", "reason"], sort=False):
        of_seed = f"seed {seed}, " if bad["seed"].nunique() > 1 else ""
        texts.append(f"{of_seed}split {', '.join(rows['split'].astype(str))}: {status}, {reason}")
    return "; ".join(texts)
