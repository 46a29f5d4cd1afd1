"""Which rows a method may see, and when: the protocols, and the guard that keeps test labels away.

One rule holds for all rows of a table. Under ``strict`` a method that chooses anything (its epoch, a penalty)
learns from the training part, chooses on the validation part, and is then fitted again on both with what it
chose; a method that chooses nothing is fitted on both. ``no_refit`` leaves the last step out: nothing learns
from the validation part. ``paper`` is what the authors' released code does for the task, and for all methods
alike, see :attr:`celllm.tasks.task.Task.paper`.

So ``strict`` minus ``no_refit`` is what the larger training part adds, and, where ``paper`` chooses on the
test part, ``paper`` minus ``strict`` is what that choice adds: both learned from the same rows.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from celllm.corpus.splits import Parts, Rows


class LeakError(AssertionError):
    """Test rows in what a method learns from or chooses on: a fault of this program, never a failed fold."""


@dataclass(frozen=True)
class Rule:
    """What a method that chooses learns from and chooses on, and which of its models is scored."""

    learn: Literal["train", "both"]  # both: with the validation part
    choose: Literal["validation", "test"]
    refit: bool = False  # whether it is then fitted on both with what it chose
    last: bool = False  # whether the model is scored as the search left it, not as it was at its best


STRICT = Rule("train", "validation", refit=True)
NO_REFIT = Rule("train", "validation")
# As the released code: cell annotation stops on the part it reports; drug response stops on a validation part
# and scores the model of the last epoch on a test part.
PAPER_ON_TEST = Rule("both", "test")
PAPER_ON_VALIDATION = Rule("train", "validation", last=True)


def rules(paper: Rule) -> dict[str, Rule]:
    """The rules of all protocols, by name."""
    return {"strict": STRICT, "no_refit": NO_REFIT, "paper": paper}


def rows_of_part(fold: Parts, part: str) -> Rows:
    """Rows of a part of a fold; ``both`` are those to train and to validate on."""
    if part == "both":
        return np.concatenate([fold.train, fold.validation])
    rows: Rows = getattr(fold, part)
    return rows


def refuse_leak(fold: Parts, protocol: str, rule: Rule) -> None:
    """Hold a rule against the test part of a fold.

    Raises :class:`LeakError` when a test row is learned from, or chosen on under another protocol than
    ``paper``.
    """
    parts = {"learn from": rows_of_part(fold, rule.learn)}
    if rule.refit:
        parts["fit again on"] = rows_of_part(fold, "both")
    if protocol != "paper":
        parts["choose on"] = rows_of_part(fold, rule.choose)
    for purpose, rows in parts.items():
        n_leaked = len(np.intersect1d(rows, fold.test))
        if n_leaked:
            raise LeakError(f"{n_leaked} test rows among those to {purpose} under '{protocol}'")
