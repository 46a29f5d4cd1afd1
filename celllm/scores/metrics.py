r"""The numbers that the tables print, from true and predicted values alone.

Definitions are those of the paper's appendix E, with one correction: the paper prints the weighted F1 as
:math:`\frac{1}{N} \sum_i n_i F_1^{(i)}` with :math:`N` the number of *classes*, which grows with the size
of the data set. Here, as everywhere else, the sum is divided by the number of *cells*.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CLASSIFICATION = ("macro_f1", "weighted_f1", "accuracy")
REGRESSION = ("pearson", "r2", "rmse", "mae")
NAMES = (*CLASSIFICATION, "f1", *REGRESSION)


def macro_f1(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str] | None = None) -> float:
    """Mean over the classes of the F1 of each class (fraction in 0..1).

    Parameters
    ----------
    truth, predicted
        Labels of the same cells.
    classes
        The classes of the data set; None takes those that occur in ``truth`` or ``predicted``. A class that
        is predicted but never true, or true but never predicted, counts as 0. A class that is neither has no
        F1 (0/0) and is left out of the mean; it happens in small validation parts.
    """
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, labels=classes, average="macro", zero_division=np.nan))


def weighted_f1(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str] | None = None) -> float:
    """Mean over the cells of the F1 of the cell's true class: sum of n_i F1_i over sum of n_i."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, labels=classes, average="weighted", zero_division=0))


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the cells whose label is predicted."""
    return float(np.mean(np.asarray(truth) == np.asarray(predicted)))


def f1(truth: ArrayLike, predicted: ArrayLike, positive: Any) -> float:
    """F1 of one class against the rest, such as sensitive against resistant cells; 0 if never found."""
    from sklearn.metrics import f1_score

    true, found = np.asarray(truth) == positive, np.asarray(predicted) == positive
    return float(f1_score(true, found, zero_division=0))


def classification(
    truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str] | None = None
) -> dict[str, float]:
    """All metrics of cell annotation, by the names of :data:`CLASSIFICATION`."""
    return {
        "macro_f1": macro_f1(truth, predicted, classes),
        "weighted_f1": weighted_f1(truth, predicted, classes),
        "accuracy": accuracy(truth, predicted),
    }


def regression(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Pearson correlation, R², RMSE and MAE, by the names of :data:`REGRESSION`.

    Where the target is constant, correlation and R² do not exist; where the prediction is constant, the
    correlation does not. Such a value is NaN, which a score file reports as "not-applicable".
    """
    y, p = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    error = y - p
    return {
        "pearson": math.nan if np.ptp(y) == 0 or np.ptp(p) == 0 else float(np.corrcoef(y, p)[0, 1]),
        "r2": float(1 - np.sum(error**2) / np.sum((y - y.mean()) ** 2)) if np.ptp(y) > 0 else math.nan,
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
    }
