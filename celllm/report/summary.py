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

    ``facts``: headings and their sentences. ``tables``: per table its number, subject, anchor, how much of it
    there is, which rows are best under the first protocol, and the optimism of the other.
    """
    return {
        "facts": {
            "What this run is": list(_origin(tables, manifest)),
            "What it says": [*_verdicts(ledger), *_controls(tables)],
            "What was not run": list(_gaps(tables, ledger, book)) or ["Nothing is missing."],
        },
        "tables": [_line(table) for table in tables],
    }


def _origin(tables: Sequence[View], manifest: Mapping[str, Any]) -> Iterable[str]:
    git, machine, seconds = manifest["git"], manifest["machine"], manifest["job_seconds"]
    commit = f"commit {git['commit'][:10]}" if git["commit"] else "no commit known"
    state = " with changed files" if git["dirty"] else ""
    finished = manifest["finished"][:16].replace("T", " ")
    yield (
        f"The {manifest['size']} size of the benchmark, finished {finished} UTC, "
        f"made by celllm {manifest['celllm']} ({commit}{state})."
    )
    units = (("days", 86400), ("hours", 3600), ("minutes", 60))
    long = [f"{seconds / n:.1f} {unit}" for unit, n in units if seconds >= 2 * n]
    duration = long[0] if long else f"{seconds:.0f} seconds"
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    yield f"{duration} of jobs on {machine['n_cpus']} cores, {gpus}."
    if any(block["key"] == "optimism" for table in tables for block in table["blocks"]):
        yield (
            "Protocol strict: every choice is made on a validation part. Protocol paper: training stops as "
            "in the released code, for cell annotation on the very part that is reported. Below each table "
            "stands what that choice adds, and what a larger training part adds."
        )


def _verdicts(ledger: View) -> Iterable[str]:
    """How many claims were decided, and why the others were not; the benchmark's own are counted apart."""
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
    own = Counter(claim["verdict"] for claim in ledger["claims"] if claim["own"])
    if own:
        yield (
            f"Of {own.total()} orders in the paper's tables that no sentence of it states, {own[HOLDS]} "
            f"hold and {own[FAILS]} fail."
        )


def _controls(tables: Sequence[View]) -> Iterable[str]:
    """One sentence on the columns that a control leads; none where no control does."""
    shares = []
    for table in (table for table in tables if table["kind"] == "scores"):
        first = table["blocks"][0]
        controls = [s["rows"] for s in first["sections"] if s["title"] == GROUPS["control"]]
        columns = zip(*(row["cells"] for rows in controls for row in rows), strict=True)
        led = sum(any(cell["best"] for cell in column) for column in columns)
        if led:
            shares.append(f"{led} of {len(first['columns'])} columns of {table['number']}")
    if shares:
        yield f"A control is best in {', in '.join(shares)}."


def _cells(*blocks: View) -> list[View]:
    """All cells that have, or could have, a number of this run."""
    sections = (section for block in blocks for section in block["sections"])
    return [c for section in sections for row in section["rows"] for c in row["cells"] if c["measured"]]


def _line(table: View) -> dict[str, str]:
    line = {key: table[key] for key in ("name", "number", "subject")} | {"best": "", "optimism": ""}
    first = table["blocks"][:1]
    cells = _cells(*(table["blocks"] if table["kind"] == "plain" else first))
    there = [cell for cell in cells if not cell["missing"]]
    if table["kind"] == "facts":
        differ = sum(cell["tone"] == "differs" for cell in there)
        return line | {"filled": f"{len(there)} of {len(cells)} measured, {differ} differ"}
    line["filled"] = f"{len(there)} of {len(cells)} numbers"
    if table["kind"] == "plain":
        return line
    # Columns that each row leads under the first protocol, by group and title.
    rows = {(s["title"], row["title"]): row["cells"] for s in first[0]["sections"] for row in s["rows"]}
    wins = Counter({row: sum(cell["best"] for cell in of_row) for row, of_row in rows.items()})
    best = ", ".join(f"{title} ({n})" for (_, title), n in wins.most_common(2) if n)
    return line | {"best": best, "optimism": _optimism(table)}


def _optimism(table: View) -> str:
    """Mean and range of the optimism over the paper's rows, in the columns where higher is better."""
    gaps = [
        float(cell["order"])
        for block in table["blocks"]
        if block["key"] == "optimism"
        for section in block["sections"]
        if section["title"] == GROUPS["paper"]
        for row in section["rows"]
        for cell, column in zip(row["cells"], block["columns"], strict=True)
        if column["arrow"] == "↑" and not cell["missing"]
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
        cells = _cells(table["blocks"][0])
        missing = [cell for cell in cells if cell["missing"]]
        if missing:
            marks = dict.fromkeys(cell["mark"] for cell in missing if cell["mark"])
            why = "; ".join(table["notes"][int(mark) - 1] for mark in list(marks)[:2])
            yield f"{table['number']}: {len(missing)} of {len(cells)} numbers are missing ({why})."
    claims = sum(claim["verdict"] == NOT_RUN for claim in ledger["claims"])
    if claims:
        yield f"{claims} claims need what this run did not make; each says what."
