"""Mean and spread over splits, and paired comparisons of two models that were scored on the same splits.

Scores of cross-validation folds or of repeated random splits are not independent: their training sets
overlap. The plain t-test then finds differences where there are none, so comparisons use the corrected
resampled t-test of Nadeau and Bengio; a bootstrap over splits is there as a second opinion that assumes no
distribution.

References
----------
C. Nadeau, Y. Bengio (2003). Inference for the generalization error. Machine Learning 52, 239-281.
R. R. Bouckaert, E. Frank (2004). Evaluating the replicability of significance tests. PAKDD 2004.
B. Efron, R. J. Tibshirani (1993). An Introduction to the Bootstrap. Chapman & Hall.
S. Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6,
65-70.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation (n - 1 in the denominator; NaN for a single value)."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Comparison:
    """A mean over splits with its interval.

    ``low``, ``high`` and ``p`` (two-sided, against a mean of zero) are NaN for a single split. ``effect`` is
    the mean in standard deviations of the values (Cohen's d of paired differences), NaN where these do not
    vary.
    """

    n: int
    mean: float
    low: float
    high: float
    p: float
    effect: float
    method: str


def summarise(values: Sequence[float]) -> Summary:
    """Mean and sample standard deviation (ddof = 1) of at least one finite value."""
    array = _finite(values)
    return Summary(array.size, float(array.mean()), _sd(array))


def corrected_resampled_t(values: Sequence[float], test_over_train: float, level: float = 0.95) -> Comparison:
    """Corrected resampled t-test and interval for a mean over splits (Nadeau & Bengio 2003, section 4.5).

    Parameters
    ----------
    values
        One value per split: a difference between two models on the same split, or a score.
    test_over_train
        Cells tested over cells trained on in one split; 0.25 for five folds. Zero gives the plain t-test.
    level
        Coverage of the interval.
    """
    array = _finite(values)
    mean, sd, n = float(array.mean()), _sd(array), array.size
    method = f"corrected resampled t-test, {level:.0%} interval, test/train {test_over_train:g}"
    if n < 2:
        return Comparison(n, mean, math.nan, math.nan, math.nan, math.nan, method)
    if sd == 0:
        return Comparison(n, mean, mean, mean, 1.0 if mean == 0 else 0.0, math.nan, method)
    error = sd * math.sqrt(1 / n + test_over_train)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return Comparison(n, mean, mean - half, mean + half, p, mean / sd, method)


def bootstrap(
    values: Sequence[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Percentile bootstrap over splits (Efron & Tibshirani 1993, chapter 13).

    With five splits there are few distinct resamples and the overlap of training sets is ignored: the
    interval is too short. It is given beside the corrected t-test, never instead of it.
    """
    array = _finite(values)
    mean, sd, n = float(array.mean()), _sd(array), array.size
    method = f"percentile bootstrap over splits, {level:.0%} interval, {resamples} resamples, seed {seed}"
    if n < 2:
        return Comparison(n, mean, math.nan, math.nan, math.nan, math.nan, method)
    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    means = array[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    tail = min(float((means <= 0).mean()), float((means >= 0).mean()))
    return Comparison(
        n, mean, float(low), float(high), min(1.0, 2 * tail), mean / sd if sd else math.nan, method
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (family-wise error), in the order given; NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, math.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    weights = np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * weights))
    return [float(value) for value in adjusted]


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"need at least one value and finite ones only, got {list(values)}")
    return array


def _sd(array: np.ndarray) -> float:
    """Sample standard deviation; exactly zero for equal values, where rounding would leave 1e-17."""
    if array.size < 2:
        return math.nan
    return 0.0 if np.ptp(array) == 0 else float(array.std(ddof=1))
