import math

import numpy as np
import pytest

from celllm.scores import metrics

TRUTH = ["a", "a", "a", "a", "b", "b", "c", "c"]
PREDICTED = ["a", "a", "a", "b", "b", "a", "c", "c"]
# By hand: F1(a) = 2*3/(4+4) = 0.75, F1(b) = 2*1/(2+2) = 0.5, F1(c) = 1.
F1 = {"a": 0.75, "b": 0.5, "c": 1.0}


def test_macro_f1_is_the_mean_over_classes() -> None:
    assert metrics.macro_f1(TRUTH, PREDICTED) == pytest.approx(2.25 / 3, abs=1e-12)


def test_weighted_f1_divides_by_cells_not_by_classes() -> None:
    by_cells = (4 * F1["a"] + 2 * F1["b"] + 2 * F1["c"]) / 8
    assert metrics.weighted_f1(TRUTH, PREDICTED) == pytest.approx(by_cells, abs=1e-12)
    as_printed_in_the_paper = (4 * F1["a"] + 2 * F1["b"] + 2 * F1["c"]) / 3
    assert as_printed_in_the_paper > 1 > metrics.weighted_f1(TRUTH, PREDICTED)


def test_accuracy() -> None:
    assert metrics.accuracy(TRUTH, PREDICTED) == pytest.approx(6 / 8, abs=1e-12)


def test_a_class_predicted_but_never_true_counts_as_zero() -> None:
    assert metrics.macro_f1(["a", "a"], ["a", "b"], ["a", "b"]) == pytest.approx((2 / 3 + 0) / 2, abs=1e-12)


def test_a_class_neither_true_nor_predicted_is_left_out_of_the_macro_mean() -> None:
    assert metrics.macro_f1(TRUTH, PREDICTED, ["a", "b", "c", "d"]) == pytest.approx(0.75, abs=1e-12)


def test_f1_of_one_class() -> None:
    assert metrics.f1(TRUTH, PREDICTED, "a") == pytest.approx(0.75, abs=1e-12)
    assert metrics.f1(TRUTH, PREDICTED, "never") == 0.0


def test_classification_names() -> None:
    assert tuple(metrics.classification(TRUTH, PREDICTED)) == metrics.CLASSIFICATION


def test_regression_by_hand() -> None:
    got = metrics.regression([1.0, 2.0, 3.0, 6.0], [2.0, 2.0, 2.0, 6.0])
    assert tuple(got) == metrics.REGRESSION
    assert got["rmse"] == pytest.approx(math.sqrt(2 / 4), abs=1e-12)
    assert got["mae"] == pytest.approx(0.5, abs=1e-12)
    assert got["r2"] == pytest.approx(1 - 2 / 14, abs=1e-12)
    assert got["pearson"] == pytest.approx(12 / math.sqrt(14 * 12), abs=1e-12)


def test_what_does_not_exist_is_nan() -> None:
    constant = metrics.regression([1.0, 2.0], [5.0, 5.0])
    assert math.isnan(constant["pearson"])
    assert constant["r2"] == pytest.approx(1 - 25 / 0.5, abs=1e-12)
    target = metrics.regression(np.zeros(3), np.arange(3.0))
    assert math.isnan(target["pearson"])
    assert math.isnan(target["r2"])
