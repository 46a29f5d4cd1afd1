"""The head of the report: what a run is, what it found, what is missing, and one line per table."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celllm.report.ledger import (
    BY_CONSTRUCTION,
    CONTRADICTION,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    NOT_RUN,
    OTHER_DATA,
    TOY,
)
from celllm.report.published import Paper
from celllm.report.render import GROUPS, signed

View = Mapping[str, Any]


def summary_view(tables: Sequence[View], ledger: View, manifest: Mapping[str, Any], book: Paper) -> View:
    """The head of the report, from the views of its tables and ledger and from the manifest.

    Returns
    -------
    ``facts``: headings and their sentences. ``tables``: per table its number, subject, anchor, how much of it
    there is, which rows are best under the first protocol, and the optimism of the other.
    """
    return {
        "facts": {
            "What this run is": [*_origin(manifest), *_protocols(tables)],
            "What it says": [*_verdicts(ledger), *_controls(tables)],
            "What was not run": list(_gaps(tables, ledger, book)) or ["Nothing is missing."],
        },
        "tables": [_line(table) for table in tables],
    }


def _origin(manifest: Mapping[str, Any]) -> list[str]:
    git, machine = manifest["git"], manifest["machine"]
    commit = f"commit {git['commit'][:10]}" if git["commit"] else "no commit known"
    state = " with changed files" if git["dirty"] else ""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    finished = manifest["finished"][:16].replace("T", " ")
    return [
        f"The {manifest['size']} size of the benchmark, finished {finished} UTC, "
        f"made by celllm {manifest['celllm']} ({commit}{state}).",
        f"{_duration(manifest['job_seconds'])} of jobs on {machine['n_cpus']} cores, {gpus}.",
    ]


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _protocols(tables: Sequence[View]) -> list[str]:
    keys = {block["key"] for table in tables for block in table["blocks"]}
    if "optimism" not in keys:
        return []
    return [
        "Protocol strict: every choice is made on a validation part. Protocol paper: training stops as in "
        "the released code, for cell annotation on the very part that is reported. Below each table stands "
        "what that choice adds, and what a larger training part adds."
    ]


def _verdicts(ledger: View) -> Iterable[str]:
    """How many claims were decided, and why the others were not; the benchmark's own are counted apart."""
    own = [claim for claim in ledger["claims"] if claim["own"]]
    of_paper = Counter(claim["verdict"] for claim in ledger["claims"] if not claim["own"])
    if ledger["toy"]:
        yield (
            f"Of {of_paper.total()} claims of the paper, {of_paper[TOY]} were computed and none is judged: "
            "this is a toy run."
        )
        return
    decidable = of_paper[HOLDS] + of_paper[FAILS] + of_paper[INCONCLUSIVE]
    yield (
        f"Of {of_paper.total()} claims of the paper, {decidable} were decidable in this run: "
        f"{of_paper[HOLDS]} hold, {of_paper[FAILS]} fail, "
        f"{of_paper[INCONCLUSIVE]} are too close to call over its splits."
    )
    reasons = {
        CONTRADICTION: "contradict the paper's own tables, whatever a run gives",
        BY_CONSTRUCTION: "set by the configuration",
        OTHER_DATA: "counts that depend on the release of a data set",
        NOT_RUN: "not run",
    }
    open_ones = [f"{of_paper[verdict]} {text}" for verdict, text in reasons.items() if of_paper[verdict]]
    if open_ones:
        yield f"The others cannot be decided: {', '.join(open_ones)}."
    if own:
        n = Counter(claim["verdict"] for claim in own)
        yield (
            f"Of {len(own)} orders in the paper's tables that no sentence of it states, {n[HOLDS]} hold and "
            f"{n[FAILS]} fail."
        )


def _scores(table: View) -> bool:
    return table["kind"] == "scores"


def _cells(block: View) -> list[View]:
    return [cell for section in block["sections"] for row in section["rows"] for cell in row["cells"]]


