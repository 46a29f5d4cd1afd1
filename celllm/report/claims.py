"""The ledger: every quantitative claim of the paper, recomputed from a run's scores, with a verdict.

How a verdict is reached, from 95 % intervals of the corrected resampled t-test
(celllm.scores.statistics):

========== ==================================== ===================================== ==============
kind       holds                                fails                                 otherwise
========== ==================================== ===================================== ==============
value      our mean within the tolerance        interval and tolerance do not meet    inconclusive
difference ours at least the paper's less the   interval ends below the paper's less  inconclusive
           tolerance, and interval above zero   the tolerance
ordering   interval above zero, in every pair   interval below zero, in any pair      inconclusive
fact       equal, within tolerance or bound     not so
========== ==================================== ===================================== ==============

Before any of these: a sentence that contradicts the paper's own tables is "paper disagrees with itself",
whatever a run says; a toy run is "not comparable: toy"; what a run did not make is "not run".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from celllm.io import for_spreadsheets, write_text
from celllm.report import published as printed
from celllm.report.fact_tables import as_text
from celllm.report.ledger import (
    CONTRADICTION,
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    NOT_RUN,
    TOY,
    ledger_view,
)
from celllm.report.lookup import Lookup, paired
from celllm.report.published import CONTROL, SCALE, CellOf, Claim, Column, Paper
from celllm.report.render import render
from celllm.report.run import Model, read_models
from celllm.report.settings import ClaimSettings
from celllm.report.slips import contradiction
from celllm.scores import scores as score_files
from celllm.scores.facts import find, read_facts
from celllm.scores.statistics import Comparison, corrected_resampled_t, holm
from celllm.settings import as_settings

# A difference of decimals is off by 1e-16: what lies on the edge of a tolerance is within.
EDGE = 1e-9
OTHER: dict[str, Literal["strict", "paper"]] = {"strict": "paper", "paper": "strict"}


@dataclass(frozen=True)
class Finding:
    """What a run says on a claim: one comparison (the weakest of several pairs), or why there is none.

    ``pair`` says which pair of an ordering it is, ``lost`` that not all splits are in it.
    """

    comparison: Comparison | None = None
    fact: Any = None
    missing: str = ""
    pair: str = ""
    lost: str = ""


def run_claims(
    scores: Sequence[str | Path],
    models: str | Path | Mapping[str, Any],
    settings: Mapping[str, Any] | str | None,
    out: str | Path,
    facts: Sequence[str | Path] = (),
) -> None:
    """Write the ledger as ``<out>.csv``, ``<out>.md`` and ``<out>.html``.

    Parameters
    ----------
    scores
        Score files of all tasks.
    models
        The run's models (see :func:`celllm.report.run.read_models`); those of group ``control`` stand for
        the simple methods that a state of the art must beat.
    settings
        :class:`ClaimSettings` as mapping or JSON.
    facts
        JSON files of measured facts, merged (see :mod:`celllm.report.fact_tables`).

    Raises
    ------
    UserError
        For malformed score or facts files.
    """
    chosen = as_settings(ClaimSettings, settings, "claims: settings")
    frame = ledger(score_files.read_many(scores), read_models(models), read_facts(facts), chosen)
    write_text(f"{out}.csv", for_spreadsheets(frame).to_csv(index=False, lineterminator="\n"))
    for suffix in ("md", "html"):
        write_text(f"{out}.{suffix}", render(f"claims.{suffix}.j2", ledger=ledger_view(frame)))


def ledger(
    scores: pd.DataFrame, models: Mapping[str, Model], facts: Mapping[str, Any], settings: ClaimSettings
) -> pd.DataFrame:
    """One line per claim: id, section, statement, values, interval, n, tolerance, verdict, note.

    Values of percent claims are in percent. ``our_value`` of a difference or an ordering is oriented so that
    an improvement is positive. What the other protocol says stands in the last but two columns.
    """
    book, lookup = printed.load(), Lookup(scores)
    judge = _Judge(book, lookup, models, facts, settings)
    other = _Judge(book, lookup, models, facts, settings.changed(protocol=OTHER[settings.protocol]))
    frame = pd.DataFrame([judge.line(claim) for claim in book.claims])
    second = pd.DataFrame([other.line(claim) for claim in book.claims])
    frame["other_protocol"] = second["protocol"]
    frame["other_value"] = second["our_value"].where(second["protocol"] != "", None)
    frame["other_verdict"] = second["verdict"].where(second["protocol"] != "", "")
    frame["p_holm"] = holm(frame["p"].astype(float).to_list())
    frame.insert(0, "run", settings.run)
    frame.insert(1, "size", "toy" if settings.toy else "full")
    return frame[[c for c in frame if c not in ("verdict", "note")] + ["verdict", "note"]]


class _Judge:
    """Everything that a verdict is made from."""

    def __init__(
        self,
        book: Paper,
        lookup: Lookup,
        models: Mapping[str, Model],
        facts: Mapping[str, Any],
        settings: ClaimSettings,
    ) -> None:
        self.book, self.lookup, self.models, self.facts, self.settings = book, lookup, models, facts, settings

    def line(self, claim: Claim) -> dict[str, Any]:
        """One line of the ledger."""
        finding = self.find(claim)
        tolerance = tolerance_of(claim, self.book)
        slip = contradiction(claim, self.book)
        numbers = finding.comparison
        side = _side(claim, finding, tolerance)
        reasons = [slip, claim.note, finding.missing, finding.pair, side, finding.lost]
        return {
            "id": claim.id,
            "section": claim.section,
            "statement": claim.statement,
            "kind": claim.kind,
            "unit": claim.unit,
            "protocol": "" if claim.fact else self.settings.protocol,
            "paper_value": claim.paper,
            "our_value": numbers.mean if numbers else finding.fact,
            "low": numbers.low if numbers else None,
            "high": numbers.high if numbers else None,
            "n": numbers.n if numbers else None,
            "p": numbers.p if numbers and claim.kind != "value" else None,
            "effect": numbers.effect if numbers and claim.kind != "value" else None,
            "tolerance": tolerance,
            "bound": claim.bound or "",
            "method": numbers.method if numbers else "",
            "verdict": CONTRADICTION if slip else self.verdict(claim, finding, tolerance),
            "note": " ".join(_sentence(reason) for reason in reasons if reason),
        }

    def verdict(self, claim: Claim, finding: Finding, tolerance: float | None) -> str:
        """The verdict on a claim that does not contradict its own paper."""
        if finding.missing:
            return NOT_RUN
        if self.settings.toy:
            return TOY
        if claim.fact:
            return HOLDS if fact_holds(claim, finding.fact) else FAILS
        if finding.comparison is None:
            return NOT_RUN
        return judged(claim.kind, finding.comparison, claim.paper, tolerance)

    def find(self, claim: Claim) -> Finding:
        """What the run's scores or facts say."""
        if claim.fact:
            fact = self.fact(claim)
            return Finding(fact=fact, missing="Not measured in this run" if fact is None else "")
        if claim.kind == "ordering":
            return self.ordering(claim)
        rival = None if claim.kind == "value" else self.rivals(claim, claim.cells[0])[0]
        series = [self.series(cell, rival) for cell in claim.cells]
        gaps = [gap for gap in series if isinstance(gap, str)]
        if gaps:
            return Finding(missing="; ".join(dict.fromkeys(gaps)))
        mean = pd.concat([s for s in series if not isinstance(s, str)], axis=1, join="inner").mean(axis=1)
        if mean.empty:
            return Finding(missing="The data sets share no split number")
        lost = self.lost(len(mean), claim.cells, rival)
        return Finding(comparison=self.interval(mean, claim.cells[0]), lost=lost)

    def fact(self, claim: Claim) -> Any:
        """The fact of a claim, less the one it is compared with; None where one is missing."""
        facts = [find(self.facts, path) for path in (claim.fact, claim.over_fact) if path]
        return None if None in facts else facts[0] - facts[1] if claim.over_fact else facts[0]

    def ordering(self, claim: Claim) -> Finding:
        """The weakest of all pairs; an ordering holds when even this one does."""
        found: list[Finding] = []
        for cell in claim.cells:
            rivals = self.rivals(claim, cell)
            if not rivals:
                return Finding(missing=f"No control has scores, {self.book.where(cell)}")
            for rival in rivals:
                series = self.series(cell, rival)
                if isinstance(series, str):
                    return Finding(missing=series)
                pair = f"Weakest pair: against {self.title(rival)}, {self.book.where(cell)}"
                lost = self.lost(len(series), [cell], rival)
                found.append(Finding(self.interval(series, cell), pair=pair, lost=lost))
        weakest = min(found, key=_strength)
        return weakest if len(found) > 1 else replace(weakest, pair="")

    def rivals(self, claim: Claim, cell: CellOf) -> list[str]:
        """Model names on the other side; ``control`` stands for all controls of this column.

        One that does not apply to it at all, as means of cell lines to lines never seen, is none of them.
        """
        column = self.book.column(cell)
        names = []
        for row in claim.over:
            if row != CONTROL:
                names.append(self.model(cell.of_row(row)))
                continue
            controls = [m.name for m in self.models.values() if m.group == CONTROL]
            names += [c for c in controls if self.applies(column, c)]
        return names

    def applies(self, column: Column, model: str) -> bool:
        """Whether a model has rows in a column that say more than that it does not apply."""
        rows = self.lookup.rows(column, model, self.settings.protocol)
        return bool((rows["status"] != score_files.NOT_APPLICABLE).any())

    def series(self, cell: CellOf, rival: str | None) -> "pd.Series[float] | str":
        """Per-split values of a cell, or its oriented differences to a rival; a text says what is missing."""
        scale = SCALE[self.book.tables[cell.table].unit]
        column, model = self.book.column(cell), self.model(cell)
        ours = self.lookup.values(column, model, self.settings.protocol, scale)
        if rival is None:
            return ours if len(ours) else self.gap(model, cell)
        theirs = self.lookup.values(column, rival, self.settings.protocol, scale)
        for name, values in ((model, ours), (rival, theirs)):
            if values.empty:
                return self.gap(name, cell)
        gap = paired(ours, theirs) * column.metric.sign
        return (
            gap
            if len(gap)
            else f"{self.title(model)} and {self.title(rival)} share no split, {self.book.where(cell)}"
        )

    def lost(self, n: int, cells: Sequence[CellOf], rival: str | None) -> str:
        """How many splits stand behind a comparison of fewer than were run, or of a single one."""
        n_run = max(
            self.lookup.n_splits(
                self.book.column(cell), self.settings.protocol, [self.model(cell), rival or self.model(cell)]
            )
            for cell in cells
        )
        if n < n_run:
            return f"Over {n} of {n_run} splits; the others have no score of each"
        return "One split, no interval" if n == 1 else ""

    def interval(self, values: "pd.Series[float]", cell: CellOf) -> Comparison:
        task = self.book.column(cell).task
        ratio = self.settings.test_over_train.get(task, self.book.tasks[task].test_over_train)
        return corrected_resampled_t(values.to_list(), ratio)

    def model(self, cell: CellOf) -> str:
        """The run's model that stands for a row of the paper."""
        row = self.book.tables[cell.table].row(cell.row)
        names = {cell.row} | ({row.name, row.title} if row else set())
        named = [m.name for m in self.models.values() if m.paper_row in names]
        return named[0] if named else (row.model if row else cell.row)

    def title(self, model: str) -> str:
        if model in self.models:
            return self.models[model].title
        rows = (row for table in self.book.tables.values() for row in table.rows)
        return next((row.title for row in rows if row.model == model), model)

    def gap(self, model: str, cell: CellOf) -> str:
        return f"No scores of {self.title(model)}, {self.book.where(cell)}, protocol {self.settings.protocol}"


