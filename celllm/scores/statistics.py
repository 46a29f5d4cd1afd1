"""Mean and spread over splits, and paired comparisons of two models that were scored on the same splits.

Scores of cross-validation folds or of repeated random splits are not independent: their training or test
parts overlap. The plain t-test then finds differences where there are none, so comparisons use the corrected
resampled t-test of Nadeau and Bengio.

Nadeau and Bengio's variance of a mean over n splits is sd² (1/n + ρ/(1 - ρ)), with ρ, the correlation of two
splits, taken to be the share of test cells that they have in common. That is right where test parts are small
and training parts are so large that it hardly matters which cells they contain: with 80 % to train and 20 %
to test ρ = 0.2 and ρ/(1 - ρ) = test/train = 0.25. In the few-shot task (5 % to train) it is the other way
round: the test part is nearly everything and adds next to no noise, the drawn training cells make the
difference, and two draws share 5 % of them. There test/train = 19 would make intervals ten times too wide. So
here ρ is the shared fraction of the *smaller* part, and the correction min(test/train, train/test); for folds
it equals theirs. tests/scores/test_coverage.py shows by simulation what either choice covers.

References
----------
C. Nadeau, Y. Bengio (2003). Inference for the generalization error. Machine Learning 52, 239-281.
R. R. Bouckaert, E. Frank (2004). Evaluating the replicability of significance tests. PAKDD 2004.
X. Bouthillier et al. (2021). Accounting for variance in machine learning benchmarks. MLSys 3.
S. R. Searle, G. Casella, C. E. McCulloch (1992). Variance Components. Wiley.
F. E. Satterthwaite (1946). An approximate distribution of estimates of variance components. Biometrics 2,
110-114.
S. Holm (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6,
65-70.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviations (n - 1 in the denominator; NaN for a single value).

    Attributes
    ----------
    n : int
        Number of splits.
    sd : float
        Over the splits of one pre-training; of several, the root of their mean variance.
    n_seeds : int
        Number of pre-trainings.
    seed_sd : float
        Of the pre-trainings' means.
    """

    n: int
    mean: float
    sd: float
    n_seeds: int = 1
    seed_sd: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """A mean over splits with its interval.

    ``low``, ``high``, ``t`` and ``p`` (two-sided, against a mean of zero) are NaN for a single split; where
    the values do not vary they are limits (the mean, the mean, infinity and 0). ``effect`` is the mean in
    standard deviations of the values (Cohen's d of paired differences), NaN where these do not vary.
    """

    n: int
    mean: float
    low: float
    high: float
    t: float
    p: float
    effect: float
    method: str
    n_seeds: int = 1


def summarise_crossed(values: ArrayLike) -> Summary:
    """Mean and both spreads of scores (n_seeds, n_splits); NaN where a seed lost a split, not all of them."""
    table = np.atleast_2d(np.asarray(values, dtype=float))
    rows = [_finite(row[~np.isnan(row)].tolist()) for row in table]
    freedom = np.array([row.size - 1 for row in rows])
    varied = [_sd(row) ** 2 if row.size > 1 else 0.0 for row in rows]
    means = np.array([row.mean() for row in rows])
    sd = math.sqrt(float(freedom @ varied) / freedom.sum()) if freedom.sum() else math.nan
    n_splits = max(row.size for row in rows)
    return Summary(n_splits, float(np.concatenate(rows).mean()), sd, len(rows), _sd(means))


def corrected_resampled_t(values: Sequence[float], test_over_train: float, level: float = 0.95) -> Comparison:
    """Corrected resampled t-test and interval for a mean over splits (Nadeau & Bengio 2003).

    Parameters
    ----------
    values
        One value per split: a difference between two models on the same split, or a score.
    test_over_train
        Cells tested over cells of the training side (those that models choose on included) in one split; 0.25
        for five folds. Zero gives the plain t-test. See :func:`correction`.
    level
        Coverage of the interval.
    """
    array = _finite(values)
    mean, sd, n = float(array.mean()), _sd(array), array.size
    method = f"corrected resampled t-test, {level:.0%} interval, test/train {test_over_train:g}"
    if n < 2:
        nan = math.nan
        return Comparison(n, mean, nan, nan, nan, nan, nan, method)
    error = sd * math.sqrt(1 / n + correction(test_over_train))
    if error == 0:
        t = math.copysign(math.inf, mean) if mean else 0.0
        return Comparison(n, mean, mean, mean, t, 0.0 if mean else 1.0, math.nan, method)
    from scipy import stats  # a second of import that tables without claims do not need

    half, t = float(stats.t.ppf((1 + level) / 2, n - 1)) * error, mean / error
    p = 2 * float(stats.t.sf(abs(t), n - 1))
    return Comparison(n, mean, mean - half, mean + half, t, p, mean / sd, method)


def crossed_t(values: ArrayLike, test_over_train: float, level: float = 0.95) -> Comparison:
    """Interval for a mean over several pre-trainings, each scored on the same splits.

    A two-way crossed random model (Searle et al. 1992, chapter 4): the variance of the mean is that of its
    splits (of the means over seeds, corrected) plus that of its seeds (of the means over splits), with
    degrees of freedom by Satterthwaite. What is peculiar to one seed on one split is counted in both, so
    that the interval is a little wide and never narrow. That both were drawn matters: an interval over
    splits alone is conditional on one encoder (Bouthillier et al. 2021).

    Parameters
    ----------
    values
        (n_seeds, n_splits), finite. One seed gives :func:`corrected_resampled_t`.
    test_over_train, level
        As there.
    """
    table = np.asarray(values, dtype=float)
    n_seeds, n_splits = table.shape
    by_split = corrected_resampled_t(table.mean(0).tolist(), test_over_train, level)
    if n_seeds < 2 or n_splits < 2:
        return by_split
    from scipy import stats

    of_splits = _sd(table.mean(0)) ** 2 * (1 / n_splits + correction(test_over_train))
    of_seeds = _sd(table.mean(1)) ** 2 / n_seeds
    error = math.sqrt(of_splits + of_seeds)
    method = f"{by_split.method}; variance of {n_seeds} seeds added"
    if error == 0:
        return replace(by_split, method=method, n_seeds=n_seeds)
    freedom = error**4 / (of_splits**2 / (n_splits - 1) + of_seeds**2 / (n_seeds - 1))
    half, t = float(stats.t.ppf((1 + level) / 2, freedom)) * error, by_split.mean / error
    p = 2 * float(stats.t.sf(abs(t), freedom))
    low, high = by_split.mean - half, by_split.mean + half
    return replace(by_split, low=low, high=high, t=t, p=p, method=method, n_seeds=n_seeds)


def half_width(variances: Sequence[float], n: int, level: float = 0.95) -> float:
    """Half of the interval of a mean over independent means of ``n`` runs each, from their variances."""
    from scipy import stats

    error = math.sqrt(sum(variances) / n) / len(variances)
    return float(stats.t.ppf((1 + level) / 2, n - 1)) * error


def correction(test_over_train: float) -> float:
    """ρ/(1 - ρ), the addition to 1/n in the variance of a mean over n splits (head of this module)."""
    if test_over_train < 0 or not math.isfinite(test_over_train):
        raise ValueError(f"test_over_train is a ratio of cells, got {test_over_train}")
    return min(test_over_train, 1 / test_over_train) if test_over_train else 0.0


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
    """Sample standard deviation; exactly zero where the values differ by rounding only."""
    if array.size < 2:
        return math.nan
    same = np.ptp(array) <= 1e-12 * np.abs(array).max()
    return 0.0 if same else float(array.std(ddof=1))
