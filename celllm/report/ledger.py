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


def multiplicity(n_tests: int) -> str:
    """A note on reading many intervals."""
    return (
        "Tolerances are 95 % intervals of the paper's own means: five runs of each are assumed, since it "
        "names no number. Our intervals are of 95 %, over splits that both models share; d is the mean "
        "difference in standard deviations over splits. Verdicts are claim by claim, the pairs of one claim "
        "corrected for their number (Holm 1979), and of many intervals some miss by chance: "
        f"p (Holm) is the p value adjusted over the {n_tests} differences and orderings that this run tested "
        "(Holm 1979)."
    )


def ledger_view(frame: pd.DataFrame) -> dict[str, Any]:
    """What the templates show of a ledger: counts per verdict and one entry per claim."""
    toy = bool((frame["size"] == "toy").all())
    counts = frame["verdict"].value_counts()
    places = tables_of_claims()
    used = {table for claim in frame["id"] for table in places.get(claim, [])}
    return {
        "title": labelled("Claims of the paper", toy),
        "run": str(frame["run"].iloc[0]),
        "toy": toy,
        "multiplicity": multiplicity(sum(not _absent(p) for p in frame["p_holm"])),
        "counts": [
            {"verdict": v, "tone": tone(v), "n": int(counts.get(v, 0))} for v in VERDICTS if counts.get(v, 0)
        ],
        "sources": [text for key, text in SOURCES.items() if key in set(frame["source"])],
        "sections": list(dict.fromkeys(frame["section"].astype(str))),
        "tables": [number for number in _numbers().values() if number in used],
        "claims": [_entry(row) | {"tables": places.get(row["id"], [])} for row in frame.to_dict("records")],
    }


def tables_of_claims() -> dict[str, list[str]]:
    """The tables of the paper that each claim is about, as ``Table 1``, by the id of the claim."""
    numbers = _numbers()
    return {
        claim.id: list(dict.fromkeys(numbers[cell.table] for cell in claim.cells))
        for claim in printed.load().claims
    }


def _numbers() -> dict[str, str]:
    return {name: table.title.partition(":")[0] for name, table in printed.load().tables.items()}


def tone(verdict: str) -> str:
    """The colour class of a verdict."""
    return {HOLDS: "holds", FAILS: "fails", CONTRADICTION: "paper"}.get(verdict, "open")


def _entry(row: Mapping[Any, Any]) -> dict[str, Any]:
    unit = str(row["unit"])
    sign = "+" if row["kind"] != "value" else ""
    suffix = {"percent": " points" if sign else " %"}.get(unit, "")
    return {
        "id": row["id"],
        "section": str(row["section"]),
        "source": SOURCES[row["source"]],
        "own": row["source"] == "benchmark",
        "statement": row["statement"],
        "paper": _shown(row["paper_value"], unit, sign, suffix),
        "ours": _shown(row["our_value"], unit, sign, suffix),
        "interval": _interval(row["low"], row["high"], unit),
        "n": "" if _absent(row["n"]) else str(int(float(row["n"]))),
        "allowed": _allowed(row["tolerance"], str(row["bound"]), unit),
        "effect": "" if _absent(row["effect"]) else number_text(float(row["effect"]), "percent"),
        "p_order": "" if _absent(row["p_holm"]) else row["p_holm"],
        "p_holm": "" if _absent(row["p_holm"]) else p_text(float(row["p_holm"])),
        "other": "" if row["other_verdict"] in ("", row["verdict"]) else _other(row),
        "verdict": row["verdict"],
        "tone": tone(row["verdict"]),
        "explanation": row["explanation"],
        "note": row["note"],
    }


def _allowed(tolerance: Any, bound: str, unit: str) -> str:
    """What counts as the paper's value: ``± 1.0``, ``exactly``, ``or more``."""
    if _absent(tolerance):
        return BOUNDS.get(bound, "")
    if float(tolerance) == 0:
        return "exactly"
    return f"± {number_text(_native(tolerance), unit)}"


def p_text(p: float) -> str:
    """A p value for readers; a very small one is only reported as such."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _other(row: Mapping[Any, Any]) -> str:
    return f"Under protocol {row['other_protocol']}: {row['other_verdict']}."


def _shown(value: Any, unit: str, sign: str, suffix: str) -> str:
    if _absent(value):
        return ""
    value = _native(value)
    text = number_text(value, unit)
    return (sign if isinstance(value, float) and value > 0 else "") + text + suffix


def _interval(low: Any, high: Any, unit: str) -> str:
    if _absent(low) or _absent(high):
        return ""
    return f"{number_text(_native(low), unit)} to {number_text(_native(high), unit)}"


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
