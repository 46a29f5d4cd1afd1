"""Each verdict in one sentence: the paper's number, ours, the interval, how many splits, and what follows."""

from typing import TYPE_CHECKING

from celllm.report.fact_tables import as_text
from celllm.report.ledger import BOUNDS, FAILS, HOLDS, INCONCLUSIVE, NOT_RUN, TOY, number_text, p_text
from celllm.report.published import Claim
from celllm.scores.statistics import Comparison

if TYPE_CHECKING:
    from celllm.report.claims import Finding

UNITS = {"value": {"percent": " %"}, "difference": {"percent": " points"}, "ordering": {"percent": " points"}}
ENDS = {
    ("value", HOLDS): "ours lies within the uncertainty of the paper's mean",
    ("value", FAILS): "the two are further apart than both uncertainties",
    ("value", INCONCLUSIVE): "ours is off, but too uncertain to contradict the paper",
    ("difference", HOLDS): "the gain is real and as large as the paper's",
    ("difference", FAILS): "the gain is smaller than the paper's, or none",
    ("difference", INCONCLUSIVE): "the splits do not decide whether there is such a gain",
    ("ordering", HOLDS): "even this one is better beyond chance",
    ("ordering", FAILS): "this one is worse beyond chance",
    ("ordering", INCONCLUSIVE): "the splits do not decide it",
}
# By the bound of a fact: what follows where it holds, and where it does not.
FACTS = {
    "": ("the same", "not the same"),
    "at_least": ("at least as much", "less than that"),
    "at_most": ("no more than that", "more than that"),
    "among": ("it is one of them", "it is none of them"),
}


def explained(
    claim: Claim, finding: "Finding", tolerance: float | None, verdict: str, contradiction: str
) -> str:
    """One sentence on a verdict for a reader who knows cells better than statistics."""
    if contradiction:
        return sentence(f"Nothing to test: {contradiction.replace('The paper', 'the paper', 1)}")
    if verdict == NOT_RUN:
        return sentence(finding.missing)
    numbers = _numbers(claim, finding, tolerance)
    if verdict == TOY:
        return sentence(f"{numbers}; a toy run is not judged")
    if claim.undecidable == "by construction":
        return sentence(f"{numbers}; the configuration sets this number, so that finding it shows nothing")
    if claim.undecidable:
        return sentence(
            f"{numbers}; another release of the data counts otherwise, which says nothing about the paper"
        )
    if claim.fact:
        kind = "among" if claim.among else claim.bound or ""
        return sentence(f"{numbers}: {FACTS[kind][verdict == FAILS]}")
    return sentence(f"{numbers}: {ENDS[claim.kind, verdict]}")


def _numbers(claim: Claim, finding: "Finding", tolerance: float | None) -> str:
    ours, suffix = finding.comparison, UNITS[claim.kind].get(claim.unit, "")
    if claim.among:
        first = as_text(finding.fact[: claim.among])
        return f"The paper names {claim.paper}; the first {claim.among} here are {first}"
    if claim.fact or ours is None:
        unit = " %" if claim.unit == "percent" else ""
        here = f"this run has {number_text(finding.fact, claim.unit)}{unit}"
        if claim.taken_as:
            return f"The paper gives no number, here {claim.taken_as} is meant by it, and {here}"
        same = f", within {number_text(tolerance, claim.unit)} of which is the same here" if tolerance else ""
        bound = f" {BOUNDS[claim.bound]}" if claim.bound else ""
        return f"The paper says {number_text(claim.paper, claim.unit)}{unit}{bound}{same}, {here}"
    interval = _interval(ours, claim.unit)
    if claim.kind == "ordering":
        lead = f"{number_text(abs(ours.mean), claim.unit)}{suffix} {'behind' if ours.mean < 0 else 'ahead'}"
        of = f"the weakest of {finding.n_pairs} comparisons" if finding.n_pairs > 1 else "the comparison"
        corrected = f", corrected for {finding.n_pairs}" if finding.n_pairs > 1 else ""
        p = f", p {'' if ours.p < 0.001 else '= '}{p_text(ours.p)}{corrected}" if ours.p == ours.p else ""
        return f"{of[0].upper()}{of[1:]} is {finding.pair}: {lead} ({interval}{p})"
    paper, allowed = (number_text(value, claim.unit) for value in (claim.paper, tolerance))
    what = "reports" if claim.kind == "value" else "reports a gain of"
    ours_text = f"{number_text(ours.mean, claim.unit)}{suffix}"
    return (
        f"The paper {what} {paper}{suffix}, uncertain by ± {allowed}, this run has {ours_text} ({interval})"
    )


def _interval(ours: Comparison, unit: str) -> str:
    if ours.n < 2:
        return "one split, no interval"
    low, high = number_text(ours.low, unit), number_text(ours.high, unit)
    seeds = f" of each of {ours.n_seeds} pre-trainings" if ours.n_seeds > 1 else ""
    return f"95 % interval {low} to {high}, {ours.n} splits{seeds}"


def sentence(text: str) -> str:
    """A text with a full stop."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
