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
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import BundleRefused, LeaseHeld, LeaseLost, NoRollout, PromotionRefused
from level1_pipeline.registry import Registry, RouteSetByHand
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.audit import RolloutRejected
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import rollouts
from level2_cicd.rollout import advance, by_hand, evidence, quality
from level2_cicd.rollout.state_machine import Decision, Evidence
from level2_cicd.rollout.states import BAKE, CANARY, CHAMPION, ROLLED_BACK, SHADOW, Step
from tests.support import ROOT
from tests.support.days import ROWS_A_DAY, Days, worse
from tests.support.serving import edit_manifest, set_route
from tests.support.webhook import listener

SERVED = [("2", None, 0.0), ("2", "shadow", 0.0), ("2", "canary", 0.25), ("2", "canary", 0.5), ("2", "canary", 0.5)]


def row(days: Days) -> dict[str, object]:
    with days.store.engine.connect() as connection:
        return dict(connection.execute(sa.select(rollouts).where(rollouts.c.version == "2")).one()._mapping)


@pytest.mark.evidence("Level 2: rolled out step by step")
def test_a_good_candidate_becomes_champion_and_the_old_one_stays_in_reach(days: Days) -> None:
    assert days.start().step == Step(SHADOW)
    assert days.route == Route("1", "2", "shadow", 0.0)
    decisions = days.until(CHAMPION)
    assert days.route == Route("2", None, None, 0.0, previous="1")
    assert [line for line in decisions if line.kind == "roll back"] == []
    actions = [action for action, *_ in days.audit()]
    path = ["start", "blessed", "shadow", "canary 25 %", "canary 50 %", "bake 50 %", "champion"]
    assert actions[1:] == [f"rollout: {step}" for step in path]
    assert days.audit()[-1] == ("rollout: champion", "1", "2")


RECIPE = {"source_digest": "s", "lock_digest": "l", "parameters": {}}


def described(days: Days, version: str, **manifest: Any) -> None:
    """Say in a bundle what it was made from."""
    edit_manifest(Registry(days.settings).bundle_folder(version), **RECIPE, **manifest)


@pytest.mark.flights  # how many days a bake takes depends on the rows
def test_a_refresh_of_the_champions_recipe_waits_for_no_outcomes_in_shadow(days: Days) -> None:
    described(days, "1", as_of="2013-01-01T00:00:00-05:00")
    described(days, "2", as_of="2013-02-01T00:00:00-05:00")
    days.settings = days.settings.changed({"min_requests": ROWS_A_DAY})
    days.start()
    assert [decision.step.state for decision in days.until(CHAMPION)] == [CANARY, BAKE, BAKE, CHAMPION]
    path = ["start", "blessed", "shadow", "canary 50 %", "bake 50 %", "champion"]
    assert [action for action, *_ in days.audit()][1:] == [f"rollout: {step}" for step in path]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({}, {"source_digest": "another release"}),
        ({}, {"parameters": {"model__max_iter": 60}}),
        ({"as_of": "2013-03-01T00:00:00-05:00"}, {}),  # an earlier version comes back
        ({"source_digest": None}, {}),
    ],
)
def test_whatever_is_no_refresh_takes_the_whole_way(days: Days, older: dict[str, Any], newer: dict[str, Any]) -> None:
    for version, changes in (("1", {"as_of": "2013-01-01T00:00:00-05:00"} | older), ("2", newer)):
        manifest = {"as_of": "2013-02-01T00:00:00-05:00"} | RECIPE | changes
        edit_manifest(Registry(days.settings).bundle_folder(version), **manifest)
    days.start()
    days.until(CHAMPION)
    assert "rollout: canary 25 %" in [action for action, *_ in days.audit()]


def test_a_refresh_that_does_gross_harm_does_not_become_champion(days: Days) -> None:
    described(days, "1", as_of="2013-01-01T00:00:00-05:00")
    described(days, "2", as_of="2013-02-01T00:00:00-05:00")
    days.candidate = (lambda y: 0.9 - 0.8 * y) if problem.TASK == "classification" else (lambda y: y + 30.0)
    days.start()
    assert days.until(ROLLED_BACK)[-1].step == Step(ROLLED_BACK)
    assert days.route.champion == "1"


