"""Cell-line drug response: ln IC50 (µM) of a drug on a cell line (paper, section 4.2.2, Tables 3 and B.1).

Predicted from the expression of the line and the structure of the drug. As the authors' released code (and,
for the parts, section 4.2.2), the protocol ``paper`` stops on a validation part, ten epochs past the best
one, and scores the model of the last epoch on a test part of its own.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from celllm import methods
from celllm.cells import h5ad
from celllm.cells.genes import Vocabulary
from celllm.cells.responses import read_responses
from celllm.cells.values import linear
from celllm.corpus.settings import GroupSplitSettings, PairSplitSettings
from celllm.corpus.splits import Rows, Splits, named, pair_folds
from celllm.errors import UserError
from celllm.graph.molecules import Molecule, read_smiles
from celllm.methods.method import Genes, read_only
from celllm.methods.pairs import Pairs, Responses, Screen
from celllm.scores import metrics
from celllm.scores.columns import HELD_OUT
from celllm.settings import as_settings
from celllm.tasks.held_out import draw_groups, groups_of
from celllm.tasks.protocols import PAPER_ON_VALIDATION, Rule, rules

log = logging.getLogger(__name__)

N_NAMED = 5  # lines or drugs that a message names at most


@dataclass(frozen=True)
class DrugResponse:
    """Pairs of a cell line and a drug, brought together and cleaned.

    ``ids`` are ``line|drug|screen``, unique: a drug screened twice on a line has two pairs. ``obs`` says by
    name what is known of the cell lines, ``source`` is their file.
    """

    pairs: Pairs
    ids: NDArray[np.str_]
    obs: pd.DataFrame
    source: str
    table: ClassVar[str] = "table3"
    metrics: ClassVar[tuple[str, ...]] = metrics.REGRESSION
    rules: ClassVar[Mapping[str, Rule]] = rules(PAPER_ON_VALIDATION)
    methods: ClassVar[Mapping[str, str]] = methods.PAIRS

    @classmethod
    def read(
        cls, cells: str | Path, responses: str | Path | None = None, vocabulary: Vocabulary | None = None
    ) -> Self:
        """Read prepared expression and a table of responses.

        Pairs without a finite response, without expression of the line or without a readable structure of the
        drug are left out, and the log says how many and names lines and drugs.

        Raises :class:`UserError` when no pair is left, a pair occurs twice, a drug has two structures or all
        responses are equal.
        """
        if responses is None:
            raise UserError("drug response: no table of responses; pass --responses")
        data = h5ad.read(cells, vocabulary)
        genes = None
        if vocabulary is not None:
            ids = np.array([vocabulary.index_of[symbol] for symbol in data.var_names])
            genes = Genes(vocabulary, read_only(ids))
        return cls.join(data.X, data.obs, responses, genes, data.uns["celllm"]["values"], str(cells))

    @classmethod
    def join(
        cls,
        expression: csr_matrix,
        obs: pd.DataFrame,
        responses: str | Path,
        genes: Genes | None = None,
        values: str = "tpm",
        source: str = "",
    ) -> Self:
        """Join expression (lines x genes; ``values``: of which kind) with a table of responses."""
        table = read_responses(responses)
        smiles = table[["drug", "smiles"]].dropna().drop_duplicates()
        twice = smiles.loc[smiles["drug"].duplicated(), "drug"]
        if len(twice):
            raise UserError(f"{responses}: the drug {twice.iloc[0]} has two different SMILES; keep one")
        molecules = {
            drug: read_smiles(text) for drug, text in zip(smiles["drug"], smiles["smiles"], strict=True)
        }
        table = _usable(table, molecules, set(obs.index), responses)
        tested, line_of = np.unique(table["cell_line"].to_numpy(dtype=str), return_inverse=True)
        drugs, drug_of = np.unique(table["drug"].to_numpy(dtype=str), return_inverse=True)
        counts = linear(expression[obs.index.get_indexer(tested)], values)
        for array in (tested, drugs, counts.data):
            read_only(array)
        screen = Screen(
            lines=tested,
            counts=counts,
            drugs=drugs,
            molecules=tuple(molecule for drug in drugs if (molecule := molecules[drug]) is not None),
            genes=genes,
            values="counts" if values == "counts" else "tpm",
        )
        known = table["ln_ic50"].to_numpy(dtype=float)
        return cls(Pairs(screen, line_of, drug_of, known), pair_ids(table), obs, source)

    @property
    def truth(self) -> Responses:
        """Response to each pair, ln IC50."""
        return self.pairs.known

    @property
    def whole(self) -> Screen:
        """All lines and drugs."""
        return self.pairs.screen

    @property
    def lines(self) -> NDArray[np.str_]:
        """Cell line of each pair."""
        return self.pairs.screen.lines[self.pairs.lines]

    @property
    def drugs(self) -> NDArray[np.str_]:
        """Drug of each pair."""
        return self.pairs.screen.drugs[self.pairs.drugs]

    def part(self, rows: Rows, labelled: bool = True) -> Pairs:
        """Some of the pairs, with their responses or without."""
        pairs = self.pairs
        known = pairs.known[rows] if labelled else None
        return Pairs(pairs.screen, pairs.lines[rows], pairs.drugs[rows], known)

    def measure(self, rows: Rows, predicted: Responses, probabilities: None = None) -> dict[str, float]:
        """Correlation and errors of responses predicted for some pairs, and the same inside each drug."""
        truth = self.truth[rows]
        within = metrics.within_groups(truth, predicted, self.pairs.drugs[rows])
        return metrics.regression(truth, predicted) | within

    def draw(self, name: str, data_set: str, settings: Mapping[str, Any] | str | None) -> Splits:
        """Draw splits by pairs (``response_warm``), by cell lines (``response_cold``) or over whole groups.

        Groups are the drugs, or those of the cell lines in a column of obs.

        Raises :class:`UserError` for settings that make no split.
        """
        if name in HELD_OUT:
            held, groups = as_settings(GroupSplitSettings, settings, "settings of splits"), self.drugs
            if held.group != "drug":
                of_line = pd.Series(groups_of(self.obs, held.group, self.source), self.obs.index)
                groups = of_line.loc[self.lines].to_numpy(dtype=str)
            return draw_groups(name, data_set, held, self.ids, groups, np.full(len(groups), ""), self.source)
        chosen = as_settings(PairSplitSettings, settings, "settings of splits")
        held_out = chosen.validation_fraction, chosen.test_fraction
        parts = pair_folds(
            self.lines.tolist(),
            self.drugs.tolist(),
            "cold" if name == "response_cold" else "warm",
            chosen.n_repeats,
            chosen.seed,
            (1 - sum(held_out), *held_out),
            chosen.keep_repeats_together,
        )
        return Splits(data_set, name, chosen.seed, tuple(named(part, self.ids.tolist()) for part in parts))


def pair_ids(table: pd.DataFrame) -> NDArray[np.str_]:
    """``line|drug|screen`` of each row of a table of responses."""
    named = table["cell_line"] + "|" + table["drug"] + "|" + table["screen"].fillna("")
    return named.to_numpy(dtype=str)


def _usable(
    table: pd.DataFrame, molecules: dict[str, Molecule | None], expressed: set[str], path: str | Path
) -> pd.DataFrame:
    """The pairs that can be learned from; the others are counted in the log, each under its first reason."""
    table = table.assign(ln_ic50=pd.to_numeric(table["ln_ic50"], errors="coerce").astype(float))
    unreadable = [drug for drug, molecule in molecules.items() if molecule is None]
    kept = np.ones(len(table), dtype=bool)
    for reason, column, bad in (
        ("no finite ln IC50", "", ~np.isfinite(table["ln_ic50"].to_numpy())),
        ("a cell line without expression", "cell_line", ~table["cell_line"].isin(expressed).to_numpy()),
        ("a drug without structure", "drug", ~table["drug"].isin(molecules.keys()).to_numpy()),
        ("a drug whose SMILES cannot be read", "drug", table["drug"].isin(unreadable).to_numpy()),
    ):
        if (kept & bad).any():
            names = sorted(set(table.loc[kept & bad, column].astype(str))) if column else []
            more = f" and {len(names) - N_NAMED} more" if len(names) > N_NAMED else ""
            some = f": {', '.join(names[:N_NAMED])}{more}" if names else ""
            log.warning("%s: %d pairs left out, %s%s", path, (kept & bad).sum(), reason, some)
        kept &= ~bad
    table = table[kept]
    if table.empty:
        raise UserError(f"{path}: no pair is left that has a response, expression and a structure")
    twice = pd.Series(pair_ids(table)).duplicated()
    if twice.any():
        raise UserError(f"{path}: the pair {pair_ids(table)[twice.argmax()]} occurs twice; keep one")
    if np.ptp(table["ln_ic50"].to_numpy()) == 0:
        value = table["ln_ic50"].iloc[0]
        raise UserError(f"{path}: all {len(table)} responses are {value}; there is nothing to predict")
    return table


TASK = DrugResponse
