"""The drill: the registry is down, the new champion is bad, and the old one has to be back in seconds."""

from __future__ import annotations

import threading
import time

import pytest

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store import Route, Store
from level2_cicd.__main__ import main
from tests.serving.conftest import Models, eventually, in_process, set_route

DEAD_REGISTRY = "http://127.0.0.1:9"  # the port of "discard": nobody listens


@pytest.fixture
def served(home: Settings, models: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for version, kind in (("1", 0), ("2", 1), ("3", 2)):
        models.publish(home.home, version, kind)
    set_route(home, champion="1")
    set_route(home, champion="2", previous="1")
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    monkeypatch.setenv("MLOPS_TRACKING_URI", DEAD_REGISTRY)
    return home.model_copy(update={"watch_seconds": 0.1, "flush_seconds": 0.1})


def test_a_rollback_without_the_registry_brings_the_old_predictions_back_bit_for_bit(
    served: Settings, models: Models, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    cases = [{"record": record} for record in models.records[:50]]
    with in_process(served) as client:

        def scores() -> list[float]:
            return [one["score"] for one in client.post("/predict", json=cases).json()]

        def drill() -> None:
            codes.append(main(["rollback", "--reason", "a drill"]))

        assert scores() == list(models.scores[1][:50])
        started, command = time.perf_counter(), threading.Thread(target=drill)
        command.start()
        eventually(lambda: client.get("/model").json()["version"] == "1")
        seconds = time.perf_counter() - started
        command.join()
        done = time.perf_counter()
        assert codes == [0]
        assert scores() == list(models.scores[0][:50])
    printed = capsys.readouterr().out
    assert f"rollback | {problem.NAME} | champion 2 -> 1 in" in printed
    with capsys.disabled():
        print(
            f"\nrollback drill | command {done - started:.1f} s, old predictions back after {seconds:.1f} s, registry down"
        )


def test_the_old_version_serves_although_the_command_still_waits_for_the_dead_registry(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The route changes before the aliases are touched: a registry that hangs delays nobody."""
    seen: list[Route] = []
    monkeypatch.setattr(
        "level1_pipeline.registry.Registry._mirror", lambda registry, route: seen.append(registry.route()) or False
    )
    assert main(["rollback", "--reason", "a drill"]) == 0
    assert seen == [Route("1")]


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
    last = store.history(problem.NAME)[-1]
    assert (last["action"], last["from_version"], last["to_version"]) == ("roll back", "2", "1")
    assert last["reason"] == "an emergency"
