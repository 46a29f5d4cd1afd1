import math

import numpy as np
import pytest
from scipy import stats

from celllm.scores.statistics import (
    corrected_resampled_t,
    correction,
    crossed_t,
    half_width,
    holm,
    summarise_crossed,
)


def test_summary_has_the_sample_standard_deviation() -> None:
    summary = summarise_crossed([[1.0, 2.0, 3.0, 4.0, 5.0]])
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


def test_one_split_has_no_interval() -> None:
    found = corrected_resampled_t([0.7], 0.25)
    assert (found.n, found.mean) == (1, 0.7)
    assert all(math.isnan(x) for x in (found.low, found.high, found.t, found.p, found.effect))
    assert math.isnan(summarise_crossed([[0.7]]).sd)


def test_equal_values_give_an_interval_of_no_width() -> None:
    found = corrected_resampled_t([0.1, 0.1, 0.1], 0.25)
    assert found.low == found.high == pytest.approx(0.1, rel=1e-15)
    assert (found.t, found.p) == (math.inf, 0.0)
    assert math.isnan(found.effect)
    assert corrected_resampled_t([-0.1, -0.1], 0.25).t == -math.inf
    nothing = corrected_resampled_t([0.0, 0.0], 0.25)
    assert (nothing.low, nothing.high, nothing.t, nothing.p) == (0.0, 0.0, 0.0, 1.0)


def test_rounding_is_no_spread() -> None:
    """0.9 - 0.8 and 0.8 - 0.7 differ in the last bit: no effect of 1e15 standard deviations comes of it."""
    values = [0.9 - 0.8, 0.8 - 0.7, 0.7 - 0.6]
    assert len(set(values)) > 1
    found = corrected_resampled_t(values, 0.25)
    assert found.low == found.high and math.isnan(found.effect)


@pytest.mark.parametrize("ratio", [0.25, 1 / 9, 1.0])
def test_the_interval_is_that_of_a_t_distribution_with_another_error(ratio: float) -> None:
    """scipy's location-scale t with sd · √(1/n + ratio), in place of sd · √(1/n)."""
    values = np.array([0.021, 0.034, 0.012, 0.043, 0.027])
    found = corrected_resampled_t(values.tolist(), ratio)
    error = stats.sem(values) * math.sqrt(1 + 5 * ratio)
    expected = stats.t(df=4, loc=values.mean(), scale=error)
    assert (found.low, found.high) == pytest.approx(expected.interval(0.95), rel=1e-12)
    assert found.t == pytest.approx(values.mean() / error, rel=1e-12)
    assert found.p == pytest.approx(2 * stats.t(df=4, loc=0, scale=error).sf(values.mean()), rel=1e-12)


def test_the_correction_follows_the_smaller_part() -> None:
    assert [correction(ratio) for ratio in (0.0, 0.25, 1.0, 4.0, 19.0)] == [0.0, 0.25, 1.0, 0.25, 1 / 19]
    values = [0.1, 0.4, 0.2, 0.5, 0.3]
    few_shot, its_mirror = (corrected_resampled_t(values, ratio) for ratio in (19.0, 1 / 19))
    assert few_shot.low == its_mirror.low and few_shot.p == its_mirror.p
    assert "test/train 19" in few_shot.method


@pytest.mark.parametrize("ratio", [-0.1, math.inf, math.nan])
def test_no_correction_for_what_is_no_ratio(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        corrected_resampled_t([0.1, 0.2], ratio)


def test_holm_agrees_with_a_step_down_in_words() -> None:
    """Reject while the smallest p is below level / (number left): p (Holm) is the level that does it."""
    p = np.random.default_rng(2).uniform(0, 0.2, 12)
    adjusted = holm(p.tolist())
    for level in (0.01, 0.05, 0.2, 0.5):
        rejected: set[int] = set()
        for number, which in enumerate(np.argsort(p)):
            if p[which] > level / (len(p) - number):
                break
            rejected.add(int(which))
        assert {i for i, value in enumerate(adjusted) if value <= level} == rejected


def test_holm_by_hand() -> None:
    """Sorted 0.01·4, 0.02·3, 0.03·2, 0.5·1, each at least as large as the one before; NaN is no test."""
    adjusted = holm([0.03, math.nan, 0.01, 0.5, 0.02])
    assert math.isnan(adjusted[1])
    assert [adjusted[i] for i in (2, 4, 0, 3)] == pytest.approx([0.04, 0.06, 0.06, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_no_statistics_of_nothing(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        corrected_resampled_t(values, 0.25)


def test_several_seeds_add_their_variance() -> None:
    """Two seeds that are 2 apart: a variance of 2 / 2 beside that of four splits (ρ/(1 - ρ) = 1/4)."""
    splits = np.array([0.0, 1.0, 2.0, 3.0])
    found = crossed_t(np.stack([splits, splits + 2]), 0.25)
    of_splits, of_seeds = (5 / 3) * (1 / 4 + 1 / 4), 2.0 / 2
    error = math.sqrt(of_splits + of_seeds)
    freedom = error**4 / (of_splits**2 / 3 + of_seeds**2 / 1)
    assert found.mean == 2.5
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=1e-9)
    assert found.p == pytest.approx(2 * stats.t.sf(2.5 / error, freedom), rel=1e-9)
    one = corrected_resampled_t(splits.tolist(), 0.25)
    assert crossed_t(splits[None], 0.25) == one
    assert found.high - found.low > one.high - one.low


def test_both_spreads_by_hand() -> None:
    """Seeds of means 1 and 5; variances 1 (two degrees of freedom) and 2 (one)."""
    found = summarise_crossed([[0.0, 1.0, 2.0], [4.0, 6.0, np.nan]])
    assert (found.n, found.n_seeds) == (3, 2)
    assert found.mean == pytest.approx(13 / 5)
    assert found.sd == pytest.approx(math.sqrt((2 * 1 + 1 * 2) / 3))
    assert found.seed_sd == pytest.approx(math.sqrt(8))
    one = summarise_crossed([[0.0, 1.0, 5.0]])
    assert (one.mean, one.n) == (2.0, 3)
    assert one.sd == pytest.approx(np.std([0.0, 1.0, 5.0], ddof=1))
    assert math.isnan(one.seed_sd) and math.isnan(summarise_crossed([[1.0]]).sd)


def test_half_width_of_the_papers_mean() -> None:
    assert half_width([8.5**2], 5) == pytest.approx(2.7764451 * 8.5 / math.sqrt(5), rel=1e-6)
    assert half_width([4.0, 9.0], 5) == pytest.approx(2.7764451 * math.sqrt(13 / 5) / 2, rel=1e-6)