def _side(claim: Claim, finding: Finding, tolerance: float | None) -> str:
    """On which side of the paper's value ours lies, where it lies outside the tolerance."""
    ours = finding.comparison
    if claim.kind != "value" or ours is None or tolerance is None or not isinstance(claim.paper, int | float):
        return ""
    if abs(ours.mean - claim.paper) <= tolerance:
        return ""
    return f"Ours lies {'above' if ours.mean > claim.paper else 'below'} the paper's value"


def judged(kind: str, ours: Comparison, paper: Any, tolerance: float | None) -> str:
    """Verdict on a measured value, difference or ordering (the table at the head of this module)."""
    if kind == "ordering":
        return (FAILS, INCONCLUSIVE, HOLDS)[_rank(ours)]
    if tolerance is None or not isinstance(paper, int | float):
        raise ValueError(f"a claim of kind {kind} needs a number and a tolerance")
    tolerance += EDGE
    if kind == "difference":
        least = paper - tolerance
        if ours.mean >= least and ours.low > 0:
            return HOLDS
        return FAILS if ours.high < least else INCONCLUSIVE
    if abs(ours.mean - paper) <= tolerance:
        return HOLDS
    apart = ours.high < paper - tolerance or ours.low > paper + tolerance
    return FAILS if apart else INCONCLUSIVE


