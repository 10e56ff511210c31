"""The driver: what is written, in which order, by whom; a real store, a real log, real bundles."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from level1_pipeline import leases, problem
from level1_pipeline.bundle import BundleRefused
from level1_pipeline.registry import PromotionRefused, Registry
from level1_pipeline.store import LeaseLost, Route
from level1_pipeline.tables import rollouts
from level2_cicd import driver
from level2_cicd.driver import NoRollout
from level2_cicd.policy import CANARY, CHAMPION, ROLLED_BACK, SHADOW, Step
from tests.level2.conftest import Year, worse
from tests.serving.conftest import edit_manifest, set_route

ROOT = Path(__file__).parents[2]
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
    assert "mean daily gain" in quality[0]["words"]


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
    year.settings = year.settings.model_copy(update={"max_shift": 100.0})  # or it is seen before the outcomes come
    assert "harm: " in year.until(ROLLED_BACK)[-1].reason


def test_without_traffic_it_waits_and_is_rolled_back_as_not_proved(year: Year) -> None:
    year.start()
    words = []
    while driver.advance(year.settings, year.now):
        words.append(row(year)["evidence"]["decision"]["reason"])  # type: ignore[index]
        year.today += np.timedelta64(1, "D")
    assert len(words) == 15
    assert "copies: 0 of 500" in words[0]
    assert "not proved within 14 days in shadow" in words[-1]


def test_a_person_is_waited_for_at_every_step_when_asked_for(year: Year) -> None:
    year.settings = year.settings.model_copy(update={"approvals": "all"})
    assert year.start().kind == "wait"
    assert year.route == Route("1", "2"), "no traffic, not even copies, before somebody agrees"
    waited = []
    for _ in range(30):
        decision = driver.advance(year.settings, year.now)
        if decision is None:
            break
        if decision.kind == "wait":
            waited.append(row(year)["waiting"])
            driver.approve(year.settings, "looks good", year.now)
        else:
            year.pass_day()
    assert waited == ["shadow", "canary 25 %", "canary 50 %", "bake 50 %", "champion"]
    assert year.route.champion == "2"
    assert [action for action, *_ in year.audit()].count("rollout: approved") == len(waited)


def test_a_rejected_rollout_is_over_and_the_reason_is_kept(year: Year) -> None:
    year.start()
    year.pass_day()
    driver.reject(year.settings, "the desk is closed this week", year.now)
    assert year.route == Route("1")
    line = year.store.history(problem.NAME)[-1]
    assert (line["action"], line["reason"]) == ("rollout: rejected", "the desk is closed this week")
    assert driver.advance(year.settings, year.now) is None


def test_a_stopped_rollout_stays_until_a_person_lets_it_go_on(year: Year) -> None:
    year.start()
    driver.stop(year.settings, "a look first", year.now)
    assert {year.midnight().kind for _ in range(8)} == {"wait"}
    assert year.route.mode == "shadow"
    assert driver.approve(year.settings, "seen", year.now).step == Step(CANARY, 0.25)


def test_what_waits_for_nobody_cannot_be_approved(year: Year) -> None:
    with pytest.raises(NoRollout, match="rollout start"):
        driver.approve(year.settings, "yes", year.now)
    year.start()
    with pytest.raises(NoRollout, match="waits for nobody"):
        driver.approve(year.settings, "yes", year.now)


def test_a_second_rollout_and_a_promotion_are_refused_meanwhile(year: Year) -> None:
    year.start()
    with pytest.raises(PromotionRefused, match="rollout of version 2"):
        driver.start(year.settings, "3", "impatience", now=year.now)
    with pytest.raises(PromotionRefused, match="finish or stop"):
        Registry(year.settings).promote("3", "champion", "impatience")


def test_what_cannot_be_rolled_out_is_refused_with_the_reason(year: Year) -> None:
    with pytest.raises(PromotionRefused, match="champion already"):
        driver.start(year.settings, "1", "again", now=year.now)
    with pytest.raises(BundleRefused):
        driver.start(year.settings, "9", "never published", now=year.now)
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
        driver.reject(year.settings, "a person's no is no failure of the machine", year.now)
    for _ in range(3):
        year.start(automatic=True)
        year.until(ROLLED_BACK)
    with pytest.raises(PromotionRefused, match="3 rollouts were rolled back in a row"):
        year.start(automatic=True)
    assert year.start().step == Step(SHADOW)


def test_a_route_changed_by_hand_ends_the_rollout_and_is_not_fought_over(year: Year) -> None:
    year.start()
    year.pass_day()
    set_route(year.settings, mode=None)
    decision = driver.advance(year.settings, year.now)
    assert decision
    assert "by hand" in decision.reason
    assert year.route == Route("1")


def test_a_rollback_of_the_champion_ends_the_rollout_in_the_same_transaction(year: Year) -> None:
    set_route(year.settings, champion="3", previous="1")
    year.start()
    Registry(year.settings).rollback("an emergency")
    assert year.route == Route("1")
    assert row(year)["state"] == ROLLED_BACK
    assert driver.advance(year.settings, year.now) is None


def test_a_store_that_cannot_be_read_pauses_and_does_not_roll_back(year: Year, monkeypatch: pytest.MonkeyPatch) -> None:
    year.start()
    year.pass_day()

    def broken(*_: object) -> None:
        raise sa.exc.OperationalError("select", {}, Exception("disk I/O error"))

    monkeypatch.setattr("level2_cicd.logged.counts", broken)
    decision = driver.advance(year.settings, year.now)
    assert decision
    assert (decision.kind, decision.verdict) == ("stay", "error")
    assert "disk I/O error" in decision.reason
    assert year.route.mode == "shadow"


def test_one_of_two_drivers_at_once_steps_back(year: Year) -> None:
    year.start()
    with leases.hold(year.store, leases.promotion(problem.NAME), 30), pytest.raises(leases.LeaseHeld):
        driver.advance(year.settings, year.now)


def test_many_drivers_at_once_write_one_line_for_each_step(year: Year) -> None:
    year.start()
    for _ in range(8):
        year.pass_day()

        def look() -> None:
            with contextlib.suppress(leases.LeaseHeld):
                driver.advance(year.settings, year.now)

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
    real = driver.decide

    def slow(*arguments: object) -> object:
        with year.store.engine.begin() as connection:
            connection.execute(sa.text("UPDATE leases SET token = token + 1"))
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(driver, "decide", slow)
    year.pass_day()
    with pytest.raises(LeaseLost):
        driver.advance(year.settings, year.now)
    assert (year.audit(), row(year)) == before


KILLED = """
import json, os, signal, sqlite3, sys, time
sys.modules["mlflow"] = None  # a light process: the aliases are mended by the next change
from datetime import datetime
import sqlalchemy as sa
from level1_pipeline.settings import Settings
from level2_cicd import driver, evidence, gather
home, now = sys.argv[1], datetime.fromisoformat(sys.argv[2])

