"""What a method of drug response is given: pairs of a cell line and a drug, and what is known of both."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from celllm.cells.values import tpm_of
from celllm.methods.expression import log_normalised
from celllm.methods.method import Choice, Genes, read_only
from celllm.scores import metrics

if TYPE_CHECKING:
    from celllm.graph.molecules import Molecule
    from celllm.training.best_epoch import ChosenEpoch
    from celllm.training.regression import Indices, KnownPairs

Responses = NDArray[np.float64]


@dataclass(frozen=True)
class Screen:
    """The cell lines and drugs of a table of responses.

    All of this is known for tested lines and drugs too; a method must not fit anything to lines for which it
    has no response.
    """

    lines: NDArray[np.str_]  # names (n_lines,)
    counts: csr_matrix  # expression on a linear scale (n_lines, genes)
    drugs: NDArray[np.str_]  # names (n_drugs,)
    molecules: "tuple[Molecule, ...]"  # structures of the drugs
    genes: Genes | None = None  # of the columns of `counts`
    values: str = "tpm"  # what `counts` holds, "tpm" or "counts"

    @cached_property
    def expression(self) -> NDArray[np.float64]:
        """Log-normalised expression (n_lines, genes), as all methods but the encoders take it."""
        return read_only(log_normalised(self.counts).toarray().astype(np.float64))

    @property
    def tpm(self) -> csr_matrix:
        """Expression in TPM (n_lines, genes); counts as counts per million."""
        return tpm_of(self.counts, self.values)

    @property
    def log2_tpm(self) -> NDArray[np.float32]:
        """log2(TPM + 1), (n_lines, genes)."""
        return np.log2(self.tpm.toarray().astype(np.float32) + 1)


@dataclass(frozen=True)
class Pairs:
    """Some pairs of a screen; responses, ln IC50, are None where the method may not know them."""

    screen: Screen
    lines: NDArray[np.int64]  # places in the screen (n,)
    drugs: NDArray[np.int64]  # likewise
    responses: Responses | None = None

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def known(self) -> Responses:
        """The responses; asking for those of test pairs is a mistake in the method."""
        if self.responses is None:
            raise ValueError("a method asked for the responses of pairs that it has to predict")
        return self.responses


Predict = Callable[[Pairs], Responses]


def known_pairs(pairs: Pairs) -> "KnownPairs":
    """Pairs as the training of a network takes them."""
    from celllm.training.regression import KnownPairs

    return KnownPairs(pairs.lines, pairs.drugs, pairs.known)


def chosen_epoch(found: "ChosenEpoch[Indices, Responses]") -> Choice[Pairs, Responses]:
    """A choice of the number of epochs."""
    return Choice(
        {"epochs": found.epochs},
        lambda pairs: found.predict((pairs.lines, pairs.drugs)),
        lambda pairs: found.predict_last((pairs.lines, pairs.drugs)),
    )


def selection_score(name: str) -> Callable[[Responses, Responses], float]:
    """Score of an epoch by a metric of regression: higher is better, one that does not exist is worst."""
    sign = -1 if name in ("rmse", "mae") else 1

    def score(truth: Responses, predicted: Responses) -> float:
        value = metrics.regression(truth, predicted)[name]
        return -math.inf if math.isnan(value) else sign * value

    return score
