"""Scores, intervals, slices and the paired comparison, against numbers that were worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.evaluation import metrics
from tests.support.problems import ONE_NUMBER

NOON = pd.Timestamp("2013-05-01 12:00", tz=problem.TIMEZONE).tz_convert("UTC")
# Student's t, 90th percentile, from a printed table.
T90 = {1: 3.078, 2: 1.886, 6: 1.440, 13: 1.350}
classification = pytest.mark.skipif(problem.TASK != "classification", reason="about probabilities and decisions")


def table(days: list[int], y: list[float], **slices: list[str]) -> pd.DataFrame:
    """Rows on the given days, with the given outcomes and values of the slices."""
    filler = {name: ["x"] * len(days) for name in problem.SLICES}
    times = [NOON + pd.Timedelta(days=day) for day in days]
    return pd.DataFrame({problem.EVENT_TIME: times, problem.TARGET: np.array(y, float), **filler, **slices})


# ---- days


def test_a_day_is_a_local_day_and_not_a_day_in_utc() -> None:
    midnight = pd.Timestamp("2013-05-02", tz=problem.TIMEZONE)
    times = [
        midnight - pd.Timedelta("1s"),
        midnight,
        midnight + pd.Timedelta("23h59min"),
        midnight + pd.Timedelta("25h"),
    ]
    rows = pd.DataFrame({problem.EVENT_TIME: pd.DatetimeIndex(times).tz_convert("UTC")})
    assert metrics.days(rows).tolist() == [0, 1, 1, 2]


def test_days_are_numbered_from_the_first_whatever_the_order_of_the_rows_and_gaps_count() -> None:
    assert metrics.days(table([5, 1, 3, 1], [0, 0, 1, 1])).tolist() == [4, 0, 2, 0]


# ---- champion against challenger


@pytest.mark.flights
def test_gain_and_harm_bound_are_those_worked_out_by_hand() -> None:
    """Two days, one flight late and one not on each. Log losses: the champion's -ln .5 on both days; the
    challenger's -ln .8 on the first and -ln .4 on the second. So the daily gains are
    ln(.8/.5) = .4700 and ln(.4/.5) = -.2231; mean .12343; deviation .69315/sqrt(2) = .49013. The days lie far apart, so
    that each is a draw of its own."""
    rows = table([0, 0, 100, 100], [1, 0, 1, 0])
    seen = metrics.compare(rows, np.array([0.5] * 4), np.array([0.8, 0.2, 0.4, 0.6]))
    assert seen.days == 2
    assert seen.gain == pytest.approx(0.12343, abs=1e-5)
    assert seen.harm_bound == pytest.approx(T90[1] * 0.49013 / math.sqrt(2) - 0.12343, abs=1e-3)
    assert not seen.identical


@pytest.mark.flights
@pytest.mark.parametrize("n", [3, 7, 14])
def test_the_harm_bound_is_students_one_sided_90_percent_bound_on_the_mean_of_daily_differences(n: int) -> None:
    """One late flight a day; the champion says 1/2 and the challenger 1/2·e^g, so that day's gain is g."""
    gains = np.random.default_rng(n).normal(0.01, 0.05, n)
    rows = table(list(range(0, 50 * n, 50)), [1.0] * n)  # far apart, so that each is a draw of its own
    seen = metrics.compare(rows, np.full(n, 0.5), 0.5 * np.exp(gains))
    deviation = math.sqrt(((gains - gains.mean()) ** 2).sum() / (n - 1))
    assert seen.gain == pytest.approx(gains.mean(), abs=1e-12)
    assert seen.harm_bound == pytest.approx(T90[n - 1] * deviation / math.sqrt(n) - gains.mean(), abs=1e-4)


@ONE_NUMBER
def test_days_in_a_row_say_less_than_days_apart() -> None:
    draw = np.random.default_rng(0)
    y, p, q = draw.integers(0, 2, 140), draw.uniform(0.2, 0.8, 140), draw.uniform(0.2, 0.8, 140)
    together, apart = (metrics.compare(table(list(np.repeat(range(7), 20) * step), list(y)), p, q) for step in (1, 50))
    assert together.gain == apart.gain
    widths = [seen.harm_bound + seen.gain for seen in (together, apart)]
    assert widths[0] > 1.2 * widths[1], widths


