"""The ledger: every quantitative claim of the paper, recomputed from a run's scores, with a verdict.

How a verdict is reached, from 95 % intervals of the corrected resampled t-test
(celllm.scores.statistics):

========== ==================================== ===================================== ==============
kind       holds                                fails                                 otherwise
========== ==================================== ===================================== ==============
value      our mean within the tolerance, and   interval and tolerance do not meet    inconclusive
           splits no further apart than those
           of the paper (F test, 5 %)
difference ours at least the paper's less the   interval ends below the paper's less  inconclusive
           tolerance, and interval above zero   the tolerance, or below zero
ordering   better in every pair                 worse in any pair                     inconclusive
fact       equal, within tolerance or bound     not so
========== ==================================== ===================================== ==============

The tolerance is the 95 % interval of the paper's own mean (or difference of means), from the standard
deviations that it prints; it says nowhere over how many runs, so published.yaml assumes a number. A number
that it prints without a spread, and that this benchmark measures with an interval over cells, is taken to be
as uncertain as ours. Pairs of an ordering are tested with Holm's correction within the claim.

Before any of these: a sentence that contradicts the paper's own tables is "paper disagrees with itself",
whatever a run says; what a run did not make is "not run"; a toy run is "not comparable: toy"; what the config
itself sets is "by construction", and a count that depends on the release of a data set is "other data".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from celllm.report import published as printed
from celllm.report.explain import explained, sentence
from celllm.report.fact_tables import as_text
from celllm.report.ledger import CONTRADICTION, FAILS, HOLDS, INCONCLUSIVE, NOT_RUN, TOY, ledger_view
from celllm.report.lookup import Lookup, paired
from celllm.report.published import CONTROL, SCALE, CellOf, Claim, Paper
from celllm.report.render import write_pages
from celllm.report.run import Model, read_models
from celllm.report.settings import ClaimSettings
from celllm.report.slips import contradiction
from celllm.scores import scores as score_files
from celllm.scores.facts import find, read_facts
from celllm.scores.statistics import Comparison, crossed_t, half_width, holm, summarise_crossed

# A difference of decimals is off by 1e-16: what lies on the edge of a tolerance is within.
EDGE = 1e-9
LEVEL = 0.05
OTHER: dict[str, Literal["strict", "paper"]] = {"strict": "paper", "paper": "strict"}


@dataclass(frozen=True)
class Finding:
    """What a run says about a claim: one comparison (the weakest of several pairs), or why there is none.

    ``pair`` names the pair of an ordering, ``printed`` is its difference in the paper (None: not printed) and
    ``n_pairs`` how many there are; ``collapsed`` names a rival that gave one class to nearly all cells;
    ``remarks`` is what a reader must know of the comparison.
    """

    comparison: Comparison | None = None
    fact: Any = None
    missing: str = ""
    pair: str = ""
    printed: float | None = None
    n_pairs: int = 1
    collapsed: str = ""
    remarks: str = ""


def run_claims(
    scores: Sequence[str | Path],
    models: str | Path | Mapping[str, Any],
    settings: ClaimSettings,
    out: str | Path,
    facts: Sequence[str | Path] = (),
) -> None:
    """Scores -> the ledger: every claim of the paper with its verdict.

    Parameters
    ----------
    scores
        Score files of all tasks.
    models
        The run's models (see :func:`celllm.report.run.read_models`); those of group ``control`` stand for
        the simple methods that a state of the art must beat.
    facts
        JSON files of measured facts, merged (see :mod:`celllm.report.fact_tables`).

    Raises
    ------
    UserError
        For malformed score or facts files.
    """
    frame = ledger(score_files.read_many(scores), read_models(models), read_facts(facts), settings)
    write_pages(out, frame, "claims", ("md", "html"), ledger=ledger_view(frame))


def ledger(
    scores: pd.DataFrame, models: Mapping[str, Model], facts: Mapping[str, Any], settings: ClaimSettings
) -> pd.DataFrame:
    """One line per claim: id, section, source, values, interval, n, tolerance, verdict, explanation, note.

    Values of percent claims are in percent. ``our_value`` of a difference or an ordering is oriented so that
    an improvement is positive. ``source`` is where it stands: a sentence, a table, or the benchmark alone.
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
    frame.insert(1, "size", settings.size)
    last = ["verdict", "explanation", "note"]
    return frame[[c for c in frame if c not in last] + last]


