"""Tables of facts beside the paper's; the paths of the facts stand in published.yaml as ``fact``."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from celllm.report.published import FactTable
from celllm.scores.facts import find

SAME = "same"
DIFFERS = "differs"
NOT_MEASURED = "not-measured"
NOTHING = "nothing to measure"


def fact_frame(table: FactTable, facts: Mapping[str, Any], run: str, size: str) -> pd.DataFrame:
    """The tidy form of a table of facts: one line per row and column with the paper's value and ours."""
    # Shares are of everything beside the first row's fact, classes that the paper lacks included; a class
    # that is missing among counted classes has no cells.
    beside = find(facts, (table.rows[0].fact or ())[:-1]) if any(table.shares) else None
    total = sum(beside.values()) if isinstance(beside, Mapping) else 0
    cells = []
    for row in table.rows:
        fact = find(facts, row.fact) if row.fact else None
        fact = 0 if fact is None and total else fact
        for column, share, paper in zip(table.columns, table.shares, row.values, strict=True):
            ours, reason = fact, "" if fact is not None else "not measured in this run"
            if share and total and fact is not None:
                ours = round(100 * fact / total, 2)
            elif not share and column != table.columns[0]:
                ours, reason = None, NOTHING
            paper_text, our_text = (
                f"{v:.2f}" if share and v is not None else as_text(v) for v in (paper, ours)
            )
            difference = ""
            if table.differences and isinstance(paper, int | float) and isinstance(ours, int | float):
                gap = round(ours - paper, 2)
                difference = f"{gap:+,}".replace("-", "−") if gap else "0"
            status = NOT_MEASURED if ours is None else SAME if paper_text == our_text else DIFFERS
            cells.append(
                {
                    "run": run,
                    "size": size,
                    "table": table.name,
                    "group": row.group,
                    "title": row.title,
                    "column": column,
                    "paper": paper_text,
                    "ours": our_text,
                    "difference": difference,
                    "status": status,
                    "reason": row.note if status == DIFFERS and size != "toy" else reason,
                }
            )
    return pd.DataFrame(cells)


def as_text(value: Any) -> str:
    """A fact as it is printed: thousands separated, lists joined, no needless zeros, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == int(value) and abs(value) >= 1:
            return f"{value:,.0f}"
        return f"{value:.{6 if abs(value) >= 1e-4 else 2}g}"
    if isinstance(value, list | tuple):
        return ", ".join(as_text(v) for v in value)
    return str(value)
