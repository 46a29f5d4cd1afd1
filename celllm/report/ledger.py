"""How the ledger is shown: numbers as text, one entry per claim, counts per verdict."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from celllm.io import from_spreadsheets, read_csv
from celllm.report import published as printed
from celllm.report.fact_tables import as_text
from celllm.report.published import DIGITS
from celllm.report.run import labelled

HOLDS = "holds"
FAILS = "fails"
INCONCLUSIVE = "inconclusive"
TOY = "not comparable: toy"
NOT_RUN = "not run"
CONTRADICTION = "paper disagrees with itself"
BY_CONSTRUCTION = "by construction"
OTHER_DATA = "other data"
VERDICTS = (HOLDS, FAILS, INCONCLUSIVE, CONTRADICTION, BY_CONSTRUCTION, OTHER_DATA, NOT_RUN, TOY)
SOURCES = {
    "sentence": "sentence of the paper",
    "table": "number in a table",
    "benchmark": "the benchmark's own",
}

BOUNDS = {"at_least": "or more", "at_most": "or less"}


MULTIPLICITY = (
    "Tolerances are 95 % intervals of the paper's own means: five runs of each are assumed, since it "
    "names no number. Our intervals are of 95 %, over splits that both models share; d is the mean "
    "difference in standard deviations over splits. Verdicts are claim by claim, the pairs of one claim "
    "corrected for their number (Holm 1979), and of many intervals some miss by chance: "
    "p (Holm) is the p value adjusted over the {} differences and orderings that this run tested "
    "(Holm 1979)."
)


def ledger_view(frame: pd.DataFrame) -> dict[str, Any]:
    """What the templates show of a ledger: counts per verdict and one entry per claim."""
    book, toy = printed.load(), bool((frame["size"] == "toy").all())
    counts = frame["verdict"].value_counts()
    numbers = {name: table.title.partition(":")[0] for name, table in book.tables.items()}  # Table 1
    tables = {c.id: list(dict.fromkeys(numbers[cell.table] for cell in c.cells)) for c in book.claims}
    used = {table for claim in frame["id"] for table in tables.get(claim, [])}
    return {
        "title": labelled("Claims of the paper", toy),
        "run": str(frame["run"].iloc[0]),
        "toy": toy,
        "multiplicity": MULTIPLICITY.format(sum(not _absent(p) for p in frame["p_holm"])),
        "counts": [{"verdict": v, "tone": tone(v), "n": int(counts[v])} for v in VERDICTS if v in counts],
        "sources": [text for key, text in SOURCES.items() if key in set(frame["source"])],
        "sections": list(dict.fromkeys(frame["section"].astype(str))),
        "tables": [number for number in numbers.values() if number in used],
        "claims": [_entry(row) | {"tables": tables.get(row["id"], [])} for row in frame.to_dict("records")],
    }


def tone(verdict: str) -> str:
    """The colour class of a verdict."""
    return {HOLDS: "holds", FAILS: "fails", CONTRADICTION: "paper"}.get(verdict, "open")


def _entry(row: Mapping[Any, Any]) -> dict[str, Any]:
    unit, gain = str(row["unit"]), row["kind"] != "value"
    suffix = (" points" if gain else " %") if unit == "percent" else ""
    columns = ("paper_value", "our_value", "low", "high", "n", "tolerance", "effect", "p_holm")
    numbers = {key: _native(row[key]) for key in columns if not _absent(row[key])}
    shown = {key: number_text(value, unit) for key, value in numbers.items()}
    for key in ("paper_value", "our_value"):
        if gain and isinstance(numbers.get(key), float) and numbers[key] > 0:
            shown[key] = f"+{shown[key]}"
    if "tolerance" in numbers:
        allowed = f"± {shown['tolerance']}" if numbers["tolerance"] else "exactly"
    else:
        allowed = BOUNDS.get(str(row["bound"]), "")
    other = f"Under protocol {row['other_protocol']}: {row['other_verdict']}."
    return {
        "id": row["id"],
        "section": str(row["section"]),
        "source": SOURCES[row["source"]],
        "own": row["source"] == "benchmark",
        "statement": row["statement"],
        "paper": f"{shown['paper_value']}{suffix}" if "paper_value" in shown else "",
        "ours": f"{shown['our_value']}{suffix}" if "our_value" in shown else "",
        "interval": f"{shown['low']} to {shown['high']}" if {"low", "high"} <= set(shown) else "",
        "n": str(int(numbers["n"])) if "n" in numbers else "",
        "allowed": allowed,
        "effect": number_text(float(numbers["effect"]), "percent") if "effect" in numbers else "",
        "p_order": row["p_holm"] if "p_holm" in numbers else "",
        "p_holm": p_text(numbers["p_holm"]) if "p_holm" in numbers else "",
        "other": "" if row["other_verdict"] in ("", row["verdict"]) else other,
        "verdict": row["verdict"],
        "tone": tone(row["verdict"]),
        "explanation": row["explanation"],
        "note": row["note"],
    }


def p_text(p: float) -> str:
    """A p value for readers; a very small one is only reported as such."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _absent(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _native(value: Any) -> Any:
    """A number read back from a CSV column that also holds text."""
    if not isinstance(value, str):
        return value
    try:
        return int(value) if value.lstrip("-").isdigit() else float(value)
    except ValueError:
        return value


def read_ledger(path: str | Path) -> dict[str, Any]:
    """The view of a ledger's CSV, as written by :func:`run_claims`."""
    return ledger_view(from_spreadsheets(read_csv(path)))


def number_text(value: Any, unit: str) -> str:
    """A number with the digits of its unit; more where it was printed with more (8.25), a true minus sign."""
    if not isinstance(value, float) or unit not in DIGITS or unit == "none":
        return as_text(value)
    decimals = len(repr(value).partition(".")[2])
    digits = decimals if decimals <= DIGITS[unit] + 1 else DIGITS[unit]
    return f"{value:.{max(digits, DIGITS[unit])}f}".replace("-", "−")
