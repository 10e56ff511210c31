"""The retraining budget: every refusal has its reason, and nothing that lasts costs more than the budget."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import LeaseHeld, PromotionRefused
from level1_pipeline.policies import RetrainingPolicy
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import (
    Action,
    BudgetReset,
    Change,
    Line,
    Order,
    RolloutMoved,
    TrainingAllowed,
    TrainingCrashed,
    TrainingJudged,
    TrainingRefused,
    TrainingStopped,
    Unrecognised,
)
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import quarantine
from level2_cicd.cli import main
from level2_cicd.control_loop import expected_gain, retraining_budget, triggers
from level2_cicd.control_loop.expected_gain import Need
from level2_cicd.control_loop.retraining_budget import may_train
from level2_cicd.control_loop.triggers import order_for
from level2_cicd.rollout.states import SHADOW, Step
from monitoring.data import prediction_window
from tests.support import monitoring_runs
from tests.support.audit_lines import START, a_line
from tests.support.days import ROWS_A_DAY, Days

NOW = datetime(2013, 7, 1, 4, tzinfo=UTC)
POLICY = RetrainingPolicy()
NEED = Need("concept drift", new_outcomes=6000, drop=0.02, dollars=5000.0)


ENDINGS: dict[str, Action] = {
    "pass": TrainingJudged(status="pass"),
    "fail": TrainingJudged(status="fail"),
    "stopped": TrainingStopped(),
    "crashed": TrainingCrashed(),
    "allowed": TrainingAllowed(),
    "rolled back": RolloutMoved("2", "rolled back"),
    "champion": RolloutMoved("2", "champion"),
    "reset": BudgetReset(),
}


def line(name: str, days: float, seconds: float | None = None) -> Line:
    """A line of the audit log, so many days before NOW."""
    action = ENDINGS[name]
    return a_line(replace(action, seconds=seconds) if seconds else action, (NOW - START) / timedelta(days=1) - days)  # type: ignore[call-arg]


def test_a_concept_drift_with_enough_new_outcomes_may_train_and_the_answer_says_what_for() -> None:
    answer = may_train([], NEED, POLICY, NOW)
    assert answer.allowed
    assert "concept drift" in answer.reason
    assert "5,000 dollars" in answer.reason
    assert answer.figures["training_dollars"] == pytest.approx(800 + 60 / 3600 * 3)


@pytest.mark.evidence("Checklist 18", "drift asks for one training after the other")
@pytest.mark.parametrize(
    ("history", "need", "message"),
    [
        ([], replace(NEED, cause="data fault"), "a data fault never"),
        ([], replace(NEED, cause="label fault"), "a label fault never"),
        ([line("pass", 3)], NEED, "cooling down: the last training was 3.0 days ago"),
        ([line("allowed", 0.1)], NEED, "cooling down"),
        ([line("pass", 7 * n, seconds=30) for n in (3.9, 3, 2, 1)], NEED, "4 trainings within 28 days"),
        ([line("allowed", 7 * n) for n in (3.9, 3, 2, 1)], NEED, "4 trainings within 28 days"),
        ([line("pass", 7, seconds=1790)], NEED, "1790 s of compute"),
        ([], replace(NEED, new_outcomes=1999), "only 1,999 new outcomes"),
        ([line("crashed", 7, seconds=1790)], NEED, "1790 s of compute"),
        ([], replace(NEED, dollars=12.0), "it does not pay"),
        ([line("fail", 7 * n) for n in (3, 2, 1)], NEED, "gave up: 3 candidates"),
        ([line("stopped", 7 * n) for n in (3, 2, 1)], NEED, "gave up"),
        (
            [line("pass", 20), line("rolled back", 15), *[line("fail", 7)] * 2],
            NEED,
            "gave up",
        ),
    ],
)
def test_each_rule_refuses_with_its_own_words(history: list[Line], need: Need, message: str) -> None:
    answer = may_train(history, need, POLICY, NOW)
    assert not answer.allowed
    assert message in answer.reason
    assert answer.needs_a_person == ("gave up" in message)


@pytest.mark.parametrize("forgiven", ["champion", "reset"])
def test_a_success_or_a_person_ends_the_count_of_rejected_candidates(forgiven: str) -> None:
    rejected = [line("fail", 21), line("fail", 14)]
    history = [*rejected, line(forgiven, 13), line("fail", 7)]
    assert may_train(history, NEED, POLICY, NOW).figures["rejected_in_a_row"] == 1
    assert may_train(history, NEED, POLICY, NOW).allowed


def test_what_is_unknown_forbids_nothing_and_a_regression_has_no_dollars() -> None:
    assert may_train([], replace(NEED, drop=None, dollars=None), POLICY, NOW).allowed


@pytest.mark.evidence("drift asks for one training after the other", "Level 2: a budget for trainings")
@pytest.mark.parametrize("ending", ["fail", "stopped", "pass", "killed"])
def test_a_drift_that_lasts_a_year_costs_at_most_the_budget_of_each_period(ending: str) -> None:
    """Whatever becomes of the trainings: rejected, stopped by bad data, accepted and useless, or killed."""
    history: list[Line] = []
    times = []
    for day in range(365):
        now = NOW + timedelta(days=day)
        if may_train(history, NEED, POLICY, now).allowed:
            times.append(day)
            history.append(line("allowed", -day))
            if ending != "killed":
                history.append(line(ending, -day, seconds=45.0))
    busiest = max(sum(day <= other < day + POLICY.period_days for other in times) for day in times)
    rejected = ending in ("fail", "stopped")
    assert busiest == (POLICY.max_rejected if rejected else POLICY.max_trainings)
    assert len(times) > busiest, "it tries again in a later period"


def test_a_cooldown_longer_than_the_period_of_the_budgets_holds() -> None:
    patient = POLICY.model_copy(update={"cooldown_days": 60.0})
    for days in (29, 59):
        assert "cooling down" in may_train([line("pass", days)], NEED, patient, NOW).reason
    assert may_train([line("pass", 60)], NEED, patient, NOW).allowed


@pytest.mark.evidence("Level 2: a budget for trainings")
def test_each_answer_stands_in_the_audit_log_with_its_figures(home: Settings) -> None:
    assert retraining_budget.ask(home, NEED, NOW).allowed
    for dollars in (5.0, 6.0):
        assert not retraining_budget.ask(home, replace(NEED, dollars=dollars), NOW + timedelta(days=7)).allowed
    allowed, *refused = Store(home.operations).audit_log(problem.NAME)
    assert (allowed.action, allowed.evidence["figures"]["dollars"]) == (TrainingAllowed(), 5000.0)
    assert [(line.action, line.evidence["refused_by"]) for line in refused] == [(TrainingRefused(), "dollars")] * 2
    assert [line.evidence["figures"]["dollars"] for line in refused] == [5.0, 6.0]


def test_of_many_that_ask_at_once_one_may_train(home: Settings) -> None:
    Store(home.operations).record(problem.NAME, Change("tester", Unrecognised("first"), "a line", NOW))
    answers: list[bool] = []

    def one() -> None:
        try:
            answers.append(retraining_budget.ask(home, NEED, NOW).allowed)
        except LeaseHeld:
            answers.append(False)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert answers.count(True) == 1


def test_a_person_lets_it_try_again(home: Settings) -> None:
    store = Store(home.operations)
    for days in (3, 2, 1):
        change = Change("tester", TrainingJudged(status="fail"), "worse", NOW - timedelta(days=7 * days))
        store.record(problem.NAME, change)
    assert retraining_budget.ask(home, NEED, NOW).needs_a_person
    retraining_budget.reset(home.changed({"clock": NOW.isoformat()}), "the fault was in the feed")
    assert retraining_budget.ask(home, NEED, NOW).allowed


@pytest.mark.flights  # about its costs: 60 dollars for a miss, 20 for a needless warning
def test_the_loss_is_what_decisions_cost_beyond_what_the_scores_promised() -> None:
    p, y = np.full(1000, 0.1), np.zeros(1000)
    y[:100] = 1
    assert expected_gain.dollars_lost(y, p) == pytest.approx(0.0)
    y[:300] = 1
    assert expected_gain.dollars_lost(y, p) == pytest.approx(0.2 * 60)
    assert expected_gain.dollars_lost(y, np.full(1000, 0.5)) == pytest.approx(0.2 * 20)
    assert expected_gain.dollars_lost(y[:0], p[:0]) is None


# ---- what it weighs


@pytest.fixture
def lived(days: Days) -> Days:
    """Nine days that the champion answered badly, on the clock of their end."""
    for _ in range(9):
        days.pass_day()
    days.settings = days.settings.changed({"clock": days.now.isoformat(), "min_new_outcomes": 0})
    return days


def asked(days: Days, order: Order) -> Need:
    return expected_gain.need(Registry(days.settings), order)


def changed(days: Days, **figures: float | None) -> Order:
    """What the monitoring asks for after a concept drift with these figures."""
    return order_for(days.settings, replace(monitoring_runs.a_run(monitoring_runs.CHANGE), figures=figures))


@pytest.mark.flights  # about its costs
def test_a_change_of_the_rate_alone_is_weighed_in_dollars_and_may_train(lived: Days) -> None:
    order = changed(lived, excess=0.03, excess_over=-0.002, bias_over=0.1)
    need = asked(lived, order)
    answer = may_train([], need, lived.settings.retraining, lived.now)
    assert order.trigger == triggers.DISTRIBUTION
    assert need.drop is None
    assert need.dollars is not None
    assert need.dollars > 1000
    assert answer.allowed, answer.reason
    assert f"worth {need.dollars:,.0f} dollars" in answer.reason
    assert not may_train([], replace(need, dollars=12.0), POLICY, lived.now).allowed


def test_a_drop_is_that_of_the_windows_on_which_the_diagnosis_rests(lived: Days) -> None:
    order = changed(lived, excess=-0.01, excess_over=0.02, bias_over=0.1)
    need = replace(asked(lived, order), dollars=None)
    assert (order.trigger, need.drop) == (triggers.PERFORMANCE, 0.02)
    assert may_train([], need, lived.settings.retraining, lived.now).allowed


def test_the_calendar_and_new_data_are_not_weighed_in_dollars(lived: Days) -> None:
    for trigger in (triggers.SCHEDULE, triggers.NEW_DATA):
        need = asked(lived, Order(trigger, "", lived.now.isoformat(), {"cause": trigger}))
        assert (need.drop, need.dollars) == (None, None)


def test_without_answers_in_the_window_nobody_knows_what_a_change_costs(days: Days) -> None:
    days.settings = days.settings.changed({"clock": days.now.isoformat()})
    assert asked(days, changed(days, excess_over=0.02)).dollars is None


@pytest.mark.flights  # about its costs
def test_rows_in_quarantine_cost_nothing(lived: Days) -> None:
    order = changed(lived, excess_over=0.02)
    before = asked(lived, order).dollars
    _set_apart(lived, lived.now - timedelta(days=7), lived.now - timedelta(days=4))
    part = asked(lived, order).dollars
    _set_apart(lived, lived.now - timedelta(days=4), lived.now)
    assert before is not None
    assert part is not None
    assert 0 < part < before
    assert asked(lived, order).dollars is None


def _set_apart(days: Days, start: datetime, end: datetime) -> None:
    span = {"problem": problem.NAME, "start": start, "end": end, "slice": "", "reason": "a test", "at": days.now}
    with days.store.engine.begin() as connection:
        connection.execute(sa.insert(quarantine), span)


@pytest.mark.flights  # about its costs
def test_a_sample_of_a_large_log_stands_for_all_of_its_rows(lived: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    order = changed(lived, excess_over=0.02)
    exact = asked(lived, order).dollars
    monkeypatch.setattr(prediction_window, "SAMPLE_MAX_ROWS", 1000)
    assert asked(lived, order).dollars == pytest.approx(exact, rel=0.3)


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive", "error"])
def test_new_outcomes_are_those_that_the_last_judged_training_could_not_have(lived: Days, verdict: str) -> None:
    """A candidate that was rejected would only be made once more of the same rows."""
    order = Order(triggers.SCHEDULE, "", lived.now.isoformat(), {"cause": triggers.SCHEDULE})
    matured = sum(12 + 24 * days >= problem.GATE["maturity_hours"] for days in range(9)) * ROWS_A_DAY
    assert asked(lived, order).new_outcomes == matured > 0
    as_of = lived.now.isoformat()
    for action in (TrainingStopped(as_of), TrainingCrashed(as_of)):  # these learned nothing
        lived.store.record(problem.NAME, Change("t", action, "", lived.now))
    assert asked(lived, order).new_outcomes == matured
    lived.store.record(problem.NAME, Change("t", TrainingJudged(as_of, status=verdict), "", lived.now))
    assert asked(lived, order).new_outcomes == 0
    for _ in range(3):
        lived.pass_day()
    lived.settings = lived.settings.changed({"clock": lived.now.isoformat()})
    assert asked(lived, order).new_outcomes == 3 * ROWS_A_DAY


# ---- what a person may do


def test_a_person_ends_the_count_of_rollbacks_too(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.store.set_replay_time(days.now)
    for _ in range(3):
        days.store.record(problem.NAME, Change("loop", RolloutMoved("2", "rolled back"), "worse", days.now))
    with pytest.raises(PromotionRefused, match="3 rollouts were rolled back in a row"):
        days.start(automatic=True)
    for name, value in {"HOME": days.settings.home, "CLOCK": "replay"}.items():
        monkeypatch.setenv(f"MLOPS_{name}", str(value))
    assert main(["reset", "--reason", "the fault was in the feed"]) == 0
    assert days.start(automatic=True).step == Step(SHADOW)


def test_the_triggers_that_are_on_are_those_that_the_settings_name(home: Settings) -> None:
    assert home.loop.triggers == {triggers.MONITORING, triggers.STALENESS}
    named = home.changed({"triggers": " new data,schedule "})
    assert named.loop.triggers == {triggers.NEW_DATA, triggers.SCHEDULE}
    assert home.changed({"triggers": ""}).loop.triggers == set()
