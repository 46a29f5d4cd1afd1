"""Cell annotation: the label of each cell (paper, section 4.2.1, Tables 1 and B.2)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from celllm import methods
from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.corpus.settings import GroupSplitSettings, SplitSettings
from celllm.corpus.splits import (
    Rows,
    Splits,
    named,
    stratified_folds,
    stratified_fractions,
    warn_of_rare,
)
from celllm.errors import UserError
from celllm.methods.method import Genes, Labels, Part, Probabilities, read_only
from celllm.scores import metrics
from celllm.scores.columns import HELD_OUT
from celllm.settings import as_settings
from celllm.tasks.held_out import draw_groups, groups_of
from celllm.tasks.protocols import PAPER_ON_TEST, Rule, rules

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Annotation:
    """Labelled cells, their file, and what else is known of them."""

    cells: Part
    source: str
    obs: "pd.DataFrame"
    table: ClassVar[str] = "table1"
    metrics: ClassVar[tuple[str, ...]] = metrics.CLASSIFICATION
    rules: ClassVar[Mapping[str, Rule]] = rules(PAPER_ON_TEST)
    methods: ClassVar[Mapping[str, str]] = methods.CELLS

    @classmethod
    def read(
        cls, cells: str | Path, responses: str | Path | None = None, vocabulary: Vocabulary | None = None
    ) -> Self:
        """Read a prepared ``.h5ad``; one with a cell without label is a :class:`UserError`."""
        data = h5ad.read(cells, vocabulary)
        if "label" not in data.obs or data.obs["label"].isna().any():
            raise UserError(f"{cells}: this task needs a label for every cell in obs['label']")
        ids, labels = (np.asarray(names, dtype=str) for names in (data.obs_names, data.obs["label"]))
        genes = None
        if vocabulary is not None:
            places = np.array([vocabulary.index_of[symbol] for symbol in data.var_names])
            genes = Genes(vocabulary, read_only(places))
        return cls(Part(np.arange(data.n_obs), ids, data.X, labels, genes), str(cells), data.obs)

    @property
    def ids(self) -> Labels:
        """Names of the cells."""
        return self.cells.ids

    @property
    def truth(self) -> Labels:
        """Labels of the cells."""
        return self.cells.known

    @cached_property
    def classes(self) -> Labels:
        """All labels of the data set, sorted, each once."""
        return read_only(np.unique(self.truth))

    @property
    def whole(self) -> Part:
        """All cells without their labels."""
        return dataclasses.replace(self.cells, labels=None, classes=self.classes)

    def part(self, rows: Rows, labelled: bool = True) -> Part:
        """Some of the cells, with their labels or without."""
        cells = self.cells
        labels = cells.known[rows] if labelled else None
        return Part(rows.copy(), cells.ids[rows], cells.counts[rows], labels, cells.genes, self.classes)

    def measure(
        self, rows: Rows, predicted: Labels, probabilities: Probabilities | None = None
    ) -> dict[str, float]:
        """F1 and accuracy over the classes of the data set, then class by class, and the calibration."""
        truth = self.truth[rows]
        values = metrics.classification(truth, predicted, self.classes.tolist())
        values |= metrics.per_class(truth, predicted)
        if probabilities is not None:
            confidence = probabilities.values.max(axis=1)
            values["calibration_error"] = metrics.calibration_error(truth == predicted, confidence)
        return values

    def draw(self, name: str, data_set: str, settings: Mapping[str, Any] | str | None) -> Splits:
        """Draw splits of the cells, stratified by label, or over whole groups of them.

        Raises :class:`UserError` for settings that make no split, and cells that are all of one label, in the
        training side too.
        """
        if name in HELD_OUT:
            held = as_settings(GroupSplitSettings, settings, "settings of splits")
            groups = groups_of(self.obs, held.group, self.source)
            return draw_groups(name, data_set, held, self.ids, groups, self.truth, self.source)
        chosen = as_settings(SplitSettings, settings, "settings of splits")
        ids, labels = self.ids.tolist(), self.truth.tolist()
        if len(set(labels)) < 2:
            raise UserError(f"{self.source}: needs cells of two labels at least to be split, has 1")
        warn_of_rare(labels, chosen.n_folds, data_set)
        if chosen.train_fraction is None:
            parts = stratified_folds(ids, labels, chosen.n_folds, chosen.seed, chosen.validation_fraction)
        else:
            seeds = range(chosen.seed, chosen.seed + chosen.n_folds)
            parts = stratified_fractions(
                ids, labels, chosen.train_fraction, seeds, chosen.validation_fraction
            )
        return Splits(data_set, name, chosen.seed, tuple(named(part, ids) for part in parts))


TASK = Annotation