@pytest.mark.parametrize(("limit", "end"), [(5, CHAMPION), (0.001, ROLLED_BACK)])
def test_a_refresh_that_was_worse_on_the_copies_of_its_shadow_does_not_become_champion(
    days: Days, monkeypatch: pytest.MonkeyPatch, limit: float, end: str
) -> None:
    """Worse by less than what the canary's own alarm sees: only the paired copies tell."""
    described(days, "1", as_of="2013-01-01T00:00:00-05:00")
    described(days, "2", as_of="2013-02-01T00:00:00-05:00")
    monkeypatch.setattr(quality, "REFRESH_HARM", limit)
    days.candidate = lambda y: worse(y) - 0.02 * (2 * y - 1)
    days.start()
    last = days.until(end)[-1]
    assert last.step.state == end
    assert ("quality of the copies" in last.reason) or end == CHAMPION


@pytest.mark.flights  # in a small slice of other rows the planted offset does harm
@pytest.mark.parametrize(("parent", "end"), [("1", CHAMPION), ("9", ROLLED_BACK)])
def test_the_mean_score_of_a_recalibration_of_the_champion_is_moved_on_purpose(
    days: Days, parent: str, end: str
) -> None:
    described(days, "1", as_of="2013-01-01T00:00:00-05:00")
    described(days, "2", as_of="2013-02-01T00:00:00-05:00", recalibration={"parent": parent})
    days.candidate = lambda y: worse(y) - 0.12
    days.start()
    last = days.until(end)[-1]
    assert ("allowed: inf" if end == CHAMPION else "(allowed: 1)") in last.reason


@pytest.mark.evidence("Checklist 16")
def test_each_line_of_the_audit_holds_the_route_before_and_after_and_the_evidence(days: Days) -> None:
    days.start(evidence={"pass": "2013-01-12"})
    days.until(CHAMPION)
    lines = [line.evidence for line in days.store.audit_log(problem.NAME)[1:]]
    after = [line["route_after"] for line in lines]
    assert [(line["challenger"], line["mode"], line["share"]) for line in after] == [
        SERVED[0],
        SERVED[0],
        *SERVED[1:],
        (None, None, 0.0),
    ]
    before = [line["route_before"] for line in lines[1:]]
    for route in (*before, *after):
        route.pop("checksums")  # these bundles were published by hand: the first load records what they are
    assert before == after[:-1], "a link is missing"
    assert lines[0]["pass"] == "2013-01-12"
    assert {line["candidate"] for line in lines} == {"2"}
    quality = [line for line in lines[3]["decision"]["checks"] if line["name"] == "quality"]
    assert "mean daily gain" in quality[0]["message"]


@pytest.mark.evidence("a candidate is worse", "Level 2: rolled out step by step")
def test_a_worse_candidate_never_leaves_the_shadow(days: Days) -> None:
    days.candidate = lambda y: 0.35 - 0.05 * y if problem.TASK == "classification" else y + 3.0
    days.start()
    decision = days.until(ROLLED_BACK)[-1]
    assert "quality" in decision.reason
    assert days.route == Route("1")
    assert row(days)["state"] == ROLLED_BACK
    routes = [line.route for line in days.store.audit_log(problem.NAME)[1:]]
    assert {route.mode for route in routes if route} == {None, "shadow"}


def test_identical_predictions_are_no_gain(days: Days) -> None:
    days.candidate = worse
    days.start()
    assert "identical" in days.until(ROLLED_BACK)[-1].reason


@pytest.mark.evidence("Infra 6", "Level 2: rolled out step by step")
def test_a_candidate_that_fails_in_the_canary_is_rolled_back_at_the_next_look(days: Days) -> None:
    days.start()
    days.until(CANARY)
    days.sometimes = 0.02
    decision = days.midnight()
    assert decision.kind == "roll back"
    assert "ValueError: planted" in decision.reason
    assert days.route == Route("1")


@pytest.mark.evidence("Infra 6", "a model hangs, is slow or takes memory")
def test_a_candidate_that_is_slow_in_the_canary_is_rolled_back(days: Days) -> None:
    days.start()
    days.until(CANARY)
    days.latency_ms = 10.0
    assert "latency: at least 10" in days.midnight().reason


def test_a_candidate_that_does_gross_harm_in_the_canary_is_rolled_back(days: Days) -> None:
    days.start()
    days.until(CANARY)
    days.candidate = (lambda y: 0.95 - 0.9 * y) if problem.TASK == "classification" else (lambda y: y + 50.0)
    days.settings = days.settings.changed({"max_shift": 100.0})  # or it is seen before the outcomes come
    assert "harm: " in days.until(ROLLED_BACK)[-1].reason