@pytest.mark.flights
def test_each_day_counts_the_same_however_many_rows_it_has() -> None:
    """A day of 9 late flights with a gain of ln 2 (1/4 -> 1/2) and a day of one with a gain of -ln 2."""
    rows = table([0] * 9 + [1], [1.0] * 10)
    seen = metrics.compare(rows, np.array([0.25] * 9 + [0.5]), np.array([0.5] * 9 + [0.25]))
    assert seen.gain == pytest.approx(0, abs=1e-12)


@classification
def test_a_worse_challenger_has_a_negative_gain_and_the_mirrored_comparison_a_positive_one() -> None:
    draw = np.random.default_rng(0)
    y, p = draw.integers(0, 2, 700), draw.uniform(0.1, 0.9, 700)
    rows, good = table(list(np.repeat(range(7), 100)), list(y)), np.where(y, 0.7, 0.3)
    worse, better = metrics.compare(rows, good, p), metrics.compare(rows, p, good)
    assert worse.gain == -better.gain < 0
    assert worse.harm_bound > -worse.gain


@ONE_NUMBER
def test_one_day_gives_no_bound_on_the_harm() -> None:
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, 50)
    seen = metrics.compare(table([0] * 50, list(y)), draw.uniform(0.2, 0.8, 50), draw.uniform(0.2, 0.8, 50))
    assert seen.days == 1
    assert seen.harm_bound == math.inf


@ONE_NUMBER
def test_identical_means_every_bit_and_one_other_prediction_is_not_identical() -> None:
    rows, p = table([0, 0, 1, 1], [1, 0, 1, 0]), np.array([0.2, 0.3, 0.4, 0.6])
    assert metrics.compare(rows, p, p.copy()).identical
    assert not metrics.compare(rows, p, np.nextafter(p, [0.2, 0.3, 1.0, 0.6])).identical


@pytest.mark.flights
def test_flips_count_decisions_that_change_and_say_where() -> None:
    """The desk warns from 1/4 on: 0.2 -> 0.3 flips, 0.3 -> 0.9 and 0.1 -> 0.24 do not, 0.25 -> 0.2499 does."""
    champion = np.array([0.2, 0.3, 0.1, 0.25, 0.2])
    challenger = np.array([0.3, 0.9, 0.24, 0.2499, 0.3])
    rows = table([0, 0, 0, 1, 1], [1, 0, 1, 0, 1], origin=["JFK", "JFK", "LGA", "LGA", "JFK"], carrier=["UA"] * 5)
    seen = metrics.compare(rows, champion, challenger)
    assert seen.flips == 3
    assert seen.flips_by_slice == {"carrier=UA": 3, "origin=JFK": 2, "origin=LGA": 1}


# ---- slices and groups


@pytest.mark.evidence("Model 6")
@ONE_NUMBER
def test_slices_that_are_too_small_are_not_judged_and_the_others_are_by_their_own_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not len(problem.SLICES):
        monkeypatch.setattr(problem, "SLICES", ("part",))
    name = problem.SLICES[0]
    draw = np.random.default_rng(0)
    values = ["a"] * 30 + ["b"] * 20 + ["c"] * 19
    rows = table(list(range(69)), list(draw.integers(0, 2, 69)), **{name: values})
    p = draw.uniform(0.1, 0.9, 69)
    result = metrics.by_slice(rows, p, 20).query("slice == @name").set_index("value")
    assert result["rows"].to_dict() == {"a": 30, "b": 20}
    for value, part in (("a", slice(0, 30)), ("b", slice(30, 50))):
        expected = problem.evaluate(rows[problem.TARGET].to_numpy()[part], p[part])
        assert result.loc[value, list(expected)].to_dict() == pytest.approx(expected, nan_ok=True)


def test_no_slice_is_large_enough() -> None:
    assert metrics.by_slice(table([0, 1], [0, 1]), np.array([0.2, 0.6]), 400).empty


