"""The checks behind a rollout, one by one, on small tables; and for a regression, too."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import gate, problem
from level2_cicd import evidence, governor
from level2_cicd.logged import Counts
from level2_cicd.policy import Policy
from tests.problems import friedman

POLICY = Policy(shares=(0.25, 0.5))
SHAPE = ("NAME", "TASK", "TARGET", "EVENT_TIME", "TIMEZONE", "SLICES", "PRIMARY_METRIC", "GATE", "COSTS")


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SHAPE, "evaluate", "decide"):
        monkeypatch.setattr(problem, name, getattr(friedman, name))


def table(days: int, gains: list[float]) -> pd.DataFrame:
    """`days` days of 300 rows; the candidate's error is smaller than the champion's by the day's gain."""
    draws, n = np.random.default_rng(0), days * 300
    day = np.repeat(np.arange(days), 300)
    y, sign = draws.normal(15, 5, n), draws.choice([-1.0, 1.0], n)
    at = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(day * 24 + 6, unit="h")
    frame = {
        problem.EVENT_TIME: at,
        problem.TARGET: y,
        **{name: draws.choice(["a", "b"], n) for name in problem.SLICES},
    }
    return pd.DataFrame(frame | {"first": y + sign * 1.5, "second": y + sign * (1.5 - np.array(gains)[day])})


@pytest.mark.usefixtures("regression")
@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.1, 0.12, 0.09], "pass"),
        ([-0.1, -0.12, -0.09], "fail"),
        ([0.3, -0.4, 0.2], "inconclusive"),
        ([0.1, 0.1], "inconclusive"),
        ([0.0, 0.0, 0.0], "fail"),  # identical: no gain
    ],
)
def test_a_regression_is_judged_in_shadow_by_the_same_rule(gains: list[float], verdict: str) -> None:
    checks, days = evidence.quality(table(len(gains), gains), POLICY)
    outcomes = {check.outcome for check in checks}
    assert days == len(gains)
    assert max(outcomes, key=gate.SEVERITY.index) == verdict, checks


@pytest.mark.usefixtures("regression")
def test_gross_harm_of_a_regression_has_no_calibration_and_its_costs_are_not_applicable() -> None:
    y = np.linspace(0, 20, 200)
    assert evidence.harm(y, y + 1.2, y + 1.0, POLICY).outcome == "pass"
    assert evidence.harm(y, y + 3.0, y + 1.0, POLICY).outcome == "fail"
    assert governor.dollars_lost(y, y) is None


def test_too_few_outcomes_show_no_harm_and_say_who_waits_for_them() -> None:
    check = evidence.harm(np.zeros(99), np.zeros(99), np.zeros(99), POLICY)
    assert "the bake waits" in check.words


@pytest.mark.parametrize(
    ("mine", "theirs", "outcome"),
    [
        ((1000, 0), (1000, 0), "pass"),
        ((1000, 1), (1000, 0), "pass"),
        ((999, 1), (1000, 0), "fail"),
        ((1000, 20), (1000, 20), "pass"),  # what breaks both is not the candidate's fault
        ((0, 0), (0, 0), "pass"),
    ],
)
def test_errors_are_counted_against_the_champions(mine: tuple[int, int], theirs: tuple[int, int], outcome: str) -> None:
    assert evidence.errors(Counts(*mine), Counts(*theirs), POLICY).outcome == outcome


def test_a_distribution_is_judged_in_the_champions_standard_deviations() -> None:
    usual = Counts(1000, 0, 0.2, 0.1)
    assert evidence.distribution(Counts(1000, 0, 0.29, 0.1), usual, POLICY).outcome == "pass"
    assert evidence.distribution(Counts(1000, 0, 0.31, 0.1), usual, POLICY).outcome == "fail"
    assert evidence.distribution(Counts(), usual, POLICY).outcome == "inconclusive"
    assert math.isnan(Counts().mean)


def calls(ms: float, size: int, count: int) -> pd.DataFrame:
    return pd.DataFrame({"ms": np.full(count, ms), "rows": np.full(count, size)})


@pytest.mark.parametrize(
    ("mine", "theirs", "outcome"),
    [
        (calls(25, 1, 200), calls(25, 1, 200), "pass"),
        (calls(250, 1, 200), calls(25, 1, 200), "fail"),
        (calls(0.3, 1, 200), calls(0.03, 1, 200), "pass"),  # ten times nothing
        (calls(60, 500, 2), calls(25, 1, 1000), "pass"),  # copies in batches
        (calls(26, 230, 1), calls(30, 690, 1), "pass"),  # the canary's part of one big request
        (calls(260, 5, 50), calls(26, 15, 50), "fail"),
        (calls(25, 1, 99), calls(25, 1, 200), "inconclusive"),
    ],
)
def test_latency_is_compared_for_calls_of_like_size(mine: pd.DataFrame, theirs: pd.DataFrame, outcome: str) -> None:
    assert evidence.latency(mine, theirs, POLICY).outcome == outcome


def test_one_slow_call_is_no_slow_model() -> None:
    mixed = pd.concat([calls(25, 1, 199), calls(9000, 1, 1)], ignore_index=True)
    assert evidence.latency(mixed, calls(25, 1, 200), POLICY).outcome == "pass"


@pytest.mark.usefixtures("regression")
def test_the_effect_per_arm_has_an_interval_or_is_called_underpowered() -> None:
    rows = table(4, [0.5, 0.52, 0.49, 0.5])
    arms = [rows.rename(columns={name: "score"}) for name in ("second", "first")]
    assert "gain +0.5" in evidence.effect(*arms)
    assert "underpowered" not in evidence.effect(*arms)
    assert "underpowered, 1 whole days" in evidence.effect(*(arm.head(300) for arm in arms))