def test_without_traffic_it_waits_and_is_rolled_back_as_not_proved(days: Days) -> None:
    days.start()
    message = []
    while advance.advance(days.settings, days.now):
        message.append(row(days)["evidence"]["decision"]["reason"])  # type: ignore[index]
        days.today += np.timedelta64(1, "D")
    assert len(message) == 15
    assert "copies: 0 of 500" in message[0]
    assert "not proved within 14 days in shadow" in message[-1]


@pytest.mark.evidence("Checklist 20", "Level 2: stops for a person")
def test_a_person_is_waited_for_at_every_step_when_asked_for(days: Days) -> None:
    days.settings = days.settings.changed({"approvals": "all"})
    with listener() as (url, got):
        days.settings = days.settings.changed({"webhook": url})
        assert days.start().kind == "wait"
        advance.advance(days.settings, days.now)
    assert [(message["event"], message["title"]) for message in got] == [
        ("waits", "the rollout of version 2 waits for a person: shadow")
    ], "once, not at every look"
    days.settings = days.settings.changed({"webhook": ""})
    assert days.route == Route("1", "2"), "no traffic, not even copies, before somebody agrees"
    waited = []
    for _ in range(30):
        decision = advance.advance(days.settings, days.now)
        if decision is None:
            break
        if decision.kind == "wait":
            waited.append(row(days)["waiting"])
            by_hand.approve(days.settings, "2", str(waited[-1]), "looks good", days.now)
        else:
            days.pass_day()
    assert waited == ["shadow", "canary 25 %", "canary 50 %", "bake 50 %", "champion"]
    assert days.route.champion == "2"
    assert [action for action, *_ in days.audit()].count("rollout: approved") == len(waited)


def test_a_rejected_rollout_is_over_and_the_reason_is_kept(days: Days) -> None:
    days.start()
    days.pass_day()
    by_hand.reject(days.settings, "the desk is closed this week", days.now)
    assert days.route == Route("1")
    line = days.store.audit_log(problem.NAME)[-1]
    assert (line.action, line.reason) == (RolloutRejected("2"), "the desk is closed this week")
    assert advance.advance(days.settings, days.now) is None


@pytest.mark.evidence("Checklist 20")
def test_a_stopped_rollout_stays_until_a_person_lets_it_go_on(days: Days) -> None:
    days.start()
    by_hand.stop(days.settings, "a look first", days.now)
    assert {days.midnight().kind for _ in range(8)} == {"wait"}
    assert days.route.mode == "shadow"
    decision = by_hand.approve(days.settings, "2", "stopped", "seen", days.now)
    assert decision
    assert decision.step == Step(CANARY, 0.25)


def test_what_waits_for_nobody_cannot_be_approved(days: Days) -> None:
    with pytest.raises(NoRollout, match="rollout start"):
        by_hand.approve(days.settings, "2", "shadow", "yes", days.now)
    days.start()
    with pytest.raises(NoRollout, match="waits for nobody"):
        by_hand.approve(days.settings, "2", "shadow", "yes", days.now)


def test_a_candidate_whose_bundle_was_exchanged_meanwhile_does_not_become_champion(days: Days) -> None:
    days.register("2")
    days.start()
    days.until("bake")
    edit_manifest(Registry(days.settings).bundle_folder("2"), note="other content, whose checksums fit")
    decision = days.until(ROLLED_BACK)[-1]
    assert "bundle: " in decision.reason
    assert "holds another bundle" in decision.reason
    assert days.route == Route("1")


def test_a_second_rollout_and_a_promotion_are_refused_meanwhile(days: Days) -> None:
    days.register("3")
    days.start()
    with pytest.raises(PromotionRefused, match="rollout of version 2"):
        advance.start(days.settings, "3", "impatience", now=days.now)
    with pytest.raises(
        PromotionRefused, match=r"rollout of version 2 is going on \(shadow\): finish or reject it first"
    ):
        Registry(days.settings).promote("3", "champion", "impatience")