def _strength(finding: Finding) -> tuple[int, float, float]:
    """Order of pairs, reversed ones first: by verdict, by t (units differ), by the mean where t is equal."""
    ours = finding.comparison
    assert ours is not None
    return _rank(ours), 0.0 if math.isnan(ours.t) else ours.t, ours.mean


def _rank(ours: Comparison) -> int:
    """0: worse beyond the interval, 1: undecided (NaN bounds too), 2: better beyond the interval."""
    if ours.low > 0:
        return 2
    return 0 if ours.high < 0 else 1


def fact_holds(claim: Claim, fact: Any) -> bool:
    """Whether a fact is what the paper says: equal text, within the tolerance, or beyond the bound."""
    if isinstance(claim.paper, str) or not isinstance(fact, int | float):
        return as_text(fact) == as_text(claim.paper)
    if claim.paper is None:
        raise ValueError(f"claim {claim.id}: a fact needs the paper's value")
    # Without a tolerance there is no edge: the bound of a gradient's error is smaller than that.
    gap, tolerance = fact - claim.paper, claim.tolerance + EDGE if claim.tolerance else 0
    if claim.bound == "at_least":
        return gap >= -tolerance
    if claim.bound == "at_most":
        return gap <= tolerance
    return abs(gap) <= tolerance


def tolerance_of(claim: Claim, book: Paper) -> float | None:
    """The tolerance given; else one point or, for values, two printed standard deviations if that is more."""
    if claim.tolerance is not None or claim.fact or claim.kind == "ordering":
        return claim.tolerance
    point = 0.01 * SCALE[claim.unit]
    numbers = [book.number(cell) for cell in claim.cells] if claim.kind == "value" else []
    return max([point, *(2 * number.sd for number in numbers if number)])


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
