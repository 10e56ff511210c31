"""The state machine of a rollout: pure, so every rule is one call."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from level1_pipeline.evaluation.gate import Check, Status
from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.settings import Settings
from level2_cicd.rollout.state_machine import ALARMS, STOPPED, Decision, Evidence, Rollout, next_state
from level2_cicd.rollout.states import (
    BAKE,
    BLESSED,
    CANARY,
    CHAMPION,
    REGISTERED,
    ROLLED_BACK,
    SHADOW,
    Step,
)

NOW = datetime(2013, 7, 1, 4, tzinfo=UTC)
POLICY = RolloutPolicy(canary_shares=(0.25, 0.5))
QUIET = tuple(Check(name, "pass", "quiet") for name in ALARMS)
PLENTY = Evidence(QUIET, candidate=5000, champion=5000, in_step=1000, outcomes=1000, days=7)
PATH = [
    Step(REGISTERED),
    Step(BLESSED),
    Step(SHADOW),
    Step(CANARY, 0.25),
    Step(CANARY, 0.5),
    Step(BAKE, 0.5),
]


def at(step: Step, days: float = 1.0, waiting: str | None = None, approved: tuple[str, ...] = ()) -> Rollout:
    since = NOW - timedelta(days=days)
    return Rollout("2", "1", step, since, since, since, waiting, approved)


def seen(**changes: object) -> Evidence:
    return replace(PLENTY, **changes)  # type: ignore[arg-type]


def look(step: Step, evidence: Evidence = PLENTY, policy: RolloutPolicy = POLICY, **state: object) -> Decision:
    return next_state(at(step, **state), evidence, policy, NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(("step", "following"), list(zip(PATH, [*PATH[1:], Step(CHAMPION)], strict=True)), ids=str)
def test_what_passes_goes_one_step_further_and_never_two(step: Step, following: Step) -> None:
    decision = look(step)
    assert (decision.kind, decision.step, decision.verdict) == ("advance", following, "pass")


@pytest.mark.parametrize("step", PATH, ids=str)
def test_a_step_that_a_wrong_clock_began_in_the_future_does_not_block_until_then(step: Step) -> None:
    assert look(step, days=-0.01).kind != "roll back"  # the clocks of two machines differ
    decision = look(step, days=-400)
    assert (decision.kind, "a clock was wrong" in decision.reason) == ("roll back", True)


@pytest.mark.parametrize("step", PATH, ids=str)
def test_one_failed_check_rolls_back_from_every_state_and_says_why(step: Step) -> None:
    evidence = seen(checks=(*QUIET, Check("errors2", "fail", "3 of 100 answers failed")))
    decision = look(step, evidence)
    assert (decision.kind, decision.step, decision.verdict) == ("roll back", Step(ROLLED_BACK), "fail")
    assert "3 of 100" in decision.reason


@pytest.mark.parametrize("verdict", ["inconclusive", "error"])
@pytest.mark.parametrize("step", PATH, ids=str)
def test_what_is_inconclusive_or_broken_pauses_and_names_what_is_missing(step: Step, verdict: Status) -> None:
    evidence = seen(checks=(*QUIET, Check("a monitor", verdict, "said nothing")))
    decision = look(step, evidence)
    assert (decision.kind, decision.step, decision.verdict) == ("stay", step, verdict)
    assert "a monitor: said nothing" in decision.reason


@pytest.mark.parametrize(("step", "days"), [(Step(SHADOW), 14), (Step(CANARY, 0.25), 7), (Step(BAKE, 0.5), 7)])
def test_what_stays_inconclusive_is_rolled_back_at_the_limit_as_not_proved(step: Step, days: float) -> None:
    evidence = seen(candidate=0, in_step=0)
    assert look(step, evidence, days=days - 0.1).kind == "stay"
    decision = look(step, evidence, days=days)
    assert decision.kind == "roll back"
    assert decision.reason.startswith("not proved within")


@pytest.mark.parametrize("step", PATH[2:], ids=str)
def test_no_data_at_all_is_inconclusive(step: Step) -> None:
    assert look(step, Evidence()).verdict == "inconclusive"
    assert look(step, Evidence()).kind == "stay"


@pytest.mark.parametrize(
    ("step", "lacking", "word"),
    [
        (Step(SHADOW), {"candidate": 499}, "copies"),
        (Step(SHADOW), {"champion": 499}, "champion's answers"),
        (Step(SHADOW), {"days": 2}, "days with outcomes"),
        (Step(CANARY, 0.25), {"in_step": 99}, "answers in this step"),
        (Step(BAKE, 0.5), {"candidate": 499}, "candidate's answers"),
        (Step(BAKE, 0.5), {"champion": 499}, "champion's answers"),
        (Step(BAKE, 0.5), {"outcomes": 99}, "outcomes"),
    ],
)
def test_each_minimum_sample_is_demanded(step: Step, lacking: dict[str, int], word: str) -> None:
    decision = look(step, seen(**lacking))
    assert decision.kind == "stay"
    assert word in decision.reason


def test_requests_are_accumulated_over_the_canary_steps() -> None:
    little = seen(candidate=230, champion=700, in_step=230, outcomes=0)
    assert look(Step(CANARY, 0.25), little).step == Step(CANARY, 0.5)
    assert look(Step(BAKE, 0.5), replace(little, candidate=691, in_step=1, outcomes=150)).step == Step(CHAMPION)


@pytest.mark.parametrize("step", PATH[3:], ids=str)
def test_a_step_with_traffic_lasts_its_time_however_many_requests_come(step: Step) -> None:
    assert look(step, seen(in_step=10**6), days=0.99).kind == "stay"
    assert look(step, seen(in_step=10**6), days=1.0).kind == "advance"


@pytest.mark.parametrize("asleep", ALARMS)
def test_a_canary_that_an_alarm_does_not_watch_goes_nowhere(asleep: str) -> None:
    decision = look(Step(CANARY, 0.25), seen(checks=tuple(check for check in QUIET if check.name != asleep)))
    assert decision.kind == "stay"
    assert f"nobody watched ['{asleep}']" in decision.reason


def test_a_step_that_needs_a_person_waits_for_as_long_as_it_takes_and_goes_on_when_approved() -> None:
    policy = POLICY.model_copy(update={"approvals": frozenset({CANARY})})
    decision = look(Step(SHADOW), policy=policy, days=400)
    assert (decision.kind, decision.step) == ("wait", Step(CANARY, 0.25))
    assert look(Step(SHADOW), policy=policy, approved=("canary 25 %",)).kind == "advance"
    assert look(Step(CANARY, 0.25), policy=policy, approved=("canary 25 %",)).kind == "wait", "each share is asked for"


def test_an_approval_waives_no_evidence() -> None:
    policy = POLICY.model_copy(update={"approvals": frozenset({CANARY})})
    assert look(Step(SHADOW), seen(days=1), policy, approved=("canary 25 %",)).kind == "stay"
    failed = seen(checks=(*QUIET, Check("quality", "fail", "worse")))
    assert look(Step(SHADOW), failed, policy, approved=("canary 25 %",)).kind == "roll back"


def test_a_stopped_rollout_stays_but_its_alarms_do_not_sleep() -> None:
    assert look(Step(CANARY, 0.25), waiting=STOPPED, days=400).kind == "wait"
    failed = seen(checks=(*QUIET, Check("errors2", "fail", "many")))
    assert look(Step(CANARY, 0.25), failed, waiting=STOPPED).kind == "roll back"


def test_the_default_rollout_of_923_flights_a_day_has_its_canary_done_in_three_days() -> None:
    state, days, answers = at(Step(CANARY, 0.25), days=0), 0, 0.0
    step = state.step
    while step.state != CHAMPION:
        days, answers = days + 1, answers + 923 * step.share
        shown = seen(candidate=answers, champion=923 * days - answers, in_step=923 * step.share, outcomes=answers / 2)
        step = look(step, shown, days=1).step
    assert days == 3


@pytest.mark.parametrize("shares", ["", "0", "1", "0.5,0.25", "0.25,0.25", "a half"])
def test_shares_that_make_no_sense_are_refused(home: Settings, shares: str) -> None:
    with pytest.raises(ValueError):
        home.changed({"canary_shares": shares})


def test_the_settings_hold_the_policy(home: Settings) -> None:
    policy = home.changed({"approvals": "all", "canary_shares": "0.25,0.5"}).rollout
    assert policy.canary_shares == (0.25, 0.5)
    assert policy.approvals == {SHADOW, CANARY, BAKE, CHAMPION}
    with pytest.raises(ValueError, match="nobody"):
        home.changed({"approvals": "nobody"})
