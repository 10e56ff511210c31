"""The control loop: one next step from what is stored, whatever happened before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.load import MANIFEST
from level1_pipeline.errors import LeaseHeld
from level1_pipeline.processes import environment
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import (
    Action,
    Change,
    DataQuarantined,
    FindingNoted,
    Order,
    RolloutMoved,
    RolloutStarted,
    StepRefused,
    TrainingAllowed,
    TrainingJudged,
    TrainingRefused,
)
from level1_pipeline.store.audit_queries import answering
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from level2_cicd.cli import main
from level2_cicd.control_loop import operate, retraining_budget, triggers
from level2_cicd.control_loop.next_action import next_action
from level2_cicd.control_loop.operate import Operator
from level2_cicd.control_loop.situation import Situation
from level2_cicd.control_loop.triggers import order_for
from level2_cicd.rollout import advance, by_hand
from monitoring import history
from monitoring.alerting import tickets
from monitoring.reporting import html_report
from monitoring.results import Diagnosis, MonitoringRun, Window
from tests.support import ROOT, monitoring_runs
from tests.support.audit_lines import a_line, a_log
from tests.support.days import Days
from tests.support.monitoring_runs import CHANGE, FAULT, NOTHING, RELEASE, RETURN, SHIFT, UNSURE
from tests.support.serving import set_route
from tests.support.webhook import listener

ORDER = Order("performance drop", "it got worse", "2013-07-08T04:00:00+00:00", {"cause": "concept drift"})
ORDERED = TrainingAllowed(ORDER)


def situation(run: MonitoringRun | None = None, *actions: Action, rolling: bool = False, **route: Any) -> Situation:
    return Situation(Route(**{"champion": "2", **route}), rolling, a_log(*actions), run)


# ---- the decision


@pytest.mark.evidence("Level 2: a diagnosis before a training")
@pytest.mark.parametrize(
    ("diagnosis", "kind"),
    [
        (NOTHING, "nothing"),
        (UNSURE, "nothing"),
        (SHIFT, "note"),
        (FAULT, "quarantine"),
        (replace(FAULT, cause="label fault"), "quarantine"),
        (CHANGE, "ask"),
        (RELEASE, "roll back"),
        (RETURN, "switch back"),
    ],
    ids=lambda value: getattr(value, "cause", value),
)
def test_each_diagnosis_has_its_one_answer(diagnosis: Diagnosis, kind: str) -> None:
    step = next_action(situation(monitoring_runs.a_run(diagnosis)))
    assert step.kind == kind
    assert step.version == diagnosis.version


def test_what_was_begun_is_finished_before_anything_new_begins() -> None:
    run = monitoring_runs.a_run(CHANGE)
    assert next_action(situation(run, ORDERED, rolling=True, challenger="3")).kind == "advance"
    assert next_action(situation(run, ORDERED, challenger="3")).kind == "train"
    ended = TrainingJudged(order=ORDER.id, status="pass")
    assert next_action(situation(run, ORDERED, ended, challenger="3")).kind == "start"
    started = RolloutStarted("3")
    assert next_action(situation(run, ORDERED, ended, started, challenger="3")).kind == "ask"


def test_a_bad_release_comes_before_everything_that_was_begun() -> None:
    run = monitoring_runs.a_run(RELEASE)
    step = next_action(situation(run, ORDERED, rolling=True, challenger="3"))
    assert (step.kind, step.version) == ("roll back", RELEASE.version)


@pytest.mark.evidence("the source itself has wrong labels")
def test_while_the_data_are_broken_only_a_person_s_order_is_trained_for() -> None:
    by_hand = TrainingAllowed(replace(ORDER, trigger="on demand"))
    for fault in (FAULT, replace(FAULT, cause="label fault")):
        assert next_action(situation(monitoring_runs.a_run(fault), ORDERED)).kind == "quarantine"
    assert next_action(situation(monitoring_runs.a_run(FAULT), by_hand)).kind == "train"
    assert next_action(situation(monitoring_runs.a_run(NOTHING), ORDERED)).kind == "train"


def test_a_challenger_that_a_person_serves_by_hand_is_left_to_that_person() -> None:
    assert next_action(situation(None, challenger="3", mode="shadow")).kind == "nothing"
    assert next_action(situation(None, challenger="3")).kind == "start"


def test_a_run_is_answered_once_and_one_about_an_earlier_champion_never() -> None:
    run = monitoring_runs.a_run(CHANGE)
    answered = a_line(TrainingRefused(), evidence=answering(run.window.end, "concept drift"))
    assert next_action(replace(situation(run), log=[answered])).kind == "nothing"
    assert next_action(situation(run, champion="9")).kind == "nothing"
    assert next_action(situation(None)).kind == "nothing"


@pytest.mark.evidence("Checklist 5", "Checklist 10")
def test_a_loss_above_its_expectation_is_a_performance_drop_and_else_the_distribution_changed(home: Settings) -> None:
    settings = home.changed({"clock": monitoring_runs.END.isoformat()})
    worse, moved = (replace(monitoring_runs.a_run(CHANGE), figures={"excess_over": excess}) for excess in (0.05, -0.01))
    assert order_for(settings, worse).trigger == "performance drop"
    assert order_for(settings, moved).trigger == "distribution change"
    assert order_for(settings, worse).evidence["window_end"] == worse.window.end.isoformat()


# ---- the loop, with a light trainer


class Trainer:
    """Stands for the training pipeline: says and names what it would."""

    def __init__(self, outcome: str = "pass", code: int = 0):
        self.outcome, self.code, self.orders = outcome, code, list[Order]()

    def __call__(self, settings: Settings, order: Order) -> int:
        self.orders.append(order)
        registry = Registry(settings)
        if self.code == 1:
            return 1
        if self.outcome == "pass" and registry.route().challenger != "2":  # a resumed one does not publish again
            registry.promote("2", "challenger", order.reason)
        judged = TrainingJudged(as_of=order.as_of, order=order.id, status=self.outcome)
        change = Change("trainer", judged, order.reason, clock.now(settings))
        registry.store.record(problem.NAME, change, to_version="2" if self.outcome == "pass" else None)
        return self.code


@pytest.fixture
def registered(days: Days) -> None:
    """The store knows what each version is, as after their trainings."""
    for version in ("1", "2", "3"):
        days.register(version)


@pytest.fixture
def operated(days: Days, registered: None, monkeypatch: pytest.MonkeyPatch, quiet: None) -> Callable[..., Operator]:
    """An operator whose monitoring finds what the test says, and whose budget sees enough new outcomes."""

    def make(diagnosis: Diagnosis, trainer: Trainer | None = None, **changes: Any) -> Operator:
        settings = days.settings.changed(
            {"clock": "replay", "min_new_outcomes": 0, "lease_seconds": 0.5, "outcomes_rest_seconds": 0, **changes}
        )
        days.store.set_replay_time(days.now)
        monkeypatch.setattr(operate, "run_monitoring", lambda settings, now, length: plant(days.store, diagnosis, now))
        monkeypatch.setattr(html_report, "write", lambda *_: None)
        return Operator(settings, trainer or Trainer())

    return make


def plant(store: Store, diagnosis: Diagnosis, now: Any) -> MonitoringRun:
    """A monitoring run over the week before now, about the champion that serves."""
    window = Window(now - timedelta(days=7), now)
    result = replace(
        monitoring_runs.a_run(diagnosis), window=window, at=now, champion=store.route(problem.NAME).champion
    )
    history.record(store, result)
    return result


def actions(days: Days) -> list[str]:
    return [line.text for line in days.store.audit_log(problem.NAME)]


@pytest.mark.evidence("Checklist 18")
@pytest.mark.slow
def test_a_concept_drift_is_trained_for_and_its_candidate_is_rolled_out(days: Days, operated: Any) -> None:
    trainer = Trainer()
    operator = operated(CHANGE, trainer)
    operator.cycle()
    (order,) = trainer.orders
    assert order.evidence["cause"] == "concept drift"
    assert actions(days)[1:] == [
        TrainingAllowed.text,
        "promote to challenger",
        "train: gate pass",
        "rollout: start",
        "rollout: blessed",
        "rollout: shadow",
    ]
    assert (days.route.champion, days.route.challenger, days.route.mode) == ("1", "2", "shadow")
    while days.route.champion == "1":
        assert days.day < 12
        days.pass_day()
        days.store.set_replay_time(days.now)
        operator.cycle()
    assert (days.route.champion, days.route.previous) == ("2", "1")
    assert len(trainer.orders) == 1


@pytest.mark.evidence("Checklist 18", "the data are broken", "Level 2: a diagnosis before a training")
@pytest.mark.parametrize("diagnosis", [FAULT, NOTHING, SHIFT, UNSURE], ids=lambda answer: answer.cause)
def test_whatever_is_no_concept_drift_is_never_trained_for(days: Days, operated: Any, diagnosis: Diagnosis) -> None:
    trainer = Trainer()
    operator = operated(
        diagnosis, trainer, triggers="monitoring, schedule", schedule_days=0.5 if diagnosis is FAULT else 99.0
    )
    days.store.record(problem.NAME, Change("t", TrainingJudged(status="pass"), "", days.now - timedelta(days=2)))
    for _ in range(5):
        days.pass_day()
        days.store.set_replay_time(days.now)
        operator.cycle()
    assert trainer.orders == []
    assert actions(days).count(DataQuarantined.text) == (5 if diagnosis is FAULT else 0)


@pytest.mark.slow
def test_a_change_that_lasts_costs_at_most_the_budget_and_then_a_person_is_asked_for(days: Days, operated: Any) -> None:
    trainer = Trainer("fail", 3)
    operator = operated(CHANGE, trainer, cooldown_days=1.0, max_rejected=99, max_trainings=3, period_days=28.0)
    for _ in range(28):
        days.today += pd.Timedelta("1D")
        days.store.set_replay_time(days.now)
        operator.cycle()
    assert len(trainer.orders) == 3
    assert days.route.champion == "1"


@pytest.mark.evidence("a candidate is worse")
def test_after_too_many_rejected_candidates_one_ticket_asks_for_a_person_who_closes_it(
    days: Days, operated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operated(CHANGE, Trainer("fail", 3), cooldown_days=1.0, max_rejected=2, max_trainings=9)
    for _ in range(6):
        days.today += pd.Timedelta("1D")
        days.store.set_replay_time(days.now)
        operator.cycle()
    request = [line for line in tickets.open_tickets(days.store) if line["incident"].startswith(tickets.PERSON_NEEDED)]
    assert len(request) == 1
    assert "reset" in request[0]["body"]
    monkeypatch.setenv("MLOPS_HOME", str(days.settings.home))
    monkeypatch.setenv("MLOPS_CLOCK", "replay")
    assert main(["reset", "--reason", "the data were mended"]) == 0
    assert not [line for line in tickets.open_tickets(days.store) if line["incident"].startswith(tickets.PERSON_NEEDED)]


def test_a_training_that_crashes_is_said_once_and_not_tried_for_ever(days: Days, operated: Any) -> None:
    trainer = Trainer(code=1)
    with listener() as (url, got):
        operator = operated(CHANGE, trainer, webhook=url)
        for _ in range(3):
            operator.cycle()
    assert len(trainer.orders) == 1
    (message,) = [message for message in got if message["event"] == "failed"]
    assert message["title"].startswith("a training crashed")
    assert "exit code 1; its log: " in message["body"]
    assert "train: crashed" in actions(days)


@pytest.mark.evidence("Checklist 12", "Level 2: rolled back by itself")
def test_a_bad_release_is_rolled_back_and_a_recurring_concept_goes_through_a_rollout(days: Days, operated: Any) -> None:
    operator = operated(replace(RELEASE, version="3"))
    operator.cycle()
    assert days.route.champion == "3"
    operator = operated(replace(RETURN, version="2"))
    days.today += pd.Timedelta("1D")
    days.store.set_replay_time(days.now)
    operator.cycle()
    assert (days.route.champion, days.route.challenger, days.route.mode) == ("3", "2", "shadow")


def test_only_one_loop_acts(days: Days, operated: Any) -> None:
    operator = operated(CHANGE)
    with leases.hold(days.store, f"operate {problem.NAME}", 30), pytest.raises(LeaseHeld):
        operator.cycle()
    assert len(actions(days)) == 1


def rolled_back_before(days: Days) -> None:
    days.store.record(problem.NAME, Change("t", RolloutMoved("9", "rolled back"), "", days.now))


def test_too_many_rollbacks_are_said_once_and_wait_for_a_person(days: Days, operated: Any) -> None:
    rolled_back_before(days)
    with listener() as (url, got):
        operator = operated(CHANGE, max_rollbacks=1, webhook=url)
        for _ in range(3):
            operator.cycle()
    (message,) = [message for message in got if message.get("incident", "").startswith(tickets.PERSON_NEEDED)]
    assert (message["event"], "a person must look" in message["body"]) == ("opened", True)
    assert actions(days).count(StepRefused.text) == 1
    assert days.route.mode is None
    (ticket,) = [
        line for line in tickets.open_tickets(days.store) if line["incident"].startswith(tickets.PERSON_NEEDED)
    ]
    assert "a person must look" in ticket["body"]


def test_after_a_person_has_looked_a_refused_candidate_is_tried_again(
    days: Days, operated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled_back_before(days)
    operated(CHANGE, max_rollbacks=1).cycle()
    monkeypatch.setenv("MLOPS_HOME", str(days.settings.home))
    monkeypatch.setenv("MLOPS_CLOCK", "replay")
    assert main(["reset", "--reason", "the candidate is fine"]) == 0
    operated(CHANGE).cycle()
    assert (days.route.challenger, days.route.mode) == ("2", "shadow")


def test_files_with_outcomes_are_taken_in_and_put_aside(days: Days, operated: Any) -> None:
    inbox = days.settings.home / "outcomes"
    inbox.mkdir()
    (inbox / "today.csv").write_text("id,value\n0-0,1\nnobody,0\n")
    (did, *_) = operated(NOTHING).cycle()
    assert "2 new ones from today.csv" in did
    assert [file.name for file in (inbox / "done").iterdir()] == ["today.csv"]


# ---- what goes wrong beside a rollout must not keep the loop from its alarms


def broken(*_: Any, **__: Any) -> Any:
    raise OSError("no space left on device")


@pytest.mark.parametrize("fault", ["a file of outcomes", "the monitoring", "the report", "the triggers"])
@pytest.mark.slow
def test_a_bad_canary_is_rolled_back_whatever_else_fails(
    days: Days, operated: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    days.start()
    days.until("canary")
    days.sometimes = 1.0
    days.pass_day()
    operator = operated(NOTHING, triggers="schedule")
    if fault == "a file of outcomes":
        (days.settings.home / "outcomes").mkdir()
        (days.settings.home / "outcomes" / "a.parquet").write_bytes(b"x")
    else:
        what = {"the monitoring": "run_monitoring", "the report": "after_run.html_report.write", "the triggers": "due"}[
            fault
        ]
        monkeypatch.setattr(f"level2_cicd.control_loop.operate.{what}", broken)
    did = operator.cycle()
    assert "rolled back" in did[-1], did
    assert (days.route.champion, days.route.mode) == ("1", None)
    (ticket,) = [
        line for line in tickets.open_tickets(days.store) if line["incident"].startswith(tickets.PERSON_NEEDED)
    ]
    assert ("a.parquet" if fault == "a file of outcomes" else "no space left") in ticket["body"]


def test_a_refused_file_of_outcomes_does_not_keep_the_next_one_waiting(days: Days, operated: Any) -> None:
    inbox = days.settings.home / "outcomes"
    inbox.mkdir()
    (inbox / "a.parquet").write_bytes(b"x")
    (inbox / "b.csv").write_text("id,value\n0-0,1\n")
    refused, taken, *_ = operated(NOTHING).cycle()
    assert "a.parquet is refused" in refused
    assert "1 new ones from b.csv" in taken
    assert (inbox / "refused" / "a.parquet").exists()
    assert not [file for file in inbox.iterdir() if file.is_file()]


def damage(days: Days, version: str) -> None:
    (days.settings.home / "bundles" / problem.NAME / version / MANIFEST).write_text("{}")


def test_a_bad_release_is_rolled_back_though_a_damaged_challenger_waits(days: Days, operated: Any) -> None:
    set_route(days.settings, champion="1", challenger="2")
    damage(days, "2")
    operated(replace(RELEASE, version="3")).cycle()
    assert (days.route.champion, days.route.challenger) == ("3", None)


def test_a_damaged_challenger_is_refused_once_and_the_diagnosis_is_answered(days: Days, operated: Any) -> None:
    set_route(days.settings, champion="1", challenger="2")
    damage(days, "2")
    operator = operated(FAULT)
    operator.cycle()
    operator.cycle()
    assert actions(days).count(StepRefused.text) == 1
    assert actions(days).count(DataQuarantined.text) == 1


def test_a_rollout_that_waits_for_a_person_does_not_keep_a_bad_release_serving(days: Days, operated: Any) -> None:
    advance.start(days.settings, "2", "a test", now=days.now)
    by_hand.stop(days.settings, "let me look", days.now)
    operated(replace(RELEASE, version="3")).cycle()
    assert (days.route.champion, days.route.challenger, days.route.mode) == ("3", None, None)
    assert days.store.rollout(problem.NAME) is None


@pytest.mark.evidence("the previous version does not load", "Level 2: rolled back by itself")
def test_where_the_version_before_is_damaged_an_earlier_champion_serves(days: Days, operated: Any) -> None:
    for version in ("3", "2", "1"):
        Registry(days.settings).promote(version, "champion", "a test")
    damage(days, "2")
    operated(replace(RELEASE, version="2")).cycle()
    assert days.route.champion == "3"
    assert "not version 2" in days.store.audit_log(problem.NAME)[-1].reason


def test_where_no_version_can_be_gone_back_to_a_person_is_asked_for_once(days: Days, operated: Any) -> None:
    damage(days, "2")
    operator = operated(replace(RELEASE, version="2"))
    operator.cycle()
    operator.cycle()
    assert days.route.champion == "1"
    assert actions(days).count(StepRefused.text) == 1


def test_where_the_monitoring_may_not_order_a_training_a_concept_drift_is_noted(days: Days, operated: Any) -> None:
    trainer = Trainer()
    operator = operated(CHANGE, trainer, triggers="schedule")
    operator.cycle()
    operator.cycle()
    assert trainer.orders == []
    assert actions(days)[1:] == [FindingNoted.text]


def test_an_order_whose_training_is_skipped_waits_for_the_next_cycle(days: Days, operated: Any) -> None:
    class Busy(Trainer):
        def __call__(self, settings: Settings, order: Order) -> int:
            self.orders.append(order)
            return 0  # as the command does while another training goes on

    busy = Busy()
    operator = operated(CHANGE, busy)
    operator.cycle()
    assert len(busy.orders) == 1
    assert not [action for action in actions(days) if action.startswith("train: ")]
    operator.train = Trainer()
    operator.cycle()
    assert operator.train.orders == busy.orders
    assert days.route.mode == "shadow"


def test_a_person_s_training_does_not_count_as_the_loop_s(days: Days, operated: Any) -> None:
    trainer = Trainer("fail", 3)
    operator = operated(NOTHING, trainer)
    retraining_budget.overrule(operator.settings, triggers.by_hand(operator.settings, "release", "a new pipeline"))
    days.store.record(problem.NAME, Change("somebody", TrainingJudged(status="pass"), "", days.now))
    operator.cycle()
    assert [order.trigger for order in trainer.orders] == ["release"]


def test_the_ticket_of_a_run_that_was_killed_before_it_is_opened_by_the_next_cycle(
    days: Days, operated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operated(FAULT)
    with monkeypatch.context() as patch:
        patch.setattr(tickets, "follow", broken)
        operator.cycle()
    operator.cycle()
    operator.cycle()
    (ticket,) = [line for line in tickets.open_tickets(days.store) if line["incident"].startswith("data fault")]
    assert ticket["seen"] == 1


# ---- the other triggers


@pytest.mark.evidence("Checklist 10")
def test_the_calendar_asks_when_it_is_told_to_and_once_a_day(days: Days, operated: Any) -> None:
    trainer = Trainer("fail", 3)
    days.store.record(problem.NAME, Change("t", TrainingJudged(status="pass"), "", days.now - timedelta(days=40)))
    operated(NOTHING, trainer).cycle()
    assert trainer.orders == []
    operator = operated(NOTHING, trainer, triggers="schedule")
    operator.cycle()
    operator.cycle()
    assert [order.trigger for order in trainer.orders] == ["schedule"]


@pytest.mark.evidence("Checklist 10")
@pytest.mark.flights
@pytest.mark.usefixtures("prepared")
def test_a_month_of_new_outcomes_asks_when_it_is_told_to(days: Days, operated: Any) -> None:
    trainer = Trainer("fail", 3)
    days.today = pd.Timestamp("2013-05-06", tz=problem.TIMEZONE).tz_convert("UTC")
    operator = operated(NOTHING, trainer, triggers="new data")
    operator.cycle()
    operator.cycle()
    assert [order.trigger for order in trainer.orders] == ["new data"]
    assert trainer.orders[0].evidence["month"] == "2013-04"


@pytest.mark.evidence("Checklist 10")
@pytest.mark.parametrize("trigger", triggers.BY_HAND)
def test_what_a_person_orders_is_trained_whatever_the_budget_says(days: Days, operated: Any, trigger: str) -> None:
    trainer = Trainer()
    days.store.record(problem.NAME, Change("t", TrainingJudged(status="pass"), "", days.now))
    operator = operated(NOTHING, trainer, max_trainings=1, cooldown_days=99.0)
    retraining_budget.overrule(operator.settings, triggers.by_hand(operator.settings, trigger, "I want it"))
    operator.cycle()
    assert [(order.trigger, order.reason) for order in trainer.orders] == [(trigger, "I want it")]


def test_a_child_process_gets_the_same_settings(home: Settings) -> None:
    settings = home.changed({"clock": "replay", "monitor_every_days": 7.0, "webhook": ""})
    code = "from level1_pipeline.settings import Settings; print(Settings().model_dump_json())"
    given = environment(settings)
    answer = subprocess.run(
        [sys.executable, "-c", code], env=given, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout) == settings.model_dump(mode="json")


# ---- kill -9 at every write

KILLED = """
import contextlib, json, os, shutil, signal, sqlite3, sys
sys.modules["mlflow"] = None  # a light process
import sqlalchemy as sa
from pathlib import Path
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.control_loop import operate
from tests.level2_cicd.control_loop.test_operate import DIAGNOSES, Trainer, plant

