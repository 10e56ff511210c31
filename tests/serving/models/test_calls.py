"""A call of a model has a time limit, and those that hang are few."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from level1_pipeline.bundle.time_limit import CALLS_AT_ONCE, MOST_HANGING, Calls, Overdue
from level1_pipeline.errors import BundleRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store.routes import Route
from serving.models import loaded_model, routing
from serving.models.loaded_model import Model
from serving.models.routing import Serving
from serving.service.background import BackgroundThread
from serving.service.shadow import Shadow
from serving.telemetry.metrics import Metrics
from tests.serving.models.test_routing import Stub, asked, canary, model
from tests.support.serving import eventually, logged, serve

SECONDS = 0.2


class Hanging:
    """Stands in for a bundle: hangs on every record, or on those that `which` says, until it is let go."""

    scorer = None

    def __init__(self, which: Callable[[Any], bool] = lambda _: True):
        self.go, self.which, self.calls = threading.Event(), which, 0

    def predict(self, records: list[Any]) -> Any:
        self.calls += 1
        if any(self.which(record) for record in records):
            self.go.wait(60)
        return np.full(len(records), 0.75)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    bundle = Hanging()
    yield bundle
    bundle.go.set()


def as_model(bundle: Any, version: str = "2") -> Model:
    return Model(version, bundle, "checksum", {}, {})


def test_a_call_gives_what_the_work_gives() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    calls = Calls()
    assert [calls.run(lambda at=at: at, 5) for at in range(20)] == list(range(20))  # type: ignore[misc]
    with pytest.raises(TimeoutError, match="its own"):
        calls.run(fail, 5)
    assert not calls.hang


def test_calls_that_hang_are_given_up_and_then_not_begun_until_they_end(hanging: Hanging) -> None:
    calls = Calls()
    for _ in range(MOST_HANGING):
        with pytest.raises(Overdue, match="no answer within"):
            calls.run(lambda: hanging.predict([1]), SECONDS)
    started = time.perf_counter()
    with pytest.raises(Overdue, match="not asked"):
        calls.run(lambda: hanging.predict([1]), 60)
    assert time.perf_counter() - started < 1
    assert (calls.hang, hanging.calls) == (True, MOST_HANGING)
    hanging.go.set()
    eventually(lambda: not calls.hang)
    assert calls.run(lambda: 5, 5) == 5


def test_many_callers_at_once_hold_few_threads(hanging: Hanging) -> None:
    calls = Calls()

    def call() -> None:
        with pytest.raises(Overdue):
            calls.run(lambda: hanging.predict([1]), SECONDS)

    callers = [threading.Thread(target=call) for _ in range(60)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert hanging.calls <= CALLS_AT_ONCE


@pytest.mark.evidence("a model hangs, is slow or takes memory")
def test_where_the_canary_hangs_the_champion_answers_and_the_failure_is_kept(hanging: Hanging) -> None:
    serving = Serving(canary(1.0), model(0.25, "1"), as_model(hanging))
    failed, answered = routing.answer(serving, cases := asked(), SECONDS)
    assert (answered.arm, answered.model.version, list(answered)) == ("champion", "1", [(case, 0.25) for case in cases])
    assert (failed.arm, failed.error, set(failed.scores)) == ("canary", "no answer within 0.2 s", {None})
    assert failed.latency_ms >= 1000 * SECONDS


def test_a_hanging_canary_delays_few_requests_and_the_process_goes_on(
    served: Settings, records: list[dict[str, Any]], hanging: Hanging
) -> None:
    settings = served.changed({"watch_seconds": 3600.0, "predict_seconds": SECONDS})
    with serve(settings) as client:
        hot_swap = client.app.service.hot_swap  # type: ignore[attr-defined]
        champion = hot_swap.serving.champion
        hot_swap.serving = Serving(canary(1.0), champion, as_model(hanging))
        for number in range(20):
            answer = client.post("/predict", json={"id": f"{number:02}", "record": records[0]})
            assert (answer.status_code, answer.json()["arm"]) == (200, "champion")
            assert client.get("/livez").status_code == 200
        assert b"mlops_model_errors" in client.get("/metrics").content
        assert hanging.calls == MOST_HANGING
        ready = client.get("/readyz").json()
        assert (ready["state"], ready["reasons"]) == ("degraded", ["version 2 is not asked: its calls hang"])
    rows = [row for row in logged(settings) if row["arm"] == "canary"]
    assert [row["score"] for row in rows] == [None] * 20
    assert {row["error"].partition(" ")[0] for row in rows} == {"no", "not"}


def test_a_canary_that_hangs_on_some_rows_answers_the_others() -> None:
    bundle = Hanging(lambda record: record["x"] == 2)
    serving = Serving(canary(1.0), model(0.25, "1"), as_model(bundle))
    answers = [routing.answer(serving, [case], SECONDS)[-1] for case in asked()]
    assert [(answer.arm, answer.scores) for answer in answers if answer.arm == "canary"] == [("canary", [0.75])] * 3
    bundle.go.set()


def test_a_hanging_champion_is_said_so_and_another_one_takes_over(
    served: Settings, records: list[dict[str, Any]], hanging: Hanging
) -> None:
    settings = served.changed({"watch_seconds": 3600.0, "predict_seconds": SECONDS})
    with serve(settings) as client:
        hot_swap = client.app.service.hot_swap  # type: ignore[attr-defined]
        good = hot_swap.serving
        hot_swap.serving = Serving(Route("2"), as_model(hanging))
        for _ in range(MOST_HANGING + 2):
            answer = client.post("/predict", json={"record": records[0]})
            assert (answer.status_code, "no answer" in answer.json()["error"]) == (503, True)
        assert (client.get("/livez").status_code, client.get("/readyz").status_code) == (200, 503)
        hot_swap.serving = good
        assert client.post("/predict", json={"record": records[0]}).status_code == 200
        assert client.get("/readyz").status_code == 200


def test_an_explanation_has_a_time_limit_too(served: Settings, records: list[dict[str, Any]], hanging: Hanging) -> None:
    with serve(served.changed({"watch_seconds": 3600.0, "predict_seconds": SECONDS})) as client:
        hot_swap = client.app.service.hot_swap  # type: ignore[attr-defined]
        spoilt = Model("2", hanging, "checksum", hot_swap.serving.champion.typical, {})  # type: ignore[arg-type]
        hot_swap.serving = Serving(Route("2"), spoilt)
        answer = client.post("/explain", json={"record": records[0]})
        assert (answer.status_code, "no answer within" in answer.json()["error"]) == (503, True)


@pytest.mark.evidence("a model hangs, is slow or takes memory")
def test_a_hanging_shadow_slows_no_answer_and_no_stop(
    served: Settings, records: list[dict[str, Any]], hanging: Hanging
) -> None:
    settings = served.changed({"watch_seconds": 3600.0, "predict_seconds": SECONDS})
    started = time.perf_counter()
    with serve(settings) as client:
        hot_swap = client.app.service.hot_swap  # type: ignore[attr-defined]
        hot_swap.serving = Serving(Route("1", "2", "shadow"), hot_swap.serving.champion, as_model(hanging))
        for number in range(50):
            assert client.post("/predict", json={"id": f"{number:02}", "record": records[0]}).status_code == 200
        eventually(lambda: hanging.calls == MOST_HANGING)
    assert time.perf_counter() - started < 30
    rows = logged(settings)
    assert [row["score"] is None for row in rows if row["arm"] == "shadow"] == [True] * 50
    assert all(row["score"] is not None for row in rows if row["arm"] == "champion")


def test_a_slow_shadow_is_dropped_at_the_end_instead_of_holding_it_up() -> None:
    reported: list[routing.Scored] = []
    shadow = Shadow(100, metrics := Metrics(), reported.extend, SECONDS)
    shadow.add(model(RuntimeError("broken"), seconds=0.1), asked(50))
    started = time.monotonic()
    shadow.finish(seconds=0.5)
    assert time.monotonic() - started < 3
    dropped = 50 - sum(map(len, reported))
    assert 0 < dropped < 50
    assert f"mlops_shadow_dropped_total {dropped}.0".encode() in metrics.page()


def test_a_version_that_hangs_while_it_is_loaded_is_refused(served: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    monkeypatch.setattr(loaded_model, "LOAD_SECONDS", SECONDS)
    monkeypatch.setattr(loaded_model, "load_to_serve", lambda *_: go.wait(60))
    with pytest.raises(BundleRefused, match="version 2 could not be loaded: no answer within"):
        loaded_model.load(served, "2")
    go.set()


def test_a_thread_whose_action_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.service.background.STOP_SECONDS", SECONDS)
    go, began = threading.Event(), threading.Event()

    def action() -> None:
        began.set()
        go.wait(60)

    thread = BackgroundThread("work", 60, action)
    thread.start()
    began.wait(5)
    started = time.monotonic()
    thread.stop()
    assert time.monotonic() - started < 5
    go.set()


def test_a_compiled_model_is_asked_without_a_thread() -> None:
    bundle = Stub(0.5)
    bundle.scorer = object()  # type: ignore[assignment]
    before = set(threading.enumerate())  # some of an earlier test may end meanwhile
    assert routing.answer(Serving(Route("1"), as_model(bundle)), asked())[0].scores == [0.5] * 4
    assert set(threading.enumerate()) <= before
