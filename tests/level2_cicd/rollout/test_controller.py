"""The driver: what is written, in which order, by whom; a real store, a real log, real bundles."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import BundleRefused, LeaseHeld, LeaseLost, NoRollout, PromotionRefused
from level1_pipeline.registry import Registry, RouteSetByHand
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import rollouts
from level2_cicd.rollout import controller
from level2_cicd.rollout.policy import CANARY, CHAMPION, ROLLED_BACK, SHADOW, Step
from level2_cicd.rollout.state_machine import Decision, Evidence
from tests.level2_cicd.conftest import Year, worse
from tests.serving.conftest import edit_manifest, set_route

ROOT = Path(__file__).parents[3]
SERVED = [("2", None, 0.0), ("2", "shadow", 0.0), ("2", "canary", 0.25), ("2", "canary", 0.5), ("2", "canary", 0.5)]


def row(year: Year) -> dict[str, object]:
    with year.store.engine.connect() as connection:
        return dict(connection.execute(sa.select(rollouts).where(rollouts.c.version == "2")).one()._mapping)


def test_a_good_candidate_becomes_champion_and_the_old_one_stays_in_reach(year: Year) -> None:
    assert year.start().step == Step(SHADOW)
    assert year.route == Route("1", "2", "shadow", 0.0)
    decisions = year.until(CHAMPION)
    assert year.route == Route("2", None, None, 0.0, previous="1")
    assert [one for one in decisions if one.kind == "roll back"] == []
    actions = [action for action, *_ in year.audit()]
    path = ["start", "blessed", "shadow", "canary 25 %", "canary 50 %", "bake 50 %", "champion"]
    assert actions[1:] == [f"rollout: {step}" for step in path]
    assert year.audit()[-1] == ("rollout: champion", "1", "2")


def test_each_line_of_the_audit_holds_the_route_before_and_after_and_the_evidence(year: Year) -> None:
    year.start(evidence={"pass": "2013-01-12"})
    year.until(CHAMPION)
    lines = year.store.history(problem.NAME)[1:]
    after = [line["evidence"]["route_after"] for line in lines]
    assert [(one["challenger"], one["mode"], one["share"]) for one in after] == [
        SERVED[0],
        SERVED[0],
        *SERVED[1:],
        (None, None, 0.0),
    ]
    assert [line["evidence"]["route_before"] for line in lines[1:]] == after[:-1], "a link is missing"
    assert lines[0]["evidence"]["pass"] == "2013-01-12"
    assert {line["evidence"]["candidate"] for line in lines} == {"2"}
    quality = [one for one in lines[3]["evidence"]["decision"]["checks"] if one["name"] == "quality"]
    assert "mean daily gain" in quality[0]["message"]


def test_a_worse_candidate_never_leaves_the_shadow(year: Year) -> None:
    year.candidate = lambda y: 0.35 - 0.05 * y if problem.TASK == "classification" else y + 3.0
    year.start()
    decision = year.until(ROLLED_BACK)[-1]
    assert "quality" in decision.reason
    assert year.route == Route("1")
    assert row(year)["state"] == ROLLED_BACK
    assert {line["evidence"]["route_after"]["mode"] for line in year.store.history(problem.NAME)[1:]} == {
        None,
        "shadow",
    }


def test_identical_predictions_are_no_gain(year: Year) -> None:
    year.candidate = worse
    year.start()
    assert "identical" in year.until(ROLLED_BACK)[-1].reason


def test_a_candidate_that_fails_in_the_canary_is_rolled_back_at_the_next_look(year: Year) -> None:
    year.start()
    year.until(CANARY)
    year.sometimes = 0.02
    decision = year.midnight()
    assert decision.kind == "roll back"
    assert "ValueError: planted" in decision.reason
    assert year.route == Route("1")


def test_a_candidate_that_is_slow_in_the_canary_is_rolled_back(year: Year) -> None:
    year.start()
    year.until(CANARY)
    year.latency_ms = 10.0
    assert "latency: at least 10" in year.midnight().reason


def test_a_candidate_that_does_gross_harm_in_the_canary_is_rolled_back(year: Year) -> None:
    year.start()
    year.until(CANARY)
    year.candidate = (lambda y: 0.95 - 0.9 * y) if problem.TASK == "classification" else (lambda y: y + 50.0)
    year.settings = year.settings.changed({"max_shift": 100.0})  # or it is seen before the outcomes come
    assert "harm: " in year.until(ROLLED_BACK)[-1].reason


def test_without_traffic_it_waits_and_is_rolled_back_as_not_proved(year: Year) -> None:
    year.start()
    message = []
    while controller.advance(year.settings, year.now):
        message.append(row(year)["evidence"]["decision"]["reason"])  # type: ignore[index]
        year.today += np.timedelta64(1, "D")
    assert len(message) == 15
    assert "copies: 0 of 500" in message[0]
    assert "not proved within 14 days in shadow" in message[-1]


def test_a_person_is_waited_for_at_every_step_when_asked_for(year: Year) -> None:
    year.settings = year.settings.changed({"approvals": "all"})
    assert year.start().kind == "wait"
    assert year.route == Route("1", "2"), "no traffic, not even copies, before somebody agrees"
    waited = []
    for _ in range(30):
        decision = controller.advance(year.settings, year.now)
        if decision is None:
            break
        if decision.kind == "wait":
            waited.append(row(year)["waiting"])
            controller.approve(year.settings, "looks good", year.now)
        else:
            year.pass_day()
    assert waited == ["shadow", "canary 25 %", "canary 50 %", "bake 50 %", "champion"]
    assert year.route.champion == "2"
    assert [action for action, *_ in year.audit()].count("rollout: approved") == len(waited)


def test_a_rejected_rollout_is_over_and_the_reason_is_kept(year: Year) -> None:
    year.start()
    year.pass_day()
    controller.reject(year.settings, "the desk is closed this week", year.now)
    assert year.route == Route("1")
    line = year.store.history(problem.NAME)[-1]
    assert (line["action"], line["reason"]) == ("rollout: rejected", "the desk is closed this week")
    assert controller.advance(year.settings, year.now) is None


def test_a_stopped_rollout_stays_until_a_person_lets_it_go_on(year: Year) -> None:
    year.start()
    controller.stop(year.settings, "a look first", year.now)
    assert {year.midnight().kind for _ in range(8)} == {"wait"}
    assert year.route.mode == "shadow"
    decision = controller.approve(year.settings, "seen", year.now)
    assert decision
    assert decision.step == Step(CANARY, 0.25)


def test_what_waits_for_nobody_cannot_be_approved(year: Year) -> None:
    with pytest.raises(NoRollout, match="rollout start"):
        controller.approve(year.settings, "yes", year.now)
    year.start()
    with pytest.raises(NoRollout, match="waits for nobody"):
        controller.approve(year.settings, "yes", year.now)


def test_a_second_rollout_and_a_promotion_are_refused_meanwhile(year: Year) -> None:
    year.start()
    with pytest.raises(PromotionRefused, match="rollout of version 2"):
        controller.start(year.settings, "3", "impatience", now=year.now)
    with pytest.raises(
        PromotionRefused, match=r"rollout of version 2 is going on \(shadow\): finish or reject it first"
    ):
        Registry(year.settings).promote("3", "champion", "impatience")


def test_what_cannot_be_rolled_out_is_refused_with_the_reason(year: Year) -> None:
    with pytest.raises(PromotionRefused, match="champion already"):
        controller.start(year.settings, "1", "again", now=year.now)
    with pytest.raises(BundleRefused):
        controller.start(year.settings, "9", "never published", now=year.now)
    set_route(year.settings, champion=None)
    with pytest.raises(PromotionRefused, match="make level1"):
        year.start()


def test_a_version_without_its_blessings_never_gets_a_copy(year: Year) -> None:
    folder = year.settings.home / "bundles" / problem.NAME / "2"
    edit_manifest(folder, verdict="fail")
    decision = year.start()
    assert decision.kind == "roll back"
    assert "quality blessing" in decision.reason
    assert year.route == Route("1")


def test_rollbacks_in_a_row_are_capped_until_a_person_starts_one(year: Year) -> None:
    year.candidate = worse
    for _ in range(3):
        year.start(automatic=True)
        controller.reject(year.settings, "a person's no is no failure of the machine", year.now)
    for _ in range(3):
        year.start(automatic=True)
        year.until(ROLLED_BACK)
    with pytest.raises(PromotionRefused, match="3 rollouts were rolled back in a row"):
        year.start(automatic=True)
    assert year.start().step == Step(SHADOW)


@pytest.mark.parametrize("by_hand", [{"mode": None}, {"mode": "canary", "share": 0.1}, {"challenger": "3"}])
def test_a_route_changed_by_hand_ends_the_rollout_and_stays_as_the_person_set_it(
    year: Year, by_hand: dict[str, object]
) -> None:
    year.start()
    year.pass_day()
    wanted = set_route(year.settings, **by_hand)
    decision = controller.advance(year.settings, year.now)
    assert decision
    assert "by hand" in decision.reason
    assert year.route == wanted
    assert row(year)["state"] == ROLLED_BACK
    assert year.audit()[-1] == ("rollout: ended by hand", "1", "1")
    assert controller.advance(year.settings, year.now) is None


def test_a_route_set_by_hand_is_called_so_until_the_person_takes_it_back(year: Year) -> None:
    set_route(year.settings, challenger="2", mode="shadow")
    registry = Registry(year.settings)
    for refused in (lambda: year.start(automatic=True), lambda: registry.promote("3", "champion", "no")):
        with pytest.raises(RouteSetByHand, match=r"version 2 is in shadow without a rollout; .* --mode none"):
            refused()
    set_route(year.settings, mode=None)
    assert year.start(automatic=True).step == Step(SHADOW)


def test_a_rollback_of_the_champion_ends_the_rollout_in_the_same_transaction(year: Year) -> None:
    set_route(year.settings, champion="3", previous="1")
    year.start()
    Registry(year.settings).rollback("an emergency")
    assert year.route == Route("1")
    assert row(year)["state"] == ROLLED_BACK
    assert controller.advance(year.settings, year.now) is None


def test_a_store_that_cannot_be_read_pauses_and_does_not_roll_back(year: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    year.start()
    year.pass_day()

    def broken(*_: object) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("disk I/O error"))

    monkeypatch.setattr("level2_cicd.rollout.queries.counts", broken)
    decision = controller.advance(year.settings, year.now)
    assert decision
    assert (decision.kind, decision.verdict) == ("stay", "error")
    assert "disk I/O error" in decision.reason
    assert year.route.mode == "shadow"


def test_one_of_two_drivers_at_once_steps_back(year: Year) -> None:
    year.start()
    with leases.hold(year.store, leases.promotion(problem.NAME), 30), pytest.raises(LeaseHeld):
        controller.advance(year.settings, year.now)


def test_many_drivers_at_once_write_one_line_for_each_step(year: Year) -> None:
    year.start()
    for _ in range(8):
        year.pass_day()

        def look() -> None:
            with contextlib.suppress(LeaseHeld):
                controller.advance(year.settings, year.now)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    actions = [action for action, *_ in year.audit()]
    assert len(actions) == len(set(actions))


def test_a_driver_that_lost_its_lease_writes_nothing(year: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    year.start()
    before = (year.audit(), row(year))
    real = controller._write

    def slow(*arguments: Any) -> None:
        with year.store.engine.begin() as connection:
            connection.execute(sa.text("UPDATE leases SET token = token + 1"))
        real(*arguments)

    monkeypatch.setattr(controller, "_write", slow)
    year.pass_day()
    with pytest.raises(LeaseLost):
        controller.advance(year.settings, year.now)
    assert (year.audit(), row(year)) == before


def test_a_look_begins_again_when_what_it_judged_changed_meanwhile(year: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    year.start()
    year.until(CANARY)
    year.pass_day()
    looks, real = [], controller.gather

    def meanwhile(*arguments: Any) -> Evidence:
        seen = real(*arguments)
        if not looks:
            controller.stop(year.settings, "a look first", year.now)
        looks.append(seen)
        return seen

    monkeypatch.setattr(controller, "gather", meanwhile)
    decision = controller.advance(year.settings, year.now)
    assert decision
    assert (decision.kind, len(looks)) == ("wait", 2)
    assert year.route.share == 0.25
    assert row(year)["waiting"] == "stopped"


def test_a_start_that_another_process_overtakes_says_that_it_has_begun(
    year: Year, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = controller.advance

    def overtaken(settings: Settings, now: datetime | None = None) -> Decision | None:
        with Registry(settings).promotion():
            return real(settings, now)

    monkeypatch.setattr(controller, "advance", overtaken)
    decision = year.start()
    assert (decision.kind, decision.reason[:5]) == ("stay", "begun")
    assert row(year)["state"] == "registered"


# ---- kill -9 at every write

KILLED = """
import json, logging, os, signal, sqlite3, sys
from contextlib import closing, suppress
from datetime import datetime
import sqlalchemy as sa
from level1_pipeline.errors import PromotionRefused
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level2_cicd.rollout import checks, controller, evidence

