"""Metrics inside drugs, class by class, and calibration, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from celllm.scores import metrics


def test_within_drugs_against_scipy() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 20)
    truth = 5.0 * groups + rng.normal(size=120)
    predicted = 5.0 * groups + rng.normal(size=120)
    found = metrics.within_groups(truth, predicted, groups)
    each = [(truth[groups == g], predicted[groups == g]) for g in range(6)]
    for name, values in {
        "pearson": [stats.pearsonr(*pair)[0] for pair in each],
        "spearman": [stats.spearmanr(*pair)[0] for pair in each],
        "rmse": [np.sqrt(np.mean((y - p) ** 2)) for y, p in each],
    }.items():
        assert found[f"{name}_within_drug"] == pytest.approx(np.mean(values), abs=1e-12)
        assert found[f"{name}_within_drug_q3"] == pytest.approx(np.quantile(values, 0.75), abs=1e-12)
    assert tuple(found) == metrics.WITHIN_DRUG
    assert metrics.regression(truth, predicted)["pearson"] > 0.95  # pooled, the drugs' means are all of it
    assert abs(found["pearson_within_drug"]) < 0.3


def test_means_of_drugs_have_no_correlation_inside_a_drug() -> None:
    groups = np.repeat(np.arange(3), 5)
    truth = np.arange(15.0)
    means = np.repeat([2.0, 7.0, 12.0], 5)
    found = metrics.within_groups(truth, means, groups)
    assert found["pearson_within_drug"] == found["spearman_within_drug_q3"] == 0
    assert found["rmse_within_drug"] == pytest.approx(math.sqrt(2))


def test_drugs_that_cannot_be_judged_are_left_out() -> None:
    groups = np.array([0, 0, 0, 1, 1, 2, 2, 2])  # two pairs of 1; all responses to 2 are equal
    truth = np.array([1.0, 2.0, 3.0, 0.0, 9.0, 4.0, 4.0, 4.0])
    assert metrics.within_groups(truth, truth, groups)["pearson_within_drug"] == pytest.approx(1)
    assert all(
        math.isnan(value) for value in metrics.within_groups(truth[3:], truth[3:], groups[3:]).values()
    )


def test_class_by_class() -> None:
    found = metrics.per_class(["a", "a", "b", "c"], ["a", "b", "b", "d"])
    assert found == pytest.approx({
        "precision:a": 1, "precision:b": 0.5, "precision:c": 0,
        "recall:a": 0.5, "recall:b": 1, "recall:c": 0,
        "f1:a": 2 / 3, "f1:b": 2 / 3, "f1:c": 0,
    })  # fmt: skip


def test_calibration_error() -> None:
    right = np.array([True, False, True, True])
    # Two bins: at 0.5 half are right, at 0.9 all are.
    assert metrics.calibration_error(right, [0.5, 0.5, 0.9, 0.9]) == pytest.approx(0.05)
    assert metrics.calibration_error([True, True], [1.0, 1.0]) == 0
    assert metrics.calibration_error([False, False], [1.0, 1.0]) == 1
