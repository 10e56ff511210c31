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

from level1_pipeline import leases, problem
from level1_pipeline.leases import LeaseHeld
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import Change, Route, Store
from level2_cicd import decide, governor, operate, triggers
from level2_cicd.__main__ import main
from level2_cicd.decide import Situation, next_step
from level2_cicd.operate import Operator
from level2_cicd.training import environment
from level2_cicd.triggers import Order, order_for
from monitoring import journal, tickets
from monitoring.findings import Diagnosis, Pass, Window
from tests.level2.conftest import Year
from tests.monitoring import passes
from tests.monitoring.passes import CHANGE, FAULT, NOTHING, RELEASE, RETURN, SHIFT, UNSURE

ROOT = Path(__file__).parents[2]
ORDER = Order("performance drop", "it got worse", "2013-07-08T04:00:00+00:00", {"cause": "real change"})
LINE = {"at": passes.END, "reason": "", "evidence": {}, "from_version": None, "to_version": None}


def line(action: str, **evidence: Any) -> dict[str, Any]:
    return {**LINE, "action": action, "evidence": evidence}


def situation(found: Pass | None = None, *lines: dict[str, Any], rolling: bool = False, **route: Any) -> Situation:
    return Situation(Route(**{"champion": "2", **route}), rolling, list(lines), found)


def ordered() -> dict[str, Any]:
    return line(governor.ALLOWED, order=ORDER.as_dict())


# ---- the decision


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (NOTHING, "nothing"),
        (UNSURE, "nothing"),
        (SHIFT, "note"),
        (FAULT, "quarantine"),
        (CHANGE, "ask"),
        (RELEASE, "roll back"),
        (RETURN, "switch back"),
    ],
    ids=lambda value: getattr(value, "cause", value),
)
def test_each_diagnosis_has_its_one_answer(said: Diagnosis, kind: str) -> None:
    step = next_step(situation(passes.a_pass(said)))
    assert step.kind == kind
    assert step.version == said.version


def test_what_was_begun_is_finished_before_anything_new_begins() -> None:
    found = passes.a_pass(CHANGE)
    assert next_step(situation(found, ordered(), rolling=True, challenger="3")).kind == "advance"
    assert next_step(situation(found, ordered(), challenger="3")).kind == "train"
    assert next_step(situation(found, ordered(), line("train: gate pass"), challenger="3")).kind == "start"
    started = line(decide.STARTED, candidate="3")
    assert next_step(situation(found, ordered(), line("train: gate pass"), started, challenger="3")).kind == "ask"


def test_a_pass_is_answered_once_and_one_about_an_earlier_champion_never() -> None:
    found = passes.a_pass(CHANGE)
    answered = line("operate: answered", window_end=found.window.end.isoformat())
    assert next_step(situation(found, answered)).kind == "nothing"
    assert next_step(situation(found, champion="9")).kind == "nothing"
    assert next_step(situation(None)).kind == "nothing"


@pytest.mark.parametrize("ending", ["train: gate pass", "train: gate fail", "train: stopped", "train: crashed"])
def test_an_order_lies_open_until_its_training_has_said_how_it_ended(ending: str) -> None:
    assert decide.unfinished([ordered()]) == ORDER
    assert decide.unfinished([ordered(), line(ending)]) is None
    assert decide.unfinished([ordered(), line(ending), ordered()]) == ORDER