@dataclass(frozen=True)
class _Judge:
    """Everything that a verdict is made from."""

    book: Paper
    lookup: Lookup
    models: Mapping[str, Model]
    facts: Mapping[str, Any]
    settings: ClaimSettings

    def line(self, claim: Claim) -> dict[str, Any]:
        """One line of the ledger."""
        finding = self.find(claim)
        tolerance = tolerance_of(claim, self.book, finding)
        slip = contradiction(claim, self.book)
        numbers = finding.comparison
        if finding.collapsed and numbers and judged(claim.kind, numbers, claim.paper, tolerance) != HOLDS:
            finding = replace(finding, collapsed="")  # no lead that would need it as a reason
        tested = None if claim.kind == "value" else numbers
        fact = as_text(finding.fact[: claim.among]) if claim.among and finding.fact else finding.fact
        verdict = CONTRADICTION if slip else self.verdict(claim, finding, tolerance)
        explanation = explained(claim, finding, tolerance, verdict, slip)
        return {
            "id": claim.id,
            "section": claim.section,
            "source": claim.source,
            "statement": claim.statement,
            "kind": claim.kind,
            "unit": claim.unit,
            "protocol": "" if claim.fact else self.settings.protocol,
            "paper_value": claim.paper,
            "our_value": numbers.mean if numbers else fact,
            **{key: getattr(numbers, key, None) for key in ("low", "high", "n")},
            **{key: getattr(tested, key, None) for key in ("p", "effect")},
            "tolerance": tolerance,
            "bound": claim.bound or "",
            "method": numbers.method if numbers else "",
            "verdict": verdict,
            "explanation": explanation,
            "note": " ".join(sentence(text) for text in (claim.note, finding.remarks) if text),
        }

    def verdict(self, claim: Claim, finding: Finding, tolerance: float | None) -> str:
        """The verdict on a claim that does not contradict its own paper."""
        if finding.missing:
            return NOT_RUN
        if self.settings.toy:
            return TOY
        if claim.undecidable:
            return claim.undecidable
        if finding.comparison is None:
            return HOLDS if fact_holds(claim, finding.fact) else FAILS
        verdict = judged(claim.kind, finding.comparison, claim.paper, tolerance)
        if claim.kind == "value" and verdict == HOLDS and scattered(claim, finding.comparison, self.book):
            return INCONCLUSIVE  # a mean that lies right by chance
        return INCONCLUSIVE if verdict == HOLDS and finding.collapsed else verdict

    def find(self, claim: Claim) -> Finding:
        """What the run's scores or facts say."""
        if claim.fact:
            facts = [find(self.facts, path) for path in (claim.fact, claim.over_fact, claim.interval) if path]
            if None in facts:
                return Finding(missing="Not measured in this run")
            found = facts[0] - facts[1] if claim.over_fact else facts[0]
            if not claim.interval:
                return Finding(fact=found)
            low, high, n = facts[-1]
            method = "bootstrap over cells, 95 % interval"
            return Finding(Comparison(n, found, low, high, math.nan, math.nan, math.nan, method), found)
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
        return self.compared(claim, mean, claim.cells, rival)

    def ordering(self, claim: Claim) -> Finding:
        """The weakest of all pairs, p adjusted for their number; an ordering holds when this one does."""
        found: list[Finding] = []
        for cell in claim.cells:
            rivals = self.rivals(claim, cell)
            if not rivals:
                return Finding(missing=f"No control has scores, {self.book.where(cell)}")
            for rival in rivals:
                series = self.series(cell, rival)
                if isinstance(series, str):
                    return Finding(missing=series)
                pair = f"against {self.title(rival)}, {self.book.where(cell)}"
                gap = self.printed_gap(claim, cell, rival)
                found.append(replace(self.compared(claim, series, [cell], rival), pair=pair, printed=gap))
        measured = [(finding, finding.comparison) for finding in found if finding.comparison]
        adjusted = holm([ours.p for _, ours in measured])
        pairs = [
            replace(finding, comparison=replace(ours, p=p))
            for (finding, ours), p in zip(measured, adjusted, strict=True)
        ]
        collapsed = next((finding.collapsed for finding in found if finding.collapsed), "")
        return replace(min(pairs, key=_strength), n_pairs=len(pairs), collapsed=collapsed)

    def compared(
        self, claim: Claim, values: "pd.Series[float]", cells: Sequence[CellOf], rival: str | None
    ) -> Finding:
        """Values or differences with their interval over splits and, of several, over pre-trainings.

        It ends where the metric does, or a difference of two of its values.
        """
        column = self.book.column(cells[0])
        ratio = self.book.tasks[column.task].test_over_train
        ratio = self.settings.test_over_train.get(column.task, ratio)
        ours = crossed_t(_complete(values).to_numpy().T, ratio)
        least, most = (SCALE[claim.unit] * end for end in column.metric.range)
        if rival is not None:
            least, most = least - most, most - least
        ours = replace(ours, low=max(ours.low, least), high=min(ours.high, most))
        remarks = self.remarks(claim, values, cells, rival)
        return Finding(ours, collapsed=self.collapsed(cells, rival), remarks=remarks)

    def collapsed(self, cells: Sequence[CellOf], rival: str | None) -> str:
        """A row of the paper that gave one class to all cells of most splits: a lead over it shows nothing.

        A control may do so: that is what the majority class is for.
        """
        if rival is None or self.models[rival].group == CONTROL:
            return ""
        for column in map(self.book.column, cells):
            if said := self.lookup.one_class(column, rival, self.settings.protocol, least=0.5):
                return f"by {self.title(rival)}, {column.group_title}, {said}"
        return ""

    def rivals(self, claim: Claim, cell: CellOf) -> list[str]:
        """Model names on the other side; ``control`` stands for all controls of this column.

        One that does not apply at all (such as means of cell lines, for lines never seen) is not among them.
        """
        column = self.book.column(cell)
        names = []
        for row in claim.over:
            if row != CONTROL:
                names.append(self.model(cell.of_row(row)))
                continue
            for model in self.models.values():
                rows = self.lookup.rows(column, model.name, self.settings.protocol)
                if model.group == CONTROL and (rows["status"] != score_files.NOT_APPLICABLE).any():
                    names.append(model.name)
        return names

    def printed_gap(self, claim: Claim, cell: CellOf, rival: str) -> float | None:
        """How far the paper's row is ahead of a rival in its own table; None where it prints no such row."""
        rows = (row for row in claim.over if row != CONTROL and self.model(cell.of_row(row)) == rival)
        numbers = [self.book.number(one) for one in (cell, *map(cell.of_row, rows))]
        ours, theirs = (*numbers, None)[:2]
        return self.book.column(cell).metric.sign * (ours.value - theirs.value) if ours and theirs else None

    def series(self, cell: CellOf, rival: str | None) -> "pd.Series[float] | str":
        """Per-split values of a cell, or its oriented differences to a rival; a text says what is missing."""
        scale = SCALE[self.book.tables[cell.table].unit]
        column, model = self.book.column(cell), self.model(cell)
        values = []
        for name in (model, rival) if rival else (model,):
            if name not in self.models:
                return f"{self.title(name)} is no row of this run"
            of_name = self.lookup.values(column, name, self.settings.protocol, scale)
            where = f"{self.title(name)}, {self.book.where(cell)}, protocol {self.settings.protocol}"
            if of_name.empty:
                return f"No scores of {where}"
            wanted = self.models[name].seeds.get(column.task, ())
            lost = sorted(set(wanted) - set(of_name.index.get_level_values("seed")))
            if lost:
                return f"No scores of seed {', '.join(map(str, lost))} of {where}"
            values.append(of_name)
        if not rival:
            return values[0]
        gap = paired(*values) * column.metric.sign
        if gap.empty:
            return f"{self.title(model)} and {self.title(rival)} share no split, {self.book.where(cell)}"
        return gap

    def remarks(
        self, claim: Claim, values: "pd.Series[float]", cells: Sequence[CellOf], rival: str | None
    ) -> str:
        """What an interval leaves out: splits that were lost, the only split, other pre-trainings."""
        table, protocol = _complete(values), self.settings.protocol
        pairs = [
            (self.book.column(cell), list(dict.fromkeys((self.model(cell), rival or self.model(cell)))))
            for cell in cells
        ]
        names = list(dict.fromkeys(name for _, of in pairs for name in of))
        n_run = max(self.lookup.n_splits(column, protocol, of) for column, of in pairs)
        texts = [
            f"The row here is {self.title(name)}."
            for name in names
            if self.printed_title(name) not in ("", self.title(name))
        ]
        for column, of in pairs:
            for name in of:
                if said := self.lookup.one_class(column, name, protocol):
                    texts.append(f"{self.title(name)}, {column.group_title}: {said}.")
        if len(table) < n_run:
            texts.append(f"Over {len(table)} of {n_run} splits; the others have no score of each.")
        elif len(table) == 1:
            texts.append("One split, no interval.")
        once = [
            self.title(name)
            for name in names
            if all(n_seeds(self.lookup.values(column, name, protocol)) == 1 for column, _ in pairs)
        ]
        if claim.procedure and once:
            texts.append(
                f"Conditional on one encoder of {' and of '.join(once)}: the interval leaves out what "
                "another seed of its pre-training would change."
            )
        if table.shape[1] > 1:
            found = summarise_crossed(table.to_numpy().T)
            texts.append(
                f"{found.n_seeds} pre-trainings: standard deviation {found.sd:.2g} over the splits of one, "
                f"{found.seed_sd:.2g} over their means."
            )
        return " ".join(texts)

    def model(self, cell: CellOf) -> str:
        """The run's model that stands for a row of the paper."""
        row = self.book.tables[cell.table].row(cell.row)
        names = {cell.row} | ({row.name, row.title} if row else set())
        named = [m.name for m in self.models.values() if m.paper_row in names]
        return named[0] if named else (row.model if row else cell.row)

    def title(self, model: str) -> str:
        return self.models[model].title if model in self.models else self.printed_title(model) or model

    def printed_title(self, model: str) -> str:
        """What the paper calls the row that a model stands for; empty where it has none."""
        rows = (row for table in self.book.tables.values() for row in table.rows)
        return next((row.title for row in rows if row.model == model), "")


