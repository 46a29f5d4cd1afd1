"""Splits of a drug screen: pairs at random (warm start), or cell lines held out (cold start)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from celllm.corpus.splits import Splits, named, pair_folds, write_splits
from celllm.errors import UserError
from celllm.settings import fill
from celllm.tasks.screen import ScreenData


@dataclass(frozen=True)
class PairSplitSettings:
    """Settings of ``celllm pair-splits``.

    Attributes
    ----------
    kind
        ``warm``: pairs are drawn; ``cold``: cell lines are.
    n_repeats, seed
        Independent draws, the first from ``seed``, the next from ``seed + 1`` ...
    validation_fraction, test_fraction
        Parts beside the training part.
    keep_repeats_together
        A drug that was screened twice on a line has both pairs in one part. The paper drew pair by pair.
    """

    kind: Literal["warm", "cold"]
    n_repeats: int = 5
    seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    keep_repeats_together: bool = True

    def __post_init__(self) -> None:
        if self.n_repeats < 1:
            raise UserError(f"settings.n_repeats: expected at least 1, got {self.n_repeats}")
        small = min(self.validation_fraction, self.test_fraction)
        if small <= 0 or self.validation_fraction + self.test_fraction >= 1:
            raise UserError(
                "settings: validation_fraction and test_fraction must be above 0 and below 1 together"
            )


def task_of(kind: str) -> str:
    """Name of the task: ``response_warm`` or ``response_cold``."""
    return f"response_{kind}"


def run_pair_splits(
    cells: str | Path,
    responses: str | Path,
    data_set: str,
    settings: str | Mapping[str, Any],
    out: str | Path,
) -> None:
    """Run ``celllm pair-splits``: the usable pairs of a screen -> saved splits, by ``line|drug|screen``.

    Raises
    ------
    UserError
        For settings that make no split, and whatever :meth:`ScreenData.read` refuses.
    """
    chosen = fill(PairSplitSettings, settings, "settings of pair splits")
    data = ScreenData.read(cells, responses)
    held_out = chosen.validation_fraction, chosen.test_fraction
    parts = pair_folds(
        data.lines.tolist(),
        data.drugs.tolist(),
        chosen.kind,
        chosen.n_repeats,
        chosen.seed,
        (1 - sum(held_out), *held_out),
        chosen.keep_repeats_together,
    )
    folds = tuple(named(part, data.ids.tolist()) for part in parts)
    write_splits(out, Splits(data_set, task_of(chosen.kind), chosen.seed, folds))
