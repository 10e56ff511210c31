"""The mean over days that hang together, against numbers worked out by hand, and against real consecutive days."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from level1_pipeline.evaluation.day_mean import day_mean, inflation

FIRST = date(2013, 5, 1)


def days(*numbers: int) -> list[date]:
    return [FIRST + timedelta(days=number) for number in numbers]


def test_two_days_in_a_row_are_worked_out_by_hand() -> None:
    """Correlation 1/2: the mean of two has (1 + 1 + 2 · 1/2) / 4 = 3/4 of a day's variance instead of 1/2. Values 1 and 3:
    the sum of squares is 2 = variance · (2 - 3/2), so the variance is 4 and the error the root of 3."""
    mean = day_mean([1.0, 3.0], days(0, 1), correlation=0.5)
    assert inflation(days(0, 1), 0.5) == 1.5
    assert (mean.value, mean.variance, mean.freedom) == (2.0, 4.0, 1 / 1.5)
    assert mean.error == pytest.approx(np.sqrt(3))
    assert mean.t == pytest.approx(2 / np.sqrt(3))


def test_days_far_apart_give_students_interval() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 9)
    mean = day_mean(values, days(*range(0, 900, 100)))
    assert mean.half_width(0.975) == pytest.approx(
        stats.ttest_1samp(values, 0).confidence_interval(0.95).high - values.mean()
    )


def test_the_order_of_the_days_says_nothing_and_their_distance_does() -> None:
    values, places = np.random.default_rng(1).normal(size=6), [3, 1, 2, 9, 30, 4]
    order = np.argsort(places)
    assert day_mean(values, days(*places)) == pytest.approx(
        day_mean(values[order], days(*np.array(places)[order].tolist()))
    )
    close, apart = (day_mean(values, days(*range(0, 6 * step, step))).error for step in (1, 3))
    assert close > apart


@pytest.mark.parametrize("n", [0, 1])
def test_less_than_two_days_have_no_bound(n: int) -> None:
    mean = day_mean([2.0] * n, days(*range(n)))
    assert (mean.half_width(0.9), mean.t) == (np.inf, 0.0)


def test_equal_days_have_no_error() -> None:
    assert day_mean([0.125] * 7, days(*range(7))).half_width(0.9) == 0


@pytest.mark.parametrize("n", [7, 14, 20])
def test_an_interval_over_simulated_days_that_hang_together_covers_as_it_says(n: int) -> None:
    """3,000 first-order autoregressions; three standard errors of the count."""
    draw, correlation, runs = np.random.default_rng(n), 0.5, 3000
    x = draw.normal(size=(runs, n))
    for day in range(1, n):
        x[:, day] = correlation * x[:, day - 1] + np.sqrt(1 - correlation**2) * x[:, day]
    means = [day_mean(row, days(*range(n)), correlation) for row in x]
    covered = np.mean([abs(mean.value) <= mean.half_width(0.975) for mean in means])
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
    assert covered < 0.99