def _complete(values: "pd.Series[float]") -> pd.DataFrame:
    """Splits x seeds; splits that some seed lost are left out, or where that leaves none, averaged."""
    table = values.unstack("seed")
    whole = table.dropna()
    return whole if len(whole) else table.mean(axis=1).to_frame()


def n_seeds(values: "pd.Series[float]") -> int:
    """Pre-trainings behind some values."""
    return int(values.index.get_level_values("seed").nunique())


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
        return FAILS if ours.high < max(least, 0) else INCONCLUSIVE
    if ours.n > 1 and abs(ours.mean - paper) <= tolerance:
        return HOLDS
    apart = ours.high < paper - tolerance or ours.low > paper + tolerance
    return FAILS if apart else INCONCLUSIVE


def scattered(claim: Claim, ours: Comparison, book: Paper) -> bool:
    """Whether our splits are further apart than the paper's beyond chance (F test of the variances, 5 %)."""
    numbers = [number for cell in claim.cells if (number := book.number(cell))]
    if not numbers or math.isnan(ours.effect):
        return False
    from scipy import stats

    n_paper = book.tasks[book.column(claim.cells[0]).task].n
    of_paper = sum(number.sd**2 for number in numbers) / len(numbers) ** 2
    return bool((ours.mean / ours.effect) ** 2 > of_paper * stats.f.ppf(1 - LEVEL, ours.n - 1, n_paper - 1))