def dies(limit):
    writes = 0
    def count(statement):
        nonlocal writes
        if statement.split()[0] in ("INSERT", "UPDATE", "DELETE", "COMMIT"):
            if writes == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            writes += 1
    sa.event.listen(sa.Engine, "before_cursor_execute", lambda _c, _u, statement, *_: count(statement))
    sa.event.listen(sa.Engine, "commit", lambda _: count("COMMIT"))
    driver.advance(Settings(home=home, lease_seconds=0.2), now)
    os._exit(0)

for limit in range(99):
    pid = os.fork()
    if pid == 0:
        dies(limit)
    _, status = os.waitpid(pid, 0)
    with sqlite3.connect(f"{home}/operations.db") as db:
        route = db.execute("SELECT champion, challenger, mode, share FROM routes").fetchall()
        state = db.execute("SELECT state, share FROM rollouts").fetchall()
        lines = [row[0] for row in db.execute("SELECT action FROM audit ORDER BY id")]
    print(json.dumps({"killed": os.WIFSIGNALED(status), "route": route, "state": state, "audit": lines}), flush=True)
    if not os.WIFSIGNALED(status):
        break
    time.sleep(0.3)  # until the lease of the killed one is free
"""


@pytest.mark.slow
def test_killed_before_any_of_its_writes_it_leaves_all_or_nothing_and_the_next_look_goes_on(year: Year) -> None:
    year.start()
    while year.day < 5:
        year.midnight()
    year.pass_day()
    year.store.close()
    assert year.route.mode == "shadow" or year.route.share == 0.25
    before = [action for action, *_ in year.audit()]
    year.store.close()
    told = subprocess.run(
        [sys.executable, "-c", KILLED, str(year.settings.home), year.now.isoformat()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not told.stderr, told.stderr
    seen = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    assert [one["killed"] for one in seen] == [True] * (len(seen) - 1) + [False]
    assert len(seen) > 8, "it was killed at every write of the lease, the rollout, the route and the audit"
    step = {
        "route": [["1", "2", "canary", 0.5]],
        "state": [["canary", 0.5]],
        "audit": [*before, "rollout: canary 50 %"],
    }
    untouched = {"route": [["1", "2", "canary", 0.25]], "state": [["canary", 0.25]], "audit": before}
    found = [{name: one[name] for name in step} for one in seen]
    assert all(one in (untouched, step) for one in found)
    assert found[0] == untouched
    assert found[-1] == step
