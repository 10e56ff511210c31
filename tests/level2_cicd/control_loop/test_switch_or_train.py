"""A past champion that fits again is taken back only if a training now would not be surely better, allowed and paid for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from level1_pipeline import problem
from level1_pipeline.store.audit import Change, Order, TrainingAllowed, TrainingJudged
from level1_pipeline.store.audit_queries import open_order, trained_as_of
from level2_cicd.control_loop import switch_or_train
from level2_cicd.control_loop.ageing import WEEK
from level2_cicd.control_loop.operate import Operator
from level2_cicd.control_loop.switch_or_train import Gains, gains
from monitoring import history
from monitoring.results import MonitoringRun, Window
from tests.support import monitoring_runs
from tests.support.days import Days

PAST, CHAMPION = "2", "1"
LOW = 0.002  # log loss for each week of age
BACKTEST: dict[str, Any] = {
    "loss": {"value": 2 * LOW, "low": LOW, "high": 3 * LOW},
    "dollars": {"value": 0.1, "low": 0.05, "high": 0.15},
    "curve": [[4, 0.01], [8, 0.02], [12, 0.03]],
}
Loop = Callable[..., Operator]


def came_back(now: datetime, gain: float | None) -> MonitoringRun:
    """A monitoring run that says: version 2 fits better again."""
    diagnosis = replace(monitoring_runs.RETURN, version=PAST)
    figures = {"past_champion_gain": gain, "excess_over": 0.05}
    window = Window(now - timedelta(days=7), now)
    return replace(monitoring_runs.a_run(diagnosis), window=window, at=now, champion=CHAMPION, figures=figures)


@pytest.fixture
def loop(days: Days, quiet: None) -> Loop:
    """A loop whose champion has so many weeks of age, and whose newest monitoring run says to go back."""

    def make(
        weeks: float,
        gain: float | None,
        backtest: dict[str, Any] | None = BACKTEST,
        made: str = CHAMPION,
        **settings: Any,
    ) -> Operator:
        for _ in range(9):
            days.pass_day()
        for version in (CHAMPION, PAST):
            days.register(version)
        changed = {
            "clock": days.now.isoformat(),
            "min_new_outcomes": 0,
            "training_dollars": 1.0,
            "triggers": "monitoring",
        } | settings
        operator = Operator(days.settings.changed(changed), lambda settings, order: 0)
        as_of = days.now - weeks * WEEK
        judged = TrainingJudged(status="pass", as_of=as_of.isoformat())
        change = Change("tester", judged, "a test", as_of, {"staleness": backtest})
        operator.store.record(problem.NAME, change, to_version=made)
        history.record(operator.store, came_back(days.now, gain))
        return operator

    return make


def done(operator: Operator) -> str | Order:
    """What the loop does about it: the version that it rolls out, or the training that it orders."""
    operator.cycle()
    log = operator.store.audit_log(problem.NAME)
    orders = [line.action.order for line in log if isinstance(line.action, TrainingAllowed)]
    return orders[0] if orders and orders[0] else str(operator.registry.route().challenger)


@pytest.mark.evidence("Checklist 12")
def test_a_young_champion_gives_way_to_the_past_one(loop: Loop) -> None:
    assert done(loop(weeks=5, gain=0.0101)) == PAST


def test_with_an_old_champion_a_training_is_ordered_instead(loop: Loop) -> None:
    operator = loop(weeks=6, gain=0.0101)
    order = done(operator)
    assert isinstance(order, Order)
    assert order.evidence["cause"] == "recurring concept"
    assert order.reason == (
        "a training is better than going back: the champion's 6.0 weeks of age cost at least 0.0120 log_loss, "
        "and the past champion is 0.0101 better"
    )
    assert operator.registry.route().challenger is None


@pytest.mark.parametrize(
    "settings",
    [
        {"training_dollars": 10_000_000.0},
        {"triggers": ""},
        {"cooldown_days": 50.0},
    ],
    ids=["it does not pay", "the monitoring may not order one", "cooling down"],
)
def test_a_training_that_is_not_allowed_leaves_the_switch(loop: Loop, settings: dict[str, Any]) -> None:
    operator = loop(weeks=6, gain=0.0101, **settings)
    assert done(operator) == PAST
    assert open_order(operator.store.audit_log(problem.NAME)) is None


@pytest.mark.parametrize(
    "more",
    [{"gain": None}, {"backtest": None}, {"made": "3"}],
    ids=["no labels compared them", "age was not measured", "nobody knows the age"],
)
def test_what_was_not_measured_leaves_the_switch(loop: Loop, more: dict[str, Any]) -> None:
    assert done(loop(**({"weeks": 6, "gain": 0.0101} | more))) == PAST


def test_an_older_champion_counts_as_old_as_the_oldest_model_that_was_compared(loop: Loop, days: Days) -> None:
    operator = loop(weeks=50, gain=0.03)
    log = operator.store.audit_log(problem.NAME)
    assert gains(log, came_back(days.now, 0.03), days.now) == Gains(0.03, 12 * LOW, 12)
    assert switch_or_train.order_instead(operator.registry, came_back(days.now, 0.03)) is None
    assert switch_or_train.order_instead(operator.registry, came_back(days.now, 0.02)) is not None


def test_a_tie_goes_to_the_switch() -> None:
    assert not Gains(switch=0.01, training=0.01, weeks=5).training_is_better
    assert Gains(switch=0.01, training=0.0101, weeks=5).training_is_better


def test_the_age_is_that_of_the_champions_own_rows(loop: Loop, days: Days) -> None:
    """A rejected candidate, or another version, says nothing about how old the champion's rows are."""
    operator = loop(weeks=6, gain=0.0101)
    for version in (None, "3"):
        judged = TrainingJudged(status="fail", as_of=days.now.isoformat())
        operator.store.record(problem.NAME, Change("tester", judged, "a test", days.now), to_version=version)
    log = operator.store.audit_log(problem.NAME)
    assert trained_as_of(log, CHAMPION) == days.now - 6 * WEEK
    assert trained_as_of(log, "9") is None
    assert trained_as_of(log, None) is None
