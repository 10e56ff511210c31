"""The one gate for the whole data set: false alarms, persistence, and what planted shifts it sees."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from monitoring.detectors import drift
from monitoring.results import Drift
from tests.benchmarks import drift_power, planted_shifts


def summaries(seed: int, days: int, shift: float = 0.0) -> pd.DataFrame:
    """Day summaries of forty columns that swing from day to day."""
    table = np.random.default_rng(seed).normal(size=(days, 40))
    table[:, 0] += shift
    return pd.DataFrame(table, columns=[f"c{n}|mean" for n in range(40)]).assign(**{"rows|rows": 500.0})


def test_days_like_the_others_are_steady() -> None:
    result = drift.decide(summaries(0, 28), summaries(1, 7), [])
    assert (result.verdict, result.persisted) == ("steady", 0)


def test_a_column_that_moved_by_four_swings_is_found_and_ranked_first() -> None:
    result = drift.decide(summaries(0, 28), summaries(1, 7, shift=4.0), [])
    assert result.verdict == "moved"
    assert result.effects[0].column == "c0|mean"
    assert result.p_value == 0.001  # no permutation of 999 was as far apart


def test_persistence_counts_the_last_windows_only() -> None:
    moved, steady = (
        drift.decide(summaries(0, 28), summaries(1, 7, shift), [False, True, True]) for shift in (4.0, 0.0)
    )
    assert (moved.persisted, moved.windows) == (2, 3)
    assert drift.persisted(moved)
    assert not drift.persisted(steady)
    assert not drift.persisted(drift.decide(summaries(0, 28), summaries(1, 7, 4.0), [False, False, True]))


@pytest.mark.parametrize(("reference", "current"), [(0, 7), (28, 0), (2, 7), (28, 2)])
def test_too_few_days_are_inconclusive(reference: int, current: int) -> None:
    result: Drift = drift.decide(summaries(0, reference), summaries(1, current), [])
    assert result.verdict == "inconclusive"
    assert result.p_value is None


@pytest.fixture(scope="module")
def year(rows: pd.DataFrame) -> drift_power.Year:
    return drift_power.prepare(rows)


@pytest.mark.slow
@pytest.mark.flights
def test_a_nominal_95_percent_interval_over_consecutive_days_of_the_year_covers_at_least_90(
    year: drift_power.Year,
) -> None:
    """As independent days they would cover 54 to 74 %."""
    for length in drift_power.COVERED:
        assert min(drift_power.coverage(year, length).values()) >= 0.9
        assert max(drift_power.coverage(year, length, correlation=0.0).values()) < 0.75


@pytest.mark.slow
@pytest.mark.flights
def test_at_most_1_percent_of_consecutive_weeks_lead_to_a_false_retraining(year: drift_power.Year) -> None:
    wrong, runs = drift_power.false_retrainings(year)
    assert runs > 200
    assert wrong <= 0.01 * runs


@pytest.mark.slow
@pytest.mark.flights
def test_windows_without_drift_cause_at_most_1_percent_alarms_on_random_and_on_consecutive_days(
    year: drift_power.Year,
) -> None:
    assert drift_power.alarms(year, drift_power.unmoved(year, 300)) <= 0.01
    assert drift_power.alarms(year, drift_power.unmoved_weeks(year, 300)) <= 0.01


@pytest.mark.slow
@pytest.mark.flights
def test_planted_shifts_are_seen_within_a_week(year: drift_power.Year) -> None:
    seen = planted_shifts.delays(year)
    least = {"°C for °F": 1.0, "nulls at JFK": 1.0, "clock + 1 h": 0.87, "stuck temperature": 0.75}
    assert all(seen[name][7] >= share for name, share in least.items()), seen
    assert all(shares[3] <= shares[7] for shares in seen.values())


@pytest.mark.slow
@pytest.mark.flights
def test_the_default_preset_cries_wolf_on_the_same_windows(year: drift_power.Year) -> None:
    """Which is why it draws our columns and decides nothing."""
    alarms, share = drift_power.theirs(year, 10)
    assert alarms >= 5
    assert share > 0.3