def test_what_cannot_be_rolled_out_is_refused_with_the_reason(days: Days) -> None:
    with pytest.raises(PromotionRefused, match="champion already"):
        advance.start(days.settings, "1", "again", now=days.now)
    with pytest.raises(BundleRefused):
        advance.start(days.settings, "9", "never published", now=days.now)
    set_route(days.settings, champion=None)
    with pytest.raises(PromotionRefused, match="make level1"):
        days.start()


@pytest.mark.evidence("Infra 4")
def test_a_version_without_its_blessings_never_gets_a_copy(days: Days) -> None:
    folder = days.settings.home / "bundles" / problem.NAME / "2"
    edit_manifest(folder, verdict="fail")
    decision = days.start()
    assert decision.kind == "roll back"
    assert "quality blessing" in decision.reason
    assert days.route == Route("1")


@pytest.mark.slow
def test_rollbacks_in_a_row_are_capped_until_a_person_starts_one(days: Days) -> None:
    days.candidate = worse
    for _ in range(3):
        days.start(automatic=True)
        by_hand.reject(days.settings, "a person's no is no failure of the machine", days.now)
    for _ in range(3):
        days.start(automatic=True)
        days.until(ROLLED_BACK)
    with pytest.raises(PromotionRefused, match="3 rollouts were rolled back in a row"):
        days.start(automatic=True)
    assert days.start().step == Step(SHADOW)


@pytest.mark.parametrize("by_hand", [{"mode": None}, {"mode": "canary", "share": 0.1}, {"challenger": "3"}])
def test_a_route_changed_by_hand_ends_the_rollout_and_stays_as_the_person_set_it(
    days: Days, by_hand: dict[str, object]
) -> None:
    days.start()
    days.pass_day()
    wanted = set_route(days.settings, **by_hand)
    decision = advance.advance(days.settings, days.now)
    assert decision
    assert "by hand" in decision.reason
    assert days.route == wanted
    assert row(days)["state"] == ROLLED_BACK
    assert days.audit()[-1] == ("rollout: ended by hand", "1", "1")
    assert advance.advance(days.settings, days.now) is None


def test_a_route_set_by_hand_is_called_so_until_the_person_takes_it_back(days: Days) -> None:
    days.register("3")
    set_route(days.settings, challenger="2", mode="shadow")
    registry = Registry(days.settings)
    for refused in (lambda: days.start(automatic=True), lambda: registry.promote("3", "champion", "no")):
        with pytest.raises(RouteSetByHand, match=r"version 2 is in shadow without a rollout; .* --mode none"):
            refused()
    set_route(days.settings, mode=None)
    assert days.start(automatic=True).step == Step(SHADOW)


def test_a_rollback_of_the_champion_ends_the_rollout_in_the_same_transaction(days: Days) -> None:
    set_route(days.settings, champion="3", previous="1")
    days.start()
    Registry(days.settings).rollback("an emergency")
    assert days.route == Route("1")
    assert row(days)["state"] == ROLLED_BACK
    assert advance.advance(days.settings, days.now) is None


def test_a_store_that_cannot_be_read_pauses_and_does_not_roll_back(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.start()
    days.pass_day()

    def broken(*_: object) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("disk I/O error"))

    monkeypatch.setattr("level2_cicd.rollout.queries.counts", broken)
    decision = advance.advance(days.settings, days.now)
    assert decision
    assert (decision.kind, decision.verdict) == ("stay", "error")
    assert "disk I/O error" in decision.reason
    assert days.route.mode == "shadow"


def test_one_of_two_drivers_at_once_steps_back(days: Days) -> None:
    days.start()
    with leases.hold(days.store, leases.promotion(problem.NAME), 30), pytest.raises(LeaseHeld):
        advance.advance(days.settings, days.now)


@pytest.mark.slow
def test_many_drivers_at_once_write_one_line_for_each_step(days: Days) -> None:
    days.start()
    for _ in range(8):
        days.pass_day()

        def look() -> None:
            with contextlib.suppress(LeaseHeld):
                advance.advance(days.settings, days.now)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    actions = [action for action, *_ in days.audit()]
    assert len(actions) == len(set(actions))