@pytest.mark.evidence("Model 7")
@pytest.mark.flights
def test_gaps_between_groups_are_those_worked_out_by_hand() -> None:
    """JFK: four late flights, one of them without a warning; LGA: four late, three without. Miss rates 1/4 and
    3/4, so the gap is 1/2. Calibration (late flights / sum of probabilities): 4 / 2.4 and 4 / 1.1."""
    rows = table([0, 1] * 5, [1, 1, 1, 1, 0] * 2, origin=["JFK"] * 5 + ["LGA"] * 5)
    p = np.array([0.6, 0.6, 0.6, 0.2, 0.4, 0.6, 0.1, 0.1, 0.1, 0.2])
    gaps = metrics.group_gaps(rows, p, 5).query("slice == 'origin'").set_index("measure")
    miss, calibration = gaps.loc["miss rate"], gaps.loc["calibration"]
    assert (miss["highest"], miss["lowest"], miss["gap"]) == ("LGA 0.750", "JFK 0.250", pytest.approx(0.5))
    assert calibration["gap"] == pytest.approx(4 / 1.1 - 4 / 2.4)
    assert miss["low"] <= miss["gap"] <= miss["high"]


@pytest.mark.evidence("Model 7")
@pytest.mark.flights
def test_an_interval_of_a_gap_covers_zero_when_the_groups_are_alike_and_not_when_one_is_harmed() -> None:
    draw = np.random.default_rng(1)
    day = np.repeat(np.arange(14), 200)
    p = draw.uniform(0.05, 0.5, len(day))
    rows = table(
        list(day), list((draw.random(len(day)) < p).astype(float)), origin=list(draw.choice(["JFK", "LGA"], len(day)))
    )
    alike = metrics.group_gaps(rows, p, 400).query("slice == 'origin' and measure == 'miss rate'").iloc[0]
    assert alike["low"] < 0 < alike["high"]
    blind = np.where(rows["origin"] == "JFK", 0.05, p)  # nobody is warned at JFK
    harmed = metrics.group_gaps(rows, blind, 400).query("slice == 'origin' and measure == 'miss rate'").iloc[0]
    assert harmed["highest"].startswith("JFK 1.000")
    assert harmed["low"] > 0


def test_a_single_group_has_no_gap() -> None:
    assert metrics.group_gaps(table([0, 1, 2], [1, 0, 1]), np.array([0.2, 0.6, 0.7]), 1).empty


# ---- intervals


@pytest.mark.integration
@classification
@pytest.mark.slow
def test_about_19_of_20_intervals_cover_the_truth_when_rows_of_a_day_succeed_and_fail_together() -> None:
    """60 fortnights. Each day has a rate of its own, and the forecast is right on average: the expected
    Brier score is the mean of q(1 - q) + (q - p)² over days. An interval that took the rows for independent
    would be four times too narrow and cover about half of the time."""
    draw, covered, naive = np.random.default_rng(0), 0, 0
    name = "brier"
    low_high = (0.1, 0.5)
    q = draw.uniform(*low_high, 200_000)
    truth = float((q * (1 - q) + (q - 0.3) ** 2).mean())
    for _ in range(60):
        day = np.repeat(np.arange(14), 150)
        y = (draw.random(len(day)) < draw.uniform(*low_high, 14)[day]).astype(float)
        p = np.where(np.arange(len(day)) % 2, 0.3 + 1e-9, 0.3)
        row = metrics.with_intervals(y, p, day).loc[name]
        covered += row["low"] <= truth <= row["high"]
        half = 1.96 * ((y - p) ** 2).std() / math.sqrt(len(y))
        naive += abs(row["value"] - truth) <= half
    assert 52 <= covered <= 60
    assert naive <= 45


@ONE_NUMBER
def test_one_day_gives_no_interval() -> None:
    y = np.array([1.0, 0.0, 1.0, 0.0])
    intervals = metrics.with_intervals(y, np.array([0.6, 0.4, 0.7, 0.2]), np.zeros(4, int))
    assert intervals["value"].notna().all()
    assert intervals[["low", "high"]].isna().all().all()
