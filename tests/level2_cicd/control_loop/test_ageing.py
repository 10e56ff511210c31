"""The champion's age starts a training when it has cost as much as one, and not before; broken data forbid it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from level1_pipeline import problem
from level1_pipeline.store.audit import Change, TrainingAllowed, TrainingJudged
from level1_pipeline.store.audit_queries import open_order
from level2_cicd.control_loop.ageing import WEEK, ageing
from level2_cicd.control_loop.operate import Operator
from level2_cicd.control_loop.triggers import STALENESS
from monitoring import history
from tests.support import monitoring_runs
from tests.support.days import ROWS_A_DAY, Days

A_WEEK = 7 * ROWS_A_DAY
PRICE = 0.05  # dollars a prediction and week of age


def aged(days: Days, weeks: float, measured: dict[str, Any] | None = None, **dollars: float) -> Operator:
    """A loop that looks after nine days of traffic, so many weeks after the last training."""
    for _ in range(9):
        days.pass_day()
    price = {"dollars": {"value": 2 * PRICE, "low": PRICE, "high": 3 * PRICE} | dollars}
    settings = {"clock": days.now.isoformat(), "min_new_outcomes": 0, "training_dollars": 800.0}
    operator = Operator(days.settings.changed(settings), lambda settings, order: 0)
    made = days.now - weeks * WEEK
    action, evidence = TrainingJudged(status="pass", as_of=made.isoformat()), {"staleness": measured or price}
    operator.store.record(problem.NAME, Change("tester", action, "a test", made, evidence))
    return operator


def weeks_until_it_pays(dollars: float = 800.05) -> float:
    """The age at which PRICE x traffic x age^2 / 2 is the price of a training."""
    return float((2 * dollars / (PRICE * A_WEEK)) ** 0.5)


def ordered(operator: Operator) -> Any:
    operator._order()
    return open_order(operator.store.audit_log(problem.NAME))


@pytest.mark.evidence("Monitor 4")
def test_a_week_of_age_costs_more_the_older_the_champion_is(days: Days) -> None:
    found = ageing(aged(days, weeks=3).registry, days.now)
    assert found is not None
    assert found.predictions_a_week == pytest.approx(A_WEEK, rel=0.1)
    assert found.dollars == pytest.approx(PRICE * found.predictions_a_week * 9 / 2)
    assert "3.0 weeks since the last training" in found.message


@pytest.mark.evidence("Monitor 4")
@pytest.mark.parametrize(("share", "due"), [(0.9, False), (1.1, True)])
def test_a_training_is_ordered_when_age_has_cost_as_much_as_one(days: Days, share: float, due: bool) -> None:
    operator = aged(days, share * weeks_until_it_pays())
    order = ordered(operator)
    assert (order is not None) == due
    lines = operator.store.audit_log(problem.NAME)
    assert any(isinstance(line.action, TrainingAllowed) for line in lines) == due
    if order:
        assert (order.trigger, order.evidence["cause"]) == (STALENESS, STALENESS)
    else:
        assert not [line for line in lines if "retraining budget" in line.text], "nobody is asked before it is due"


@pytest.mark.parametrize("dollars", [{"low": 0.0}, {"low": -0.1}])
def test_an_age_that_may_cost_nothing_starts_nothing(days: Days, dollars: dict[str, float]) -> None:
    assert ordered(aged(days, weeks=50, low=dollars["low"])) is None


def test_a_training_that_measured_nothing_gives_no_price_of_age(days: Days) -> None:
    operator = aged(days, weeks=50, measured={"dollars": None})
    assert ageing(operator.registry, days.now) is None
    assert ordered(operator) is None


def test_a_rejected_training_counts_too_and_the_newest_measurement_holds(days: Days) -> None:
    operator = aged(days, weeks=50)
    later = days.now - 2 * WEEK
    evidence = {"staleness": {"dollars": {"value": 0.5, "low": 0.4, "high": 0.6}}}
    judged = TrainingJudged(status="fail", as_of=later.isoformat())
    operator.store.record(problem.NAME, Change("tester", judged, "a test", later, evidence))
    found = ageing(operator.registry, days.now)
    assert found is not None
    assert (found.weeks, found.dollars_of_age) == (2.0, 0.4)


def test_broken_data_forbid_what_the_age_asks_for(days: Days) -> None:
    operator = aged(days, weeks=50)
    fault = replace(monitoring_runs.a_run(monitoring_runs.FAULT), champion="1")
    window = replace(fault.window, start=days.now - timedelta(days=7), end=days.now)
    history.record(operator.store, replace(fault, window=window, at=days.now))
    assert ordered(operator) is None


def test_the_settings_can_turn_it_off(days: Days) -> None:
    operator = aged(days, weeks=50)
    operator.settings = operator.settings.changed({"triggers": "monitoring"})
    assert ordered(operator) is None


def test_after_a_training_the_next_one_waits_for_the_cooldown_and_writes_nothing(days: Days) -> None:
    operator = aged(days, weeks=50)
    order = ordered(operator)
    operator._record(TrainingJudged(status="fail", as_of=order.as_of, order=order.id), "not good enough", {})
    before = len(operator.store.audit_log(problem.NAME))
    operator.settings = operator.settings.changed({"clock": (days.now + timedelta(days=2)).isoformat()})
    operator._order()
    assert len(operator.store.audit_log(problem.NAME)) == before