settings = Settings(home=sys.argv[1], rollout={"canary_shares": "0.25,0.5"})

def act(what, now):
    if what == "roll back":
        Registry(settings).rollback("a test")
    elif what == "start" and Registry(settings).store.rollout(controller.problem.NAME) is None:
        controller.start(settings, "2", "a test", now=now)
    else:
        controller.advance(settings, now)

def dies(limit, what, now):
    writes = 0
    def count(statement):
        nonlocal writes
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE", "COMMIT"):
            if writes == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            writes += 1
    sa.event.listen(sa.Engine, "before_cursor_execute", lambda _c, _u, statement, *_: count(statement))
    sa.event.listen(sa.Engine, "commit", lambda _: count("COMMIT"))
    with suppress(PromotionRefused):  # a rollback that was made before the kill
        act(what, now)
    os._exit(0)

def seen():
    with closing(sqlite3.connect(f"{settings.home}/operations.db", isolation_level=None)) as db:
        db.execute("UPDATE leases SET expires_at = '1970-01-01 00:00:00.000000'")  # the time of the killed one is over
        route = db.execute("SELECT champion, challenger, mode, share, previous FROM routes").fetchone()
        states = db.execute("SELECT state, share FROM rollouts").fetchall()
        return {"route": route, "states": states, "audit": [
            (action, json.loads(known)) for action, known in db.execute("SELECT action, evidence FROM audit ORDER BY id")
        ]}

