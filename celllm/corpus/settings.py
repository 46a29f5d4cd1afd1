"""Settings of tokens, splits and the leakage report."""

from typing import Literal, Self

from pydantic import model_validator

from celllm.settings import Settings, setting, wrong

LogBase = Literal["e", "2"]


_MAX_LENGTH = setting(6000, "longest sequence of a cell, [CLS] counted (paper, Table F.1; released)", ge=2)
_KEEP = setting(
    "highest", "genes that stay of a longer cell: the highest expressed, or the first in order (released)"
)


class RunTokens(Settings):
    """What is the same for all encoders of a run."""

    max_length: int = _MAX_LENGTH
    keep: Literal["highest", "first"] = _KEEP


class TokenSettings(Settings):
    """How cells become tokens; see :class:`celllm.corpus.tokens.Tokeniser`."""

    zeros: bool = setting(False, "the full gene vector in place of the expressed genes")
    n_genes: int | None = setting(
        None, "with zeros: only the genes detected in most pre-training cells; null: all", ge=1
    )
    max_length: int = _MAX_LENGTH
    keep: Literal["highest", "first"] = _KEEP
    n_bins: int = setting(6, "expression bins", ge=2, le=6)
    log_base: LogBase = setting("e", "base of the logarithm in the normalisation")

    @model_validator(mode="after")
    def _subset_of_all(self) -> Self:
        if self.n_genes is not None and not self.zeros:
            raise wrong("n_genes", "null without zeros, where each cell has its own genes", self.n_genes)
        return self


class SplitSettings(Settings):
    """How labelled cells are split: k folds, or repeated draws where ``train_fraction`` is given."""

    n_folds: int = setting(5, "splits: folds of one partition, or repeated draws", ge=1)
    seed: int = setting(0, "of all draws; repeated draws take seed, seed + 1 ...", ge=0)
    validation_fraction: float = setting(0.1, "part of the training side that models choose on", gt=0, lt=1)
    train_fraction: float | None = setting(
        None,
        "training side, stratified, validation part included; all else is tested; null: k folds",
        gt=0,
        lt=1,
    )

    @model_validator(mode="after")
    def _two_folds(self) -> Self:
        if self.train_fraction is None and self.n_folds < 2:
            raise wrong("n_folds", "at least 2 without train_fraction", self.n_folds)
        return self


class PairSplitSettings(Settings):
    """How pairs of a cell line and a drug are split."""

    n_repeats: int = setting(5, "independent draws, with the seeds seed, seed + 1 ...", ge=1)
    seed: int = setting(0, "of the first draw", ge=0)
    validation_fraction: float = setting(
        0.1, "part of all pairs (warm) or lines (cold) that models choose on", gt=0, lt=1
    )
    test_fraction: float = setting(0.1, "part of all pairs (warm) or lines (cold) that is tested", gt=0, lt=1)
    keep_repeats_together: bool = setting(
        True, "both screens of a drug on a line are in the same part; the paper drew them one by one"
    )

    @model_validator(mode="after")
    def _some_left(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise wrong("test_fraction", "less than 1 together with validation_fraction", self.test_fraction)
        return self


class GroupSplitSettings(Settings):
    """How cells or pairs are split where whole groups are held out: donors, patients, tissues, drugs."""

    group: str = setting(description="column of obs with the groups; in drug response also `drug`")
    n_folds: int | None = setting(
        None,
        "folds; groups are dealt out so that these are of about equal size; null: one for each group",
        ge=2,
    )
    seed: int = setting(0, "of the order in which groups are dealt out, and of the validation parts", ge=0)
    validation_fraction: float = setting(0.1, "part of the training side that models choose on", gt=0, lt=1)
    validation: Literal["rows", "groups"] = setting(
        "rows",
        "what models choose on: cells or pairs of the groups that they learn from, or groups of their own",
    )


class LeakageSettings(Settings):
    """What the leakage report says of the run."""

    run: str = setting("", "name of the run")
    toy: bool = setting(False, "whether it is a toy")
    drop: bool = setting(False, "leave the cells of pre-training out that equal a cell of a task")