home, spare, now, said = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], DIAGNOSES[sys.argv[4]]
operate.run_monitoring = lambda settings, now, days: plant(Store(settings.operations), said, now)
operate.after_run.html_report.write = lambda *_: None

def cycle(limit):
    writes = 0
    def count(statement):
        nonlocal writes
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE", "COMMIT"):
            if writes == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            writes += 1
    sa.event.listen(sa.Engine, "before_cursor_execute", lambda _c, _u, statement, *_: count(statement))
    sa.event.listen(sa.Engine, "commit", lambda _: count("COMMIT"))
    settings = Settings(home=home, clock=now, lease_seconds=0.2, retraining={"min_new_outcomes": 0}, tracking_uri="sqlite:////nowhere/m.db")
    operate.Operator(settings, Trainer()).cycle()

def child(limit):
    pid = os.fork()
    if pid == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        try:
            cycle(limit)
        except BaseException:
            os._exit(9)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status), os.waitstatus_to_exitcode(status)

def fresh_home():
    shutil.rmtree(home)
    shutil.copytree(spare, home)

for limit in range(500):
    fresh_home()
    killed, _ = child(limit)
    with contextlib.closing(sqlite3.connect(f"{home}/operations.db", isolation_level=None)) as db:
        db.execute("UPDATE leases SET expires_at = '1970-01-01 00:00:00.000000'")  # the time of the killed one is over
    again = [child(-1) for _ in range(2)]
    with contextlib.closing(sqlite3.connect(f"{home}/operations.db")) as db:
        route = db.execute("SELECT champion, challenger, mode FROM routes").fetchall()
        lines = [row[0] for row in db.execute("SELECT action FROM audit ORDER BY id")]
        states = db.execute("SELECT version, state FROM rollouts").fetchall()
        tickets = db.execute("SELECT incident, seen FROM tickets").fetchall()
    end = {"route": route, "states": states, "audit": lines, "tickets": tickets}
    print(json.dumps({"limit": limit, "killed": killed, "again": again, "end": end}), flush=True)
    if not killed:
        break
"""


DIAGNOSES = {
    diagnosis.cause: diagnosis
    for diagnosis in (CHANGE, FAULT, SHIFT, replace(RELEASE, version="3"), replace(RETURN, version="2"))
}


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("answer", DIAGNOSES)
def test_killed_at_any_write_of_a_cycle_the_next_one_ends_where_an_unharmed_one_does(
    days: Days, tmp_path: Path, answer: str
) -> None:
    days.store.close()
    spare = tmp_path / "spare"
    subprocess.run(["cp", "-r", str(days.settings.home), str(spare)], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    told = subprocess.run(
        [sys.executable, "-c", KILLED, str(days.settings.home), str(spare), days.now.isoformat(), answer],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    *killed, unharmed = [json.loads(line) for line in told.stdout.splitlines()]
    assert not unharmed["killed"]
    assert len(killed) > 10
    for line in killed:
        assert line["killed"]
        assert line["again"] == [[False, 0], [False, 0]], line
        assert line["end"] == unharmed["end"], line