def _wins(table: View) -> Counter[tuple[str, str]]:
    """How many columns each row leads under the first protocol, by group and title of the row."""
    return Counter(
        {
            (section["title"], row["title"]): sum(cell["best"] for cell in row["cells"])
            for section in table["blocks"][0]["sections"]
            for row in section["rows"]
        }
    )


def _controls(tables: Sequence[View]) -> list[str]:
    """One sentence on the columns that a control leads; none where no control does."""
    led = {table["number"]: _led_by_controls(table) for table in tables if _scores(table)}
    shares = [f"{n} of {total} columns of {number}" for number, (n, total) in led.items() if n]
    if not shares:
        return []
    return [f"A control is best in {', in '.join(shares)}."]


def _led_by_controls(table: View) -> tuple[int, int]:
    first = table["blocks"][0]
    controls = [s["rows"] for s in first["sections"] if s["title"] == GROUPS["control"]]
    columns = zip(*(row["cells"] for rows in controls for row in rows), strict=True)
    return sum(any(cell["best"] for cell in column) for column in columns), len(first["columns"])


def _line(table: View) -> dict[str, str]:
    line = {key: table[key] for key in ("name", "number", "subject")}
    if not _scores(table):
        return line | {"filled": _measured(table), "best": "", "optimism": ""}
    cells = _cells(table["blocks"][0])
    filled = sum(not cell["missing"] for cell in cells)
    wins = [f"{title} ({n})" for (_, title), n in _wins(table).most_common(2) if n]
    return line | {
        "filled": f"{filled} of {len(cells)} numbers",
        "best": ", ".join(wins),
        "optimism": _optimism(table),
    }


def _measured(table: View) -> str:
    blocks = table["blocks"] if table["kind"] == "plain" else table["blocks"][:1]
    ours = [cell for block in blocks for cell in _cells(block) if cell["measured"]]
    there = [cell for cell in ours if not cell["missing"]]
    if table["kind"] == "plain":
        return f"{len(there)} of {len(ours)} numbers"
    differ = sum(cell["tone"] == "differs" for cell in there)
    return f"{len(there)} of {len(ours)} measured, {differ} differ"


def _optimism(table: View) -> str:
    """Mean and range of the optimism over the paper's rows, in the columns where higher is better."""
    block = next((block for block in table["blocks"] if block["key"] == "optimism"), None)
    if block is None:
        return ""
    higher = [column["arrow"] == "↑" for column in block["columns"]]
    sections = (section for section in block["sections"] if section["title"] == GROUPS["paper"])
    rows = (row for section in sections for row in section["rows"])
    gaps = [
        float(cell["order"])
        for row in rows
        for cell, counts in zip(row["cells"], higher, strict=True)
        if counts and not cell["missing"]
    ]
    if not gaps:
        return ""
    digits = 1 if table["unit"] == "Percent" else 3
    low, mean, high = (signed(value, digits) for value in (min(gaps), sum(gaps) / len(gaps), max(gaps)))
    return f"{mean} on average ({low} to {high})"


def _gaps(tables: Sequence[View], ledger: View, book: Paper) -> Iterable[str]:
    names = {table["name"] for table in tables}
    absent = [table.title.partition(":")[0] for name, table in book.tables.items() if name not in names]
    if absent:
        yield f"Not made in this run: {', '.join(absent)}."
    for table in (table for table in tables if table["kind"] != "plain"):
        cells = [cell for cell in _cells(table["blocks"][0]) if _scores(table) or cell["measured"]]
        missing = sum(cell["missing"] for cell in cells)
        if missing:
            marks = dict.fromkeys(cell["mark"] for cell in cells if cell["missing"] and cell["mark"])
            why = "; ".join(table["notes"][int(mark) - 1] for mark in list(marks)[:2])
            yield f"{table['number']}: {missing} of {len(cells)} numbers are missing ({why})."
    claims = sum(claim["verdict"] == NOT_RUN for claim in ledger["claims"])
    if claims:
        yield f"{claims} claims need what this run did not make; each says what."
