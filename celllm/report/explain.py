"""Each verdict in one sentence: the paper's number, ours, the interval, how many splits, and what follows."""

from typing import TYPE_CHECKING

from celllm.report.fact_tables import as_text
from celllm.report.ledger import BOUNDS, FAILS, HOLDS, INCONCLUSIVE, NOT_RUN, TOY, number_text, p_text
from celllm.report.published import Claim

if TYPE_CHECKING:
    from celllm.report.claims import Finding

UNITS = {"value": {"percent": " %"}, "difference": {"percent": " points"}, "ordering": {"percent": " points"}}
ENDS = {
    ("value", HOLDS): "ours lies within the uncertainty of the paper's mean",
    ("value", FAILS): "the two are further apart than both uncertainties",
    ("value", INCONCLUSIVE): "ours is off, but too uncertain to contradict the paper",
    ("difference", HOLDS): "the gain is real and at least as large as the paper's, within its uncertainty",
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
    paper, ours = _paper(claim, finding, tolerance), "" if finding.missing else _ours(claim, finding)
    if contradiction:
        slip = contradiction.replace("The paper", "the paper", 1)
        return sentence(f"Nothing to test: {slip}{f'; {ours}' if ours else f' ({finding.missing})'}")
    if verdict == NOT_RUN:
        return sentence(f"{finding.missing}; {paper.replace('The', 'the', 1)}" if paper else finding.missing)
    numbers = f"{paper}, {ours}"
    if verdict == TOY:
        return sentence(f"{numbers}; a toy run is not judged")
    if claim.undecidable == "by construction":
        return sentence(f"{numbers}; the configuration sets this number, so that finding it shows nothing")
    if claim.undecidable:
        return sentence(
            f"{numbers}; another release of the data counts otherwise, which says nothing about the paper"
        )
    if finding.comparison is None:
        kind = "among" if claim.among else claim.bound or ""
        return sentence(f"{numbers}: {FACTS[kind][verdict == FAILS]}")
    agrees = claim.kind == "value" and abs(finding.comparison.mean - float(claim.paper or 0)) <= (
        tolerance or 0
    )
    if agrees and verdict == INCONCLUSIVE:
        return sentence(
            f"{numbers}: ours agrees, but its splits are too far apart, or too few, to confirm the paper"
        )
    if finding.collapsed and verdict == INCONCLUSIVE:
        return sentence(f"{numbers}: {finding.collapsed}, and a lead over that shows nothing")
    return sentence(f"{numbers}: {ENDS[claim.kind, verdict]}")


def _paper(claim: Claim, finding: "Finding", tolerance: float | None) -> str:
    """What the paper says, and how certain it is of it."""
    suffix = UNITS[claim.kind].get(claim.unit, "")
    if claim.among:
        return f"The paper names {claim.paper}"
    if claim.kind == "ordering":
        if not finding.pair:
            return ""
        weakest = f"weakest of {finding.n_pairs} comparisons" if finding.n_pairs > 1 else "comparison"
        printed = "has no number for it" if finding.printed is None else f"is {_lead(finding.printed, claim)}"
        return f"The {weakest} is {finding.pair}: the paper {printed}"
    if claim.taken_as:
        return f"The paper gives no number and {claim.taken_as} is meant by it here"
    number = number_text(claim.paper, claim.unit)
    allowed = number_text(tolerance, claim.unit) if tolerance else ""
    if claim.fact and not claim.interval:
        unit = " %" if claim.unit == "percent" else ""
        bound = f" {BOUNDS[claim.bound]}" if claim.bound else ""
        same = f", within {allowed} of which is the same here" if allowed else ""
        return f"The paper says {number}{unit}{bound}{same}"
    what = "reports" if claim.kind == "value" else "reports a gain of"
    if not claim.interval:
        return f"The paper {what} {number}{suffix}, uncertain by ± {allowed}"
    taken = f", taken to be as uncertain as ours (± {allowed})" if allowed else ""
    return f"The paper {what} {number}{suffix} without an uncertainty{taken}"


def _lead(gap: float, claim: Claim) -> str:
    suffix = UNITS[claim.kind].get(claim.unit, "")
    return f"{number_text(abs(gap), claim.unit)}{suffix} {'behind' if gap < 0 else 'ahead'}"


def _ours(claim: Claim, finding: "Finding") -> str:
    """What this run has, with its interval and over how many splits or cells."""
    ours = finding.comparison
    if claim.among:
        return f"the first {claim.among} here are {as_text(finding.fact[: claim.among])}"
    if ours is None:
        unit = " %" if claim.unit == "percent" else ""
        return f"this run has {number_text(finding.fact, claim.unit)}{unit}"
    interval = "one split, no interval"
    if ours.n > 1:
        low, high = number_text(ours.low, claim.unit), number_text(ours.high, claim.unit)
        seeds = f" of each of {ours.n_seeds} pre-trainings" if ours.n_seeds > 1 else ""
        interval = f"95 % interval {low} to {high}, {ours.n:,} {'cells' if claim.fact else 'splits'}{seeds}"
    if claim.kind == "ordering":
        corrected = f", corrected for {finding.n_pairs}" if finding.n_pairs > 1 else ""
        p = f", p {'' if ours.p < 0.001 else '= '}{p_text(ours.p)}{corrected}" if ours.p == ours.p else ""
        return f"this run {_lead(ours.mean, claim)} ({interval}{p})"
    suffix = UNITS[claim.kind].get(claim.unit, "")
    return f"this run has {number_text(ours.mean, claim.unit)}{suffix} ({interval})"


def sentence(text: str) -> str:
    """A text with a full stop."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