def test_a_driver_that_lost_its_lease_writes_nothing(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.start()
    before = (days.audit(), row(days))
    real = advance._write

    def slow(*arguments: Any) -> None:
        with days.store.engine.begin() as connection:
            connection.execute(sa.text("UPDATE leases SET token = token + 1"))
        real(*arguments)

    monkeypatch.setattr(advance, "_write", slow)
    days.pass_day()
    with pytest.raises(LeaseLost):
        advance.advance(days.settings, days.now)
    assert (days.audit(), row(days)) == before


def test_a_look_begins_again_when_what_it_judged_changed_meanwhile(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.start()
    days.until(CANARY)
    days.pass_day()
    looks: list[Evidence] = []
    real = evidence.gather

    def meanwhile(*arguments: Any) -> Evidence:
        seen = real(*arguments)
        if not looks:
            by_hand.stop(days.settings, "a look first", days.now)
        looks.append(seen)
        return seen

    monkeypatch.setattr(advance, "gather", meanwhile)
    decision = advance.advance(days.settings, days.now)
    assert decision
    assert (decision.kind, len(looks)) == ("wait", 2)
    assert days.route.share == 0.25
    assert row(days)["waiting"] == "stopped"


def test_a_start_that_another_process_overtakes_says_that_it_has_begun(
    days: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = advance.advance

    def overtaken(settings: Settings, now: datetime | None = None) -> Decision | None:
        with Registry(settings).promotion():
            return real(settings, now)

    monkeypatch.setattr(advance, "advance", overtaken)
    decision = days.start()
    assert (decision.kind, decision.reason[:5]) == ("stay", "begun")
    assert row(days)["state"] == "registered"


# ---- kill -9 at every write

KILLED = """
import json, logging, os, signal, sqlite3, sys
from contextlib import closing, suppress
from datetime import datetime
import sqlalchemy as sa
from level1_pipeline.errors import PromotionRefused
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level2_cicd.rollout import advance, evidence, record

settings = Settings(home=sys.argv[1], rollout={"canary_shares": "0.25,0.5"})

def act(what, now):
    if what == "roll back":
        Registry(settings).rollback("a test")
    elif what == "start" and record.current(Registry(settings).store) is None:
        advance.start(settings, "2", "a test", now=now)
    else:
        advance.advance(settings, now)

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
def killer(days: Days) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """A light process that does one thing again and again, killed before its first write, its second, …, until it
    is through; what the store said after each time."""
    command = [sys.executable, "-c", KILLED, str(days.settings.home)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        told = process.stdout

        def walk(what: str) -> list[dict[str, Any]]:
            assert process.stdin
            process.stdin.write(json.dumps([what, days.now.isoformat()]) + "\n")
            process.stdin.flush()
            result = [json.loads(line) for line in iter(told.readline, "{}\n")]
            assert [(line["killed"], line["code"]) for line in result] == [(True, 0)] * (len(result) - 1) + [(False, 0)]
            return result

        yield walk


def is_whole(seen: dict[str, Any]) -> bool:
    """The route is the one that the last line of the audit log speaks of, and so is the row of the rollout."""
    action, seen_before = seen["audit"][-1]
    after = seen_before["route_after"]
    steps = [str(Step(*state)) for state in seen["states"]]
    answer = {"promote to champion": [], "rollout: start": ["registered"], "roll back": [CHAMPION]}
    return seen["route"] == [after[name] for name in ("champion", "challenger", "mode", "share", "previous")] and (
        steps == answer.get(action, [action.removeprefix("rollout: ")])
    )


@pytest.mark.evidence("a process is killed during a promotion", "Level 2: survives a kill")
@pytest.mark.slow
def test_killed_before_any_write_from_registered_to_champion_and_back_it_leaves_all_or_nothing(days: Days) -> None:
    result: list[dict[str, Any]] = []
    with killer(days) as walk:
        result += walk("start")
        while days.route.champion == "1":
            days.pass_day()
            result += walk("advance")
        result += walk("roll back")
        days.sometimes = 1.0
        result += walk("start")
        days.pass_day()
        result += walk("advance")
    assert [line for line in result if not is_whole(line)] == []
    path = ["start", "blessed", "shadow"]
    up = [*path, "canary 25 %", "canary 50 %", "bake 50 %", "champion"]
    actions = [action for action, *_ in days.audit()]
    assert actions == [
        "promote to champion",
        *(f"rollout: {step}" for step in up),
        "roll back",
        *(f"rollout: {step}" for step in [*path, "rolled back"]),
    ]
    kills = Counter(len(line["audit"]) for line in result if line["killed"])
    writes = 6  # the lease, the rollout's row (twice), the route, the audit line, and the commit
    assert all(kills[lines] >= writes for lines in range(1, len(actions))), kills
