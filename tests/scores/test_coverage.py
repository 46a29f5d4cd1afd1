"""Coverage of the intervals, by simulation: two classifiers on splits of many data sets of one population."""

import numpy as np
import pytest
from numpy.typing import NDArray

from celllm.scores.statistics import corrected_resampled_t, correction, crossed_t

N_GENES, N_CELLS, N_SPLITS = 8, 300, 5
Cells = tuple[NDArray[np.float64], NDArray[np.int64]]


def population(n: int, rng: np.random.Generator) -> Cells:
    """Cells of two classes that differ in their means, with correlated genes."""
    label = rng.integers(0, 2, n)
    shared = rng.normal(size=(n, 1)) * (np.arange(N_GENES) < 4)
    return rng.normal(size=(n, N_GENES)) + shared + 0.4 * (2 * label[:, None] - 1), label


def gap(train: Cells, test: Cells) -> float:
    """Accuracy of linear discriminant analysis less that of the nearest centroid."""
    x, y = train
    means = np.stack([x[y == label].mean(0) for label in (0, 1)])
    spread = np.cov((x - means[y]).T) + 0.3 * np.eye(N_GENES)
    difference = means[1] - means[0]
    right = []
    for weights in (np.linalg.solve(spread, difference), difference):
        predicted = test[0] @ weights > weights @ means.mean(0)
        right.append(np.mean(predicted == test[1]))
    return float(right[0] - right[1])


def splits_of(n_train: int, rng: np.random.Generator) -> list[float]:
    """The gaps on random splits of one new data set."""
    x, y = population(N_CELLS, rng)
    orders = [rng.permutation(N_CELLS) for _ in range(N_SPLITS)]
    parts = [(order[:n_train], order[n_train:]) for order in orders]
    return [gap((x[train], y[train]), (x[test], y[test])) for train, test in parts]


@pytest.mark.parametrize("n_train", [15, 240])
def test_intervals_cover_the_truth(n_train: int) -> None:
    """5 % and 80 % to train. Binomial noise of 300 data sets: 0.0126 around a coverage of 0.95."""
    rng = np.random.default_rng(n_train)
    everyone = population(20_000, rng)
    truth = np.mean([gap(population(n_train, rng), everyone) for _ in range(300)])
    data_sets = [splits_of(n_train, rng) for _ in range(300)]
    ratio = N_CELLS / n_train - 1
    intervals = [corrected_resampled_t(values, ratio) for values in data_sets]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.90 < covered <= 0.995


@pytest.mark.parametrize(
    ("of_seeds", "of_both", "least", "most"), [(1.0, 0.3, 0.94, 0.99), (0.0, 1.0, 0.97, 1)]
)
def test_seeds_and_splits_together_cover_the_truth(
    of_seeds: float, of_both: float, least: float, most: float
) -> None:
    """Three pre-trainings on five independent splits around zero; splits alone miss what the seeds drew."""
    rng, n = np.random.default_rng(0), 2000
    seeds, splits = rng.normal(0, of_seeds, (n, 3, 1)), rng.normal(0, 0.5, (n, 1, 5))
    values = seeds + splits + rng.normal(0, of_both, (n, 3, 5))
    both = [crossed_t(table, 0.0) for table in values]
    covered = np.mean([found.low <= 0 <= found.high for found in both])
    assert least < covered <= most
    alone = [corrected_resampled_t(table.mean(0).tolist(), 0.0) for table in values]
    of_one = np.mean([found.low <= 0 <= found.high for found in alone])
    assert of_one < (0.65 if of_seeds else covered)


def test_few_shot_draws_hardly_correlate() -> None:
    """What speaks against test/train = 19 for 5 % to train: it stands for a correlation of 0.95."""
    rng = np.random.default_rng(0)
    values = np.array([splits_of(15, rng) for _ in range(300)])
    correlations = np.corrcoef(values.T)[np.triu_indices(N_SPLITS, 1)]
    assert abs(correlations.mean()) < 0.15
    assert correction(19.0) == pytest.approx(1 / 19)
    assert correction(0.25) == 0.25
