"""Lines of the audit log are typed, and every question about them has one answer. Old lines count as new ones."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit, audit_columns, audit_queries
from level1_pipeline.store.audit import Action, Change, Order, RolloutMoved, TrainingJudged
from level1_pipeline.store.database import Store
from tests.support.audit_lines import START, a_line, a_log

END = datetime(2014, 1, 1, tzinfo=UTC)
ORDER = Order("schedule", "it is due", "2013-04-01T04:00:00+00:00", {"cause": "schedule"}, "an-id")
FAILED, SUCCEEDED = RolloutMoved(step="rolled back"), RolloutMoved(step="champion")


@pytest.mark.parametrize("kind", audit.ACTIONS.values(), ids=lambda kind: kind.__name__)
def test_every_action_is_read_back_as_it_was_written(kind: type[Action], home: Settings) -> None:
    store, action = Store(home.operations), _filled(kind)
    store.record(problem.NAME, Change("tester", action, "because", START, {"for people": 1}), to_version="2")
    (line,) = store.audit_log(problem.NAME)
    assert line.action == action
    assert (line.actor, line.reason, line.at, line.to_version) == ("tester", "because", START, "2")
    assert line.evidence["for people"] == 1
    assert line.route is None


def test_bytes_that_are_no_utf8_are_written_as_escapes(home: Settings) -> None:
    """A shell and file names hand them over as halves of characters, which no database takes."""
    store, name = Store(home.operations), "h\udcff"
    store.record(problem.NAME, Change(name, audit.Unrecognised(name), f"{name} é", START))
    (line,) = store.audit_log(problem.NAME)
    assert (line.actor, line.text, line.reason) == ("h\\udcff", "h\\udcff", "h\\udcff é")


@pytest.mark.parametrize("variable", ["MLOPS_ACTOR", "LOGNAME"])
def test_a_user_whose_name_is_no_utf8_has_a_name_that_every_tool_takes(
    home: Settings, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "h\udcff")
    assert Settings(home=home.home).who == "h\\udcff"


def _filled(kind: type[Action]) -> Action:
    values = {name: "7" for name in vars(kind()) if name not in ("automatic", "seconds", "order")}
    if kind in (audit.TrainingAllowed, audit.TrainingRefused):
        values["order"] = ORDER  # type: ignore[assignment]
    return kind(**values)


def test_no_two_actions_have_the_same_text() -> None:
    kinds = [kind for kind in vars(audit).values() if isinstance(kind, type) and issubclass(kind, Action) and kind.text]
    assert set(audit.ACTIONS.values()) == set(kinds)
    for kind in kinds:
        assert audit_columns.parse(kind.text.format(**asdict(_filled(kind))), {}).text == kind.text


@pytest.mark.parametrize(
    ("text", "evidence", "action"),
    [
        ("governor: allowed", {"order": ORDER.as_dict(), "figures": {}}, audit.TrainingAllowed(ORDER)),
        ("governor: refused", {"cause": "data fault"}, audit.TrainingRefused()),
        ("governor: reset", {}, audit.BudgetReset()),
        ("operate: quarantine", {"window_end": "2013-05-14"}, audit.DataQuarantined()),
        ("operate: note", {}, audit.FindingNoted()),
        ("operate: refused", {"candidate": "4"}, audit.StepRefused("4")),
        ("train: gate inconclusive", {"seconds": 2.5, "order": None}, TrainingJudged(None, 2.5, status="inconclusive")),
        ("rollout: canary 25 %", {"candidate": "4", "decision": {}}, RolloutMoved("4", "canary 25 %")),
        ("promote to challenger", {"judged_version": "3"}, audit.Promoted("challenger")),
        ("something newer", {"name": "x"}, audit.Unrecognised("something newer")),
    ],
)
def test_lines_of_earlier_releases_are_the_same_actions(text: str, evidence: dict[str, object], action: Action) -> None:
    assert audit_columns.parse(text, evidence) == action


def test_trainings_of_a_period_are_those_that_ended_after_its_start_until_its_end() -> None:
    log = a_log(
        audit.TrainingStopped(), audit.TrainingCrashed(), TrainingJudged(status="fail"), audit.TrainingAllowed()
    )
    ended = audit_queries.between(log, START, START + timedelta(days=2))
    assert [type(training) for training in audit_queries.trainings(ended)] == [audit.TrainingCrashed, TrainingJudged]
    assert audit_queries.allowed_trainings(log) == 1
    assert audit_queries.last_training(log) == START + timedelta(days=2)
    assert audit_queries.last_training(log, or_permission=True) == START + timedelta(days=3)
    assert audit_queries.last_training([]) is None


def test_the_newest_day_that_a_gate_judged_is_that_of_the_data_not_of_the_line() -> None:
    log = a_log(TrainingJudged("2013-03-01T05:00:00+00:00"), TrainingJudged("2013-02-01T05:00:00+00:00"))
    assert audit_queries.last_judged_as_of(log, END) == datetime(2013, 3, 1, 5, tzinfo=UTC)
    assert audit_queries.last_judged_as_of(a_log(audit.TrainingStopped("2013-03-01T05:00:00+00:00")), END) is None
    assert audit_queries.last_judged_as_of(a_log("train: gate pass"), END) == START
    assert audit_queries.last_judged_as_of(log, datetime(2013, 2, 2, tzinfo=UTC)) == datetime(2013, 2, 1, 5, tzinfo=UTC)


def test_a_good_champion_is_one_that_was_not_rolled_back_since_it_last_served() -> None:
    moves = [
        *((audit.Promoted("champion"), (None, "1")), (audit.Promoted("champion"), ("1", "2"))),
        *((audit.RolledBack(), ("2", "1")), (audit.Promoted("champion"), ("1", "3"))),
    ]
    log = [a_line(action, day, champions=both) for day, (action, both) in enumerate(moves)]
    assert audit_queries.champions(log) == ["3", "1"]
    again = a_line(audit.Promoted("champion"), 9, champions=("3", "2"))
    assert audit_queries.champions([*log, again]) == ["2", "3", "1"]


def test_the_oldest_order_without_an_end_is_the_open_one() -> None:
    later = replace(ORDER, id="another")
    log = a_log(
        audit.TrainingAllowed(ORDER), audit.TrainingAllowed(later), audit.TrainingRefused(replace(ORDER, id="no"))
    )
    assert audit_queries.open_order(log) == ORDER
    log += a_log(audit.TrainingCrashed(order=ORDER.id))
    assert audit_queries.open_order(log) == later
    assert audit_queries.was_carried_out(log, ORDER.id)
    assert not audit_queries.was_carried_out(log, later.id)
    assert audit_queries.open_order([*log, a_line(TrainingJudged(order=later.id))]) is None


def test_an_order_of_the_same_trigger_and_day_is_asked_for_once() -> None:
    for answer in (audit.TrainingAllowed(ORDER), audit.TrainingRefused(ORDER)):
        assert audit_queries.was_ordered(a_log(answer), ORDER.trigger, ORDER.as_of)
        assert not audit_queries.was_ordered(a_log(answer), "new data", ORDER.as_of)
        assert not audit_queries.was_ordered(a_log(answer), ORDER.trigger, "2013-04-02T04:00:00+00:00")


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        ((), 0),
        ((TrainingJudged(status="fail"), TrainingJudged(status="error"), audit.TrainingStopped(), FAILED), 4),
        ((TrainingJudged(status="fail"), TrainingJudged(status="pass")), 1),
        ((FAILED, SUCCEEDED, TrainingJudged(status="inconclusive")), 1),
        ((FAILED, audit.BudgetReset()), 0),
        ((audit.TrainingCrashed(), audit.RolloutRejected(), audit.RolloutEndedByHand()), 0),
    ],
)
def test_candidates_rejected_in_a_row_count_since_a_success_or_a_reset(actions: tuple[Action, ...], count: int) -> None:
    assert audit_queries.rejected_in_a_row(a_log(*actions)) == count


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        ((FAILED, FAILED), 2),
        ((FAILED, SUCCEEDED, FAILED), 1),
        ((FAILED, audit.RolloutStarted(automatic=True), FAILED), 2),
        ((FAILED, audit.RolloutStarted(automatic=False), FAILED), 1),
        ((FAILED, audit.BudgetReset()), 0),
        ((TrainingJudged(status="fail"), audit.RolloutRejected(), audit.RolloutEndedByHand()), 0),
    ],
)
def test_rollouts_rolled_back_in_a_row_count_since_a_person_looked(actions: tuple[Action, ...], count: int) -> None:
    assert audit_queries.rolled_back_in_a_row(a_log(*actions)) == count


def test_a_refused_candidate_may_be_tried_again_after_a_reset_a_started_one_not() -> None:
    log = a_log(audit.RolloutStarted("2"), audit.StepRefused("3"), audit.StepRefused())
    assert audit_queries.candidates_tried(log) == {"2", "3"}
    assert audit_queries.candidates_tried([*log, a_line(audit.BudgetReset())]) == {"2"}


def test_champions_and_releases_are_read_from_the_routes() -> None:
    log = [
        a_line(audit.Promoted("champion"), 0, champions=(None, "1")),
        a_line(TrainingJudged(status="pass"), 1),
        a_line(audit.RolloutStarted("2"), 2, champions=("1", "1")),
        a_line(SUCCEEDED, 3, champions=("1", "2")),
        a_line(audit.RolledBack(), 4, champions=("2", "1")),
    ]
    assert audit_queries.champions(log) == ["1"]  # 2 was rolled back
    assert [line.to_version for line in audit_queries.releases(log)] == ["1", "2", "1"]
    assert audit_queries.route_change_before(log, START + timedelta(days=2.5)) == log[2]
    assert audit_queries.route_change_before(log, START - timedelta(days=1)) is None


def test_a_monitoring_run_is_answered_once() -> None:
    end = START + timedelta(days=7)
    log = [a_line(audit.FindingNoted(), evidence=audit_queries.answering(end, "covariate shift"))]
    assert audit_queries.was_answered(log, end)
    assert not audit_queries.was_answered(log, START)


def test_a_forgotten_entity_is_known_by_its_digest() -> None:
    log = a_log(audit.EntityForgotten("abc"))
    assert audit_queries.was_forgotten(log, "abc")
    assert not audit_queries.was_forgotten(log, "abd")
