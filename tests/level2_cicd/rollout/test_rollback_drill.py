"""The drill: the registry is down, the new champion is bad, and the old one has to be back in seconds."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from level1_pipeline import problem
from level1_pipeline.errors import LeaseLost
from level1_pipeline.evaluation.gate import Check
from level1_pipeline.registry import Registry, tracking
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, Promoted, RolledBack
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from level2_cicd.cli import main
from level2_cicd.rollout import advance
from level2_cicd.rollout.state_machine import Decision, Evidence
from tests.support.serving import Models, eventually, serve, set_route

DEAD_REGISTRY = "http://127.0.0.1:9"  # the port of "discard": nobody listens


@pytest.fixture
def served(home: Settings, models: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for version, kind in (("1", 0), ("2", 1), ("3", 2)):
        models.publish(home.home, version, kind)
    set_route(home, champion="1")
    set_route(home, champion="2", previous="1")
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    monkeypatch.setenv("MLOPS_TRACKING_URI", DEAD_REGISTRY)
    return home.changed({"watch_seconds": 0.1, "flush_seconds": 0.1})


@pytest.mark.evidence("Infra 7")
def test_a_rollback_without_the_registry_brings_the_old_predictions_back_bit_for_bit(
    served: Settings, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    cases = [{"record": record} for record in models.records[:50]]
    with serve(served) as client:

        def scores() -> list[float]:
            return [line["score"] for line in client.post("/predict", json=cases).json()]

        def drill() -> None:
            codes.append(main(["rollback", "--reason", "a drill"]))

        assert scores() == models.alike(models.scores[1][:50])
        started, command = time.perf_counter(), threading.Thread(target=drill)
        command.start()
        eventually(lambda: client.get("/model").json()["version"] == "1")
        seconds = time.perf_counter() - started
        command.join()
        done = time.perf_counter()
        assert codes == [0]
        assert scores() == models.alike(models.scores[0][:50])
    printed = capsys.readouterr().out
    assert f"rollback | {problem.NAME} | champion 2 -> 1 in" in printed
    with capsys.disabled():
        print(
            f"\nrollback drill | command {done - started:.1f} s, old predictions back after {seconds:.1f} s, registry down"
        )


def test_the_old_version_serves_although_the_command_still_waits_for_the_dead_registry(
    served: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The route has changed, that is said, and the lease is free before the aliases are touched."""
    seen: list[tuple[Route, bool]] = []

    def hangs(*_: object) -> bool:
        registry = Registry(served)
        with registry.promotion():
            seen.append((registry.route(), "champion 2 -> 1 in" in capsys.readouterr().out))
        return False

    monkeypatch.setattr(tracking, "mirror", hangs)
    assert main(["rollback", "--reason", "a drill"]) == 0
    assert seen == [(Route("1"), True)]


EMERGENCIES = {
    "rollback": (["rollback"], 0, Route("1")),
    "reject": (["rollout", "reject"], 0, Route("2", previous="1")),
    "stop": (["rollout", "stop"], 5, Route("2", "3", "shadow", 0.0, "1")),
}


@pytest.mark.parametrize("what", [None, *EMERGENCIES])
def test_a_person_waits_for_no_loop_that_looks_and_what_it_decided_meanwhile_is_not_written(
    served: Settings, monkeypatch: pytest.MonkeyPatch, what: str | None
) -> None:
    """The loop reads evidence for as long as the person needs; all of it says: give version 3 its share."""
    assert main(["rollout", "start", "3", "--reason", "a new one"]) == 0
    looking, go_on = threading.Event(), threading.Event()
    decisions: list[Decision | None] = []

    def slow(*_: Any) -> Evidence:
        looking.set()
        assert go_on.wait(60)
        return Evidence((Check("quality", "pass", "better"),), 1000, 1000, 1000, 1000, 9)

    monkeypatch.setattr(advance, "gather", slow)
    loop = threading.Thread(target=lambda: decisions.append(advance.advance(served)))
    loop.start()
    assert looking.wait(60)
    command, code, wanted = EMERGENCIES.get(what or "", (None, 0, Route("2", "3", "canary", 0.05, "1")))
    if command:
        assert main([*command, "--reason", "an emergency"]) == code
        assert Store(served.operations).route(problem.NAME) == wanted  # and the loop still looks
    go_on.set()
    loop.join()
    assert Store(served.operations).route(problem.NAME) == wanted
    given = [line.text for line in Store(served.operations).audit_log(problem.NAME)].count("rollout: canary 5 %")
    assert given == (what is None)
    assert [decision.kind if decision else None for decision in decisions] == [
        {None: "advance", "stop": "wait"}.get(what)
    ]


@pytest.mark.parametrize("what", EMERGENCIES)
def test_a_holder_of_the_lease_that_was_killed_or_hangs_is_overruled_and_can_write_no_more(
    served: Settings, what: str
) -> None:
    assert main(["rollout", "start", "3", "--reason", "a new one"]) == 0
    store = Store(served.operations)
    old = leases.acquire(store, leases.promotion(problem.NAME), 3600)
    command, code, wanted = EMERGENCIES[what]
    assert main([*command, "--reason", "an emergency"]) == code
    assert store.route(problem.NAME) == wanted
    with pytest.raises(LeaseLost):
        store.change_route(
            problem.NAME, old, Change("the old one", Promoted("champion"), "", clock.now(served)), champion="3"
        )
    assert store.route(problem.NAME) == wanted


def test_without_a_previous_champion_a_rollback_ends_the_rollout_and_says_so(
    served: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on every first rollout of an installation."""
    set_route(served, previous=None)
    assert main(["rollout", "start", "3", "--reason", "the first one"]) == 0
    assert main(["rollback", "--reason", "an emergency"]) == 0
    answer = capsys.readouterr().out.splitlines()[-1]
    assert "| champion 2 stays, version 3 gets no more traffic in" in answer
    assert answer.endswith("| the rollout of 3 is rolled back")
    store = Store(served.operations)
    assert (store.route(problem.NAME), store.rollout(problem.NAME)) == (Route("2"), None)
    assert main(["rollback", "--reason", "and once more"]) == 1
    assert "there is no other version to go back to (champion: 2)" in capsys.readouterr().err


def test_a_rollback_ends_the_rollout_that_is_going_on_and_stands_in_the_history(
    served: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollout", "start", "3", "--reason", "a new one"]) == 0
    assert Store(served.operations).route(problem.NAME) == Route("2", "3", "shadow", 0.0, "1")
    assert main(["rollback", "--reason", "an emergency"]) == 0
    assert "the rollout of 3 is rolled back" in capsys.readouterr().out
    store = Store(served.operations)
    assert store.route(problem.NAME) == Route("1")
    assert store.rollout(problem.NAME) is None
    last = store.audit_log(problem.NAME)[-1]
    assert (last.action, last.from_version, last.to_version) == (RolledBack(), "2", "1")
    assert last.reason == "an emergency"