def _strength(finding: Finding) -> tuple[int, float, float]:
    """Order of pairs, reversed ones first: by verdict, by t (units differ), by the mean where t is equal."""
    ours = finding.comparison
    assert ours is not None
    return _rank(ours), 0.0 if math.isnan(ours.t) else ours.t, ours.mean


def _rank(ours: Comparison) -> int:
    """0: worse, 1: undecided (NaN too), 2: better, by the p value, which several pairs have adjusted."""
    if not ours.p < LEVEL:
        return 1
    return 2 if ours.mean > 0 else 0


def fact_holds(claim: Claim, fact: Any) -> bool:
    """Whether a fact is what the paper says: equal text, within the tolerance, or beyond the bound."""
    if claim.among:
        return claim.paper in fact[: claim.among]
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


def tolerance_of(claim: Claim, book: Paper, finding: Finding) -> float | None:
    """That of a fact as given; else half of the 95 % interval of the paper's own mean or difference.

    A measure that the paper prints without any spread is taken to be as uncertain as ours.
    """
    if claim.interval:
        ours = finding.comparison
        return (ours.high - ours.low) / 2 if ours else None
    if claim.fact or claim.kind == "ordering":
        return claim.tolerance
    rows = [[cell, *(cell.of_row(row) for row in claim.over)] for cell in claim.cells]
    numbers = [[book.number(cell) for cell in cells] for cells in rows]
    variances = [sum(number.sd**2 for number in cells if number) for cells in numbers]
    half_a_digit = 0.5 * 10 ** -len(str(claim.paper).partition(".")[2])
    return max(half_a_digit, half_width(variances, book.tasks[book.column(claim.cells[0]).task].n))
