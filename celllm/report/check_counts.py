"""Whether the run has the cells of the paper: its counts beside the paper's, and an error where not."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from celllm.errors import UserError
from celllm.io import write_json
from celllm.report import published as printed
from celllm.report.fact_tables import DIFFERS, NOT_MEASURED, SAME
from celllm.report.published import Paper
from celllm.report.settings import CountSettings
from celllm.scores.facts import find, read_facts

WITHIN = "within tolerance"
ACCEPTED = "accepted"


def run_check_counts(facts: Sequence[str | Path], settings: CountSettings, out: str | Path) -> None:
    """Fail when the data sets are not those of the paper and the config does not accept it.

    Parameters
    ----------
    facts
        JSON files of facts, as ``celllm counts`` writes them.

    Raises
    ------
    UserError
        Naming every count that is neither the paper's nor accepted; nothing is then written.
    """
    lines = list(compared(read_facts(facts), settings, printed.load()))
    bad = [line for line in lines if line["verdict"] == DIFFERS]
    if bad and not settings.toy:
        texts = []
        for line in bad:
            texts.append(f"{line['count']} is {line['ours']:,}, paper {line['paper']:,}")
            if line["accepted"]:
                low, high = line["accepted"]
                texts[-1] += f", accepted {low:,}" + (f" to {high:,}" if high > low else "")
        raise UserError(
            f"counts: {len(bad)} of {len(lines)} are neither the paper's nor accepted: {'; '.join(texts)}. "
            "Another release of the data? The tables show all counts; accept numbers under counts.accept "
            "(config)"
        )
    write_json(out, {"toy": settings.toy, "tolerance": settings.tolerance, "counts": lines})


def compared(facts: Mapping[str, Any], settings: CountSettings, book: Paper) -> Iterator[dict[str, Any]]:
    """Yield ``count``, ``paper``, ``ours``, ``accepted`` (lowest and highest, or None) and ``verdict``.

    A name in ``accept`` that no count of the paper has is a :class:`UserError`, and so is a value that is
    neither a number nor a pair.
    """
    known = expected(book)
    for pattern in settings.accept:
        if not any(fnmatchcase(name_of(path), pattern) for path in known):
            names = ", ".join(name_of(path) for path in known if path[-2] != "labels")
            raise UserError(f"counts.accept: '{pattern}' is not a count in the paper; known are {names}")
    for path, value in known.items():
        ours, accepted = find(facts, path), _accepted(name_of(path), settings.accept)
        verdict = DIFFERS
        if ours is None:
            verdict = NOT_MEASURED
        elif abs(ours - value) <= settings.tolerance * value:
            verdict = SAME if ours == value else WITHIN
        elif accepted and accepted[0] <= ours <= accepted[1]:
            verdict = ACCEPTED
        yield {"count": name_of(path), "paper": value, "ours": ours, "accepted": accepted, "verdict": verdict}


def expected(book: Paper) -> dict[tuple[Any, ...], int]:
    """Every count of data sets that the paper prints in a table or a sentence, by the path of its fact."""
    rows = [(row.fact, row.values[0]) for table in book.fact_tables.values() for row in table.rows]
    rows += [(claim.fact, claim.paper) for claim in book.claims if claim.tolerance == 0]  # others are round
    return {
        fact: value
        for fact, value in rows
        if fact and fact[0] in ("data_sets", "vocabulary") and isinstance(value, int)
    }


def name_of(path: Sequence[Any]) -> str:
    """Name of a count in messages and in the config: ``baron/n_cells``, ``vocabulary/n_genes``."""
    return "/".join(str(key) for key in path if key != "data_sets")


def _accepted(name: str, accept: Mapping[str, Any]) -> tuple[int, int] | None:
    """Lowest and highest accepted number; of several fitting patterns the last one counts."""
    given = [value for pattern, value in accept.items() if fnmatchcase(name, pattern)]
    if not given:
        return None
    bounds = given[-1] if isinstance(given[-1], list | tuple) else [given[-1]] * 2
    if len(bounds) != 2 or not all(isinstance(b, int) for b in bounds) or bounds[0] > bounds[1]:
        raise UserError(f"counts.accept: '{name}': expected a number or [lowest, highest], got {given[-1]!r}")
    return bounds[0], bounds[1]
