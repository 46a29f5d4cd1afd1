r"""The numbers that the tables print, from true and predicted values alone.

Definitions are those of the paper's appendix E, with one correction: the paper prints the weighted F1 as
:math:`\frac{1}{N} \sum_i n_i F_1^{(i)}` with :math:`N` the number of *classes*, which grows with the size
of the data set. Here, as everywhere else, the sum is divided by the number of *cells*.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CLASSIFICATION = ("macro_f1", "weighted_f1", "accuracy")
REGRESSION = ("pearson", "r2", "rmse", "mae")
WITHIN_DRUG = tuple(
    f"{name}_within_drug{part}"
    for name in ("pearson", "spearman", "rmse")
    for part in ("", "_q1", "_median", "_q3")
)
# "precision:B cell" is the precision of one class; in the same way recall and f1.
NAMES = (*CLASSIFICATION, "f1", *REGRESSION, *WITHIN_DRUG, "precision", "recall", "calibration_error")


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
    right, true, found = _counts(truth, predicted, classes)
    occurs = true + found > 0
    return float(np.mean(2 * right[occurs] / (true + found)[occurs])) if occurs.any() else math.nan


def weighted_f1(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str] | None = None) -> float:
    """Mean over the cells of the F1 of the cell's true class: sum of n_i F1_i over sum of n_i."""
    right, true, found = _counts(truth, predicted, classes)
    return float(np.average(_share(2 * right, true + found), weights=true))


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of the cells whose label is predicted."""
    return float(np.mean(np.asarray(truth) == np.asarray(predicted)))


def f1(truth: ArrayLike, predicted: ArrayLike, positive: Any) -> float:
    """F1 of one class against the rest, such as sensitive against resistant cells; 0 if never found."""
    right, true, found = _counts(truth, predicted, [positive])
    return float(_share(2 * right, true + found)[0])


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


def per_class(truth: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Precision, recall and F1 of each class that occurs in ``truth``, by names such as ``recall:B cell``.

    A class that is never predicted has precision 0.
    """
    classes = np.unique(truth)
    right, true, found = _counts(truth, predicted, classes)
    shares = {
        "precision": _share(right, found),
        "recall": _share(right, true),
        "f1": _share(2 * right, true + found),
    }
    return {
        f"{name}:{one}": float(value)
        for name, values in shares.items()
        for one, value in zip(classes, values, strict=True)
    }


# By hand: every job that fine-tunes an encoder would wait a second for scikit-learn to be imported.
def _counts(
    truth: ArrayLike, predicted: ArrayLike, classes: ArrayLike | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cells of each class: rightly predicted, true, predicted. None takes the classes that occur."""
    y, p = np.asarray(truth), np.asarray(predicted)
    names = np.union1d(y, p) if classes is None else np.asarray(classes)
    true, found = y == names[:, None], p == names[:, None]
    return (true & found).sum(axis=1), true.sum(axis=1), found.sum(axis=1)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """``part / whole``, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def calibration_error(right: ArrayLike, confidence: ArrayLike, n_bins: int = 15) -> float:
    """Expected calibration error of the likeliest class (Guo et al. 2017), mean ``|accuracy - confidence|``.

    Parameters
    ----------
    right : bool array (n,)
        Whether the likeliest class is the true one.
    confidence : float array (n,)
        Its probability. Cells are binned by it, into bins of equal width.
    """
    correct, sure = np.asarray(right, dtype=float), np.asarray(confidence, dtype=float)
    bins = np.minimum((sure * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, correct - sure, n_bins)
    return float(np.abs(gaps).sum() / len(correct))


def within_groups(truth: ArrayLike, predicted: ArrayLike, groups: ArrayLike) -> dict[str, float]:
    """Correlations and RMSE inside each drug: their mean and quartiles over the drugs (:data:`WITHIN_DRUG`).

    A correlation with a prediction that is the same for all lines is 0. Drugs with fewer than three pairs, or
    with one and the same response to all, are left out; NaN when none is left.
    """
    import pandas as pd

    table = pd.DataFrame({"y": truth, "p": predicted, "group": groups}, dtype=float).groupby("group")
    found: dict[str, list[float]] = {"pearson": [], "spearman": [], "rmse": []}
    for _, one in table:
        if len(one) < 3 or np.ptp(one["y"]) == 0:
            continue
        constant = np.ptp(one["p"]) <= 1e-12 * np.abs(one["p"]).max()
        for name, values in (("pearson", one), ("spearman", one.rank())):
            found[name].append(0.0 if constant else float(np.corrcoef(values["y"], values["p"])[0, 1]))
        found["rmse"].append(float(np.sqrt(np.mean((one["y"] - one["p"]) ** 2))))
    values = {}
    for name, of_drugs in found.items():
        numbers = [math.nan] * 4
        if of_drugs:
            numbers = [float(np.mean(of_drugs)), *np.quantile(of_drugs, (0.25, 0.5, 0.75)).tolist()]
        for part, number in zip(("", "_q1", "_median", "_q3"), numbers, strict=True):
            values[f"{name}_within_drug{part}"] = number
    return values
