"""The governor: every refusal has its words, and nothing that lasts costs more than the budget."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from level1_pipeline import problem
from level1_pipeline.leases import LeaseHeld
from level1_pipeline.settings import Settings
from level1_pipeline.store import Change, Store
from level2_cicd import governor
from level2_cicd.governor import ALLOWED, RESET, Need, Policy, may_train

NOW = datetime(2013, 7, 1, 4, tzinfo=UTC)
POLICY = Policy()
NEED = Need("real change", new_outcomes=6000, drop=0.02, dollars=500.0)


def line(action: str, days: float, **evidence: Any) -> dict[str, Any]:
    return {"action": action, "at": NOW - timedelta(days=days), "evidence": evidence}


def test_a_real_change_with_enough_new_outcomes_may_train_and_the_answer_says_what_for() -> None:
    answer = may_train([], NEED, POLICY, NOW)
    assert answer.allowed
    assert "real change" in answer.reason
    assert "500 dollars" in answer.reason
    assert answer.figures["training_dollars"] == pytest.approx(50 + 60 / 3600 * 3)


@pytest.mark.parametrize(
    ("history", "need", "words"),
    [
        ([], replace(NEED, cause="data fault"), "a data fault never"),
        ([line("train: gate pass", 3)], NEED, "cooling down: the last training was 3.0 days ago"),
        ([line(ALLOWED, 0.1)], NEED, "cooling down"),
        ([line("train: gate pass", 7 * n, seconds=30) for n in (3.9, 3, 2, 1)], NEED, "4 trainings within 28 days"),
        ([line(ALLOWED, 7 * n) for n in (3.9, 3, 2, 1)], NEED, "4 trainings within 28 days"),
        ([line("train: gate pass", 7, seconds=1790)], NEED, "1790 s of compute"),
        ([], replace(NEED, new_outcomes=1999), "only 1,999 new outcomes"),
        ([], replace(NEED, drop=0.0), "nothing to gain"),
        ([], replace(NEED, dollars=12.0), "it does not pay"),
        ([line("train: gate fail", 7 * n) for n in (3, 2, 1)], NEED, "gave up: 3 candidates"),
        ([line("train: stopped", 7 * n) for n in (3, 2, 1)], NEED, "gave up"),
        (
            [line("train: gate pass", 20), line("rollout: rolled back", 15), *[line("train: gate fail", 7)] * 2],
            NEED,
            "gave up",
        ),
    ],
)
def test_each_rule_refuses_with_its_own_words(history: list[dict[str, Any]], need: Need, words: str) -> None:
    answer = may_train(history, need, POLICY, NOW)
    assert not answer.allowed
    assert words in answer.reason
    assert answer.ticket == ("gave up" in words)


@pytest.mark.parametrize("forgiven", ["rollout: champion", RESET])
def test_a_success_or_a_person_ends_the_count_of_rejected_candidates(forgiven: str) -> None:
    rejected = [line("train: gate fail", 21), line("train: gate fail", 14)]
    history = [*rejected, line(forgiven, 13), line("train: gate fail", 7)]
    assert may_train(history, NEED, POLICY, NOW).figures["rejected_in_a_row"] == 1
    assert may_train(history, NEED, POLICY, NOW).allowed


def test_what_is_unknown_forbids_nothing_and_a_regression_has_no_dollars() -> None:
    assert may_train([], replace(NEED, drop=None, dollars=None), POLICY, NOW).allowed


@pytest.mark.parametrize("ending", ["train: gate fail", "train: stopped", "train: gate pass", "crashed"])
def test_a_drift_that_lasts_a_year_costs_at_most_the_budget_of_each_period(ending: str) -> None:
    """Whatever becomes of the trainings: rejected, stopped by bad data, accepted and useless, or crashed."""
    history: list[dict[str, Any]] = []
    times = []
    for day in range(365):
        now = NOW + timedelta(days=day)
        if may_train(history, NEED, POLICY, now).allowed:
            times.append(day)
            history.append({"action": ALLOWED, "at": now, "evidence": {}})
            if ending != "crashed":
                history.append({"action": ending, "at": now, "evidence": {"seconds": 45.0}})
    busiest = max(sum(day <= other < day + POLICY.period_days for other in times) for day in times)
    rejected = ending in ("train: gate fail", "train: stopped")
    assert busiest == (POLICY.max_rejected if rejected else POLICY.max_trainings)
    assert len(times) > busiest, "it tries again in a later period"


def test_the_answer_and_its_figures_stand_in_the_audit_log_and_a_refusal_only_once(home: Settings) -> None:
    assert governor.ask(home, NEED, NOW).allowed
    for day in (1, 2, 3):
        assert not governor.ask(home, NEED, NOW + timedelta(days=day)).allowed
    lines = Store(home.operations).history(problem.NAME)
    assert [one["action"] for one in lines] == [ALLOWED, "governor: refused"]
    assert lines[0]["evidence"]["figures"]["drop_dollars"] == 500.0
    assert lines[1]["reason"].startswith("cooling down")


def test_of_many_that_ask_at_once_one_may_train(home: Settings) -> None:
    Store(home.operations).record(problem.NAME, Change("tester", "first", "a line", NOW, {}))
    answers: list[bool] = []

    def one() -> None:
        try:
            answers.append(governor.ask(home, NEED, NOW).allowed)
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
        change = Change("tester", "train: gate fail", "worse", NOW - timedelta(days=7 * days), {})
        store.record(problem.NAME, change)
    assert governor.ask(home, NEED, NOW).ticket
    governor.reset(home.model_copy(update={"clock": NOW.isoformat()}), "the fault was in the feed")
    assert governor.ask(home, NEED, NOW).allowed


def test_settings_make_the_policy(home: Settings) -> None:
    assert Policy.of(home) == POLICY


@pytest.mark.flights  # about its costs: 60 dollars for a miss, 20 for a needless warning
def test_the_loss_is_what_decisions_cost_beyond_what_the_scores_promised() -> None:
    p, y = np.full(1000, 0.1), np.zeros(1000)
    y[:100] = 1
    assert governor.dollars_lost(y, p) == pytest.approx(0.0)
    y[:300] = 1
    assert governor.dollars_lost(y, p) == pytest.approx(0.2 * 60)
    assert governor.dollars_lost(y, np.full(1000, 0.5)) == pytest.approx(0.2 * 20)
    assert governor.dollars_lost(y[:0], p[:0]) is None