def walk(what, now):
    limit, steps = 0, len(seen()["audit"])
    while True:
        pid = os.fork()
        if pid == 0:
            dies(limit, what, now)
        _, status = os.waitpid(pid, 0)
        after = seen()
        print(json.dumps({"killed": os.WIFSIGNALED(status), "code": status >> 8, **after}), flush=True)
        if not os.WIFSIGNALED(status):
            return
        limit, steps = 0 if len(after["audit"]) > steps else limit + 1, len(after["audit"])

for line in sys.stdin:
    what, now = json.loads(line)
    walk(what, datetime.fromisoformat(now))
    print("{}", flush=True)
"""


@contextlib.contextmanager
def killer(year: Year) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """A light process that does one thing again and again, killed before its first write, its second, …, until it
    is through; what the store said after each time."""
    command = [sys.executable, "-c", KILLED, str(year.settings.home)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        told = process.stdout

        def walk(what: str) -> list[dict[str, Any]]:
            assert process.stdin
            process.stdin.write(json.dumps([what, year.now.isoformat()]) + "\n")
            process.stdin.flush()
            found = [json.loads(line) for line in iter(told.readline, "{}\n")]
            assert [(one["killed"], one["code"]) for one in found] == [(True, 0)] * (len(found) - 1) + [(False, 0)]
            return found

        yield walk


def is_whole(seen: dict[str, Any]) -> bool:
    """The route is the one that the last line of the audit log speaks of, and so is the row of the rollout."""
    action, known = seen["audit"][-1]
    after = known["route_after"]
    steps = [str(Step(*state)) for state in seen["states"]]
    said = {"promote": [], "rollout: start": ["registered"], "roll back": [CHAMPION]}
    return seen["route"] == [after[name] for name in ("champion", "challenger", "mode", "share", "previous")] and (
        steps == said.get(action, [action.removeprefix("rollout: ")])
    )


@pytest.mark.slow
def test_killed_before_any_write_from_registered_to_champion_and_back_it_leaves_all_or_nothing(year: Year) -> None:
    found: list[dict[str, Any]] = []
    with killer(year) as walk:
        found += walk("start")
        while year.route.champion == "1":
            year.pass_day()
            found += walk("advance")
        found += walk("roll back")
        year.sometimes = 1.0
        found += walk("start")
        year.pass_day()
        found += walk("advance")
    assert [one for one in found if not is_whole(one)] == []
    path = ["start", "blessed", "shadow"]
    up = [*path, "canary 25 %", "canary 50 %", "bake 50 %", "champion"]
    actions = [action for action, *_ in year.audit()]
    assert actions == [
        "promote",
        *(f"rollout: {step}" for step in up),
        "roll back",
        *(f"rollout: {step}" for step in [*path, "rolled back"]),
    ]
    kills = Counter(len(one["audit"]) for one in found if one["killed"])
    writes = 6  # the lease, the rollout's row (twice), the route, the audit line, and the commit
    assert all(kills[lines] >= writes for lines in range(1, len(actions))), kills