def test_a_loss_above_its_expectation_is_a_performance_drop_and_else_the_distribution_changed(home: Settings) -> None:
    settings = home.model_copy(update={"clock": passes.END.isoformat()})
    worse, moved = (replace(passes.a_pass(CHANGE), figures={"excess": excess, "bias": 0.1}) for excess in (0.05, -0.01))
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
        if self.outcome == "pass":
            registry.promote("2", "challenger", order.reason)
        change = Change("trainer", f"train: gate {self.outcome}", order.reason, settings.now(), {"as_of": order.as_of})
        registry.store.record(problem.NAME, change, to_version="2" if self.outcome == "pass" else None)
        return self.code


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's aliases are somebody else's test."""
    monkeypatch.setattr(Registry, "_mirror", lambda self, route: True)


@pytest.fixture
def operated(year: Year, monkeypatch: pytest.MonkeyPatch, quiet: None) -> Callable[..., Operator]:
    """An operator whose monitoring finds what the test says, and whose governor sees enough new outcomes."""

    def make(said: Diagnosis, trainer: Trainer | None = None, **changes: Any) -> Operator:
        settings = year.settings.model_copy(
            update={"clock": "replay", "min_new_outcomes": 0, "lease_seconds": 0.5, **changes}
        )
        year.store.set_replay_time(year.now)
        monkeypatch.setattr(operate, "observe", lambda settings, now, days: plant(year.store, said, now))
        monkeypatch.setattr(operate.report, "write", lambda *_: None)
        return Operator(settings, trainer or Trainer())

    return make


def plant(store: Store, said: Diagnosis, now: Any) -> Pass:
    """A pass over the week before now, about the champion that serves."""
    window = Window(now - timedelta(days=7), now)
    found = replace(passes.a_pass(said), window=window, at=now, champion=store.route(problem.NAME).champion)
    journal.write(store, found)
    return found


def actions(year: Year) -> list[str]:
    return [one["action"] for one in year.store.history(problem.NAME)]


def test_a_real_change_is_trained_for_and_its_candidate_is_rolled_out(year: Year, operated: Any) -> None:
    trainer = Trainer()
    operator = operated(CHANGE, trainer)
    operator.cycle()
    (order,) = trainer.orders
    assert order.evidence["cause"] == "real change"
    assert actions(year)[1:] == [
        governor.ALLOWED,
        "operate: answered",
        "promote to challenger",
        "train: gate pass",
        "rollout: start",
        "rollout: blessed",
        "rollout: shadow",
    ]
    assert (year.route.champion, year.route.challenger, year.route.mode) == ("1", "2", "shadow")
    while year.route.champion == "1":
        assert year.day < 12
        year.pass_day()
        year.store.set_replay_time(year.now)
        operator.cycle()
    assert (year.route.champion, year.route.previous) == ("2", "1")
    assert len(trainer.orders) == 1


@pytest.mark.parametrize("said", [FAULT, NOTHING, SHIFT, UNSURE], ids=lambda said: said.cause)
def test_whatever_is_no_real_change_is_never_trained_for(year: Year, operated: Any, said: Diagnosis) -> None:
    trainer = Trainer()
    operator = operated(said, trainer, triggers="monitoring, schedule", schedule_days=0.5 if said is FAULT else 99.0)
    year.store.record(problem.NAME, Change("t", "train: gate pass", "", year.now - timedelta(days=2), {}))
    for _ in range(5):
        year.pass_day()
        year.store.set_replay_time(year.now)
        operator.cycle()
    assert trainer.orders == []
    assert actions(year).count("operate: quarantine") == (5 if said is FAULT else 0)


def test_a_change_that_lasts_costs_at_most_the_budget_and_then_a_person_is_asked_for(year: Year, operated: Any) -> None:
    trainer = Trainer("fail", 3)
    operator = operated(CHANGE, trainer, cooldown_days=1.0, max_rejected=99, max_trainings=3, period_days=28.0)
    for _ in range(28):
        year.today += pd.Timedelta("1D")
        year.store.set_replay_time(year.now)
        operator.cycle()
    assert len(trainer.orders) == 3
    assert year.route.champion == "1"


def test_after_too_many_rejected_candidates_one_ticket_asks_for_a_person_who_closes_it(
    year: Year, operated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = operated(CHANGE, Trainer("fail", 3), cooldown_days=1.0, max_rejected=2, max_trainings=9)
    for _ in range(6):
        year.today += pd.Timedelta("1D")
        year.store.set_replay_time(year.now)
        operator.cycle()
    asked = [one for one in tickets.open_tickets(year.store) if one["incident"].startswith(tickets.GOVERNOR)]
    assert len(asked) == 1
    assert "reset" in asked[0]["body"]
    monkeypatch.setenv("MLOPS_HOME", str(year.settings.home))
    assert main(["reset", "--reason", "the data were mended"]) == 0
    assert not [one for one in tickets.open_tickets(year.store) if one["incident"].startswith(tickets.GOVERNOR)]


def test_a_training_that_crashes_is_said_once_and_not_tried_for_ever(year: Year, operated: Any) -> None:
    trainer = Trainer(code=1)
    operator = operated(CHANGE, trainer)
    for _ in range(3):
        operator.cycle()
    assert len(trainer.orders) == 1
    assert "train: crashed" in actions(year)


def test_a_bad_release_is_rolled_back_and_a_returning_regime_goes_through_a_rollout(year: Year, operated: Any) -> None:
    operator = operated(replace(RELEASE, version="3"))
    operator.cycle()
    assert year.route.champion == "3"
    operator = operated(replace(RETURN, version="2"))
    year.today += pd.Timedelta("1D")
    year.store.set_replay_time(year.now)
    operator.cycle()
    assert (year.route.champion, year.route.challenger, year.route.mode) == ("3", "2", "shadow")


def test_only_one_loop_acts(year: Year, operated: Any) -> None:
    operator = operated(CHANGE)
    with leases.hold(year.store, f"operate {problem.NAME}", 30), pytest.raises(LeaseHeld):
        operator.cycle()
    assert len(actions(year)) == 1


def test_too_many_rollbacks_are_said_once_and_wait_for_a_person(year: Year, operated: Any) -> None:
    operator = operated(CHANGE, max_rollbacks=0)
    for _ in range(3):
        operator.cycle()
    assert actions(year).count("operate: waits for a person") == 1
    assert year.route.mode is None


def test_files_with_outcomes_are_taken_in_and_put_aside(year: Year, operated: Any) -> None:
    inbox = year.settings.home / "outcomes"
    inbox.mkdir()
    (inbox / "today.csv").write_text("id,value\n0-0,1\nnobody,0\n")
    (did, *_) = operated(NOTHING).cycle()
    assert "2 new ones from today.csv" in did
    assert [file.name for file in (inbox / "done").iterdir()] == ["today.csv"]


# ---- the other triggers


def test_the_calendar_asks_when_it_is_told_to_and_once_a_day(year: Year, operated: Any) -> None:
    trainer = Trainer("fail", 3)
    year.store.record(problem.NAME, Change("t", "train: gate pass", "", year.now - timedelta(days=40), {}))
    operated(NOTHING, trainer).cycle()
    assert trainer.orders == []
    operator = operated(NOTHING, trainer, triggers="schedule")
    operator.cycle()
    operator.cycle()
    assert [order.trigger for order in trainer.orders] == ["schedule"]


@pytest.mark.flights
def test_a_month_of_new_outcomes_asks_when_it_is_told_to(year: Year, operated: Any, cache: Path) -> None:
    trainer = Trainer("fail", 3)
    year.today = pd.Timestamp("2013-05-06", tz=problem.TIMEZONE).tz_convert("UTC")
    operator = operated(NOTHING, trainer, triggers="new data")
    operator.cycle()
    operator.cycle()
    assert [order.trigger for order in trainer.orders] == ["new data"]
    assert trainer.orders[0].evidence["month"] == "2013-04"


@pytest.mark.parametrize("trigger", triggers.BY_HAND)
def test_what_a_person_orders_is_trained_whatever_the_governor_thinks(year: Year, operated: Any, trigger: str) -> None:
    trainer = Trainer()
    operator = operated(NOTHING, trainer, max_trainings=0, cooldown_days=99.0)
    governor.overrule(operator.settings, triggers.by_hand(operator.settings, trigger, "I want it").as_dict())
    operator.cycle()
    assert [(order.trigger, order.reason) for order in trainer.orders] == [(trigger, "I want it")]


def test_a_child_process_gets_the_same_settings(home: Settings) -> None:
    settings = home.model_copy(update={"clock": "replay", "monitor_every_days": 7.0, "webhook": ""})
    code = "from level1_pipeline.settings import Settings; print(Settings().model_dump_json())"
    given = environment(settings)
    said = subprocess.run([sys.executable, "-c", code], env=given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(said.stdout) == settings.model_dump(mode="json")


# ---- kill -9 at every write

KILLED = """
import os, shutil, signal, sys, time
sys.modules["mlflow"] = None  # a light process
import sqlalchemy as sa
from pathlib import Path
from level1_pipeline.settings import Settings
from level1_pipeline.store import Store
from level2_cicd import operate
from tests.level2.test_operate import Trainer, plant
from tests.monitoring.passes import CHANGE

