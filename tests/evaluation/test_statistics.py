import math

import numpy as np
import pytest
from scipy import stats

from celllm.evaluation.statistics import bootstrap, corrected_resampled_t, holm, summarise


def test_summary_has_the_sample_standard_deviation() -> None:
    summary = summarise([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (summary.n, summary.mean) == (5, 3.0)
    assert summary.sd == pytest.approx(math.sqrt(2.5), rel=1e-15)


def test_corrected_t_by_hand() -> None:
    """sd √2.5, error √2.5 · √(1/5 + 1/4) = 1.0607, t(0.975, 4) = 2.7764."""
    found = corrected_resampled_t([1.0, 2.0, 3.0, 4.0, 5.0], test_over_train=0.25)
    assert found.mean == 3.0
    assert found.high - found.mean == pytest.approx(2.776445105 * 1.060660172, rel=1e-9)
    assert found.mean - found.low == pytest.approx(found.high - found.mean, rel=1e-12)
    assert found.p == pytest.approx(0.04742065558431961, rel=1e-9)
    assert found.effect == pytest.approx(3 / math.sqrt(2.5), rel=1e-12)
    assert "corrected resampled t-test" in found.method


def test_without_overlap_it_is_the_t_test_of_scipy() -> None:
    values = np.random.default_rng(3).normal(0.3, 1, size=7)
    found = corrected_resampled_t(values.tolist(), test_over_train=0.0)
    expected = stats.ttest_1samp(values, 0.0)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_the_correction_widens_the_interval_by_its_factor() -> None:
    values = [0.1, 0.4, 0.2, 0.5, 0.3]
    plain = corrected_resampled_t(values, 0.0)
    corrected = corrected_resampled_t(values, 0.25)
    ratio = (corrected.high - corrected.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(math.sqrt((1 / 5 + 0.25) / (1 / 5)), rel=1e-12)


@pytest.mark.parametrize("method", [lambda v: corrected_resampled_t(v, 0.25), bootstrap])
def test_one_split_has_no_interval(method) -> None:
    found = method([0.7])
    assert (found.n, found.mean) == (1, 0.7)
    assert all(math.isnan(x) for x in (found.low, found.high, found.p, found.effect))
    assert math.isnan(summarise([0.7]).sd)


@pytest.mark.parametrize("method", [lambda v: corrected_resampled_t(v, 0.25), bootstrap])
def test_equal_values_give_an_interval_of_no_width(method) -> None:
    found = method([0.1, 0.1, 0.1])
    assert found.low == found.high == pytest.approx(0.1, rel=1e-15)
    assert found.p == 0.0
    assert math.isnan(found.effect)
    assert method([0.0, 0.0]).p == 1.0


def test_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(5).normal(1, 1, size=40)
    ours = bootstrap(values.tolist(), resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bootstrap_repeats_itself_with_its_seed() -> None:
    values = [0.1, 0.5, 0.2, 0.9]
    assert bootstrap(values, seed=4) == bootstrap(values, seed=4)
    assert bootstrap(values, seed=4) != bootstrap(values, seed=5)


def test_holm_by_hand() -> None:
    """Sorted 0.01·4, 0.02·3, 0.03·2, 0.5·1, each at least as large as the one before; NaN is no test."""
    adjusted = holm([0.03, math.nan, 0.01, 0.5, 0.02])
    assert math.isnan(adjusted[1])
    assert [adjusted[i] for i in (2, 4, 0, 3)] == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_no_statistics_of_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        summarise(values)
