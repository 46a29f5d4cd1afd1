"""Tables of facts beside the paper's; the paths of the facts stand in published.yaml as ``fact``."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from celllm.report.published import FactRow, FactTable
from celllm.scores.facts import find

SAME = "same"
DIFFERS = "differs"
NOT_MEASURED = "not-measured"
NOTHING = "nothing to measure"


def fact_frame(table: FactTable, facts: Mapping[str, Any], run: str, toy: bool) -> pd.DataFrame:
    """The tidy form of a table of facts: one line per row and column with the paper's value and ours."""
    total = _total(table, facts)
    cells = []
    for row in table.rows:
        for position, column in enumerate(table.columns):
            ours, reason = _ours(row, position, table.shares[position], facts, total)
            paper = row.values[position]
            verdict = _verdict(paper, ours)
            cells.append(
                {
                    "run": run,
                    "size": "toy" if toy else "full",
                    "table": table.name,
                    "group": row.group,
                    "title": row.title,
                    "column": column,
                    "paper": as_text(paper),
                    "ours": as_text(ours),
                    "difference": _difference(paper, ours) if table.differences else "",
                    "status": verdict,
                    "reason": row.note if verdict == DIFFERS and not toy else reason,
                }
            )
    return pd.DataFrame(cells)


def _total(table: FactTable, facts: Mapping[str, Any]) -> float:
    """Sum of everything that stands beside the first row's fact, classes that the paper lacks included."""
    first = table.rows[0].fact
    if not any(table.shares) or first is None:
        return 0.0
    siblings = find(facts, first[:-1])
    return float(sum(siblings.values())) if isinstance(siblings, Mapping) else 0.0


def _ours(
    row: FactRow, position: int, share: bool, facts: Mapping[str, Any], total: float
) -> tuple[Any, str]:
    fact = _fact(row, facts, total) if position == 0 or share else None
    if fact is None:
        return None, NOTHING if position and not share else "not measured in this run"
    return (round(100 * fact / total, 2) if share and total else fact), ""


def _fact(row: FactRow, facts: Mapping[str, Any], total: float) -> Any:
    """The fact of a row; a class that is missing among counted classes has no cells."""
    fact = find(facts, row.fact) if row.fact else None
    return 0 if fact is None and total else fact


def _difference(paper: Any, ours: Any) -> str:
    """Ours minus the paper's, with its sign; empty where one of them is no number."""
    if not all(isinstance(value, int | float) for value in (paper, ours)):
        return ""
    gap = round(ours - paper, 2)
    return f"{gap:+,}".replace("-", "−") if gap else "0"


def _verdict(paper: Any, ours: Any) -> str:
    if ours is None:
        return NOT_MEASURED
    return SAME if as_text(paper) == as_text(ours) else DIFFERS


def as_text(value: Any) -> str:
    """A fact as it is printed: thousands separated, lists joined, no needless zeros, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(as_text(v) for v in value)
    return str(value)