home, spare, now = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
operate.observe = lambda settings, now, days: plant(Store(settings.operations), CHANGE, now)
operate.report.write = lambda *_: None

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
    settings = Settings(home=home, clock=now, lease_seconds=0.2, min_new_outcomes=0, tracking_uri="sqlite:////nowhere/m.db")
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

for limit in range(500):
    shutil.rmtree(home)
    shutil.copytree(spare, home)
    killed, _ = child(limit)
    time.sleep(0.25)  # until the leases of the killed one are free
    again = [child(-1) for _ in range(2)]
    with __import__("sqlite3").connect(f"{home}/operations.db") as db:
        route = db.execute("SELECT champion, challenger, mode FROM routes").fetchall()
        lines = [row[0] for row in db.execute("SELECT action FROM audit ORDER BY id")]
        states = db.execute("SELECT version, state FROM rollouts").fetchall()
    print(__import__("json").dumps({"limit": limit, "killed": killed, "again": again, "route": route, "states": states, "audit": lines}), flush=True)
    if not killed:
        break
"""


@pytest.mark.slow
def test_killed_at_any_write_of_a_cycle_the_next_one_ends_where_an_unharmed_one_does(
    year: Year, tmp_path: Path
) -> None:
    year.store.close()
    spare = tmp_path / "spare"
    subprocess.run(["cp", "-r", str(year.settings.home), str(spare)], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    told = subprocess.run(
        [sys.executable, "-c", KILLED, str(year.settings.home), str(spare), year.now.isoformat()],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    *killed, unharmed = [json.loads(one) for one in told.stdout.splitlines()]
    assert not unharmed["killed"]
    assert len(killed) > 20
    for one in killed:
        assert one["killed"]
        assert one["again"] == [[False, 0], [False, 0]], one
        assert (one["route"], one["states"]) == (unharmed["route"], unharmed["states"]), one
        trained = [action for action in one["audit"] if action.startswith(("train:", "rollout:", governor.ALLOWED))]
        assert trained == [
            action for action in unharmed["audit"] if action.startswith(("train:", "rollout:", governor.ALLOWED))
        ], one
