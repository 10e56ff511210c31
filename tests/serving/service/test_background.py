"""What runs behind the answers: threads that survive their errors, and the clock of decisions."""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from level1_pipeline.settings import Settings
from level1_pipeline.store.clock import Clock
from level1_pipeline.store.database import Store
from serving.service.background import BackgroundThread
from tests.support.serving import NOW, Models, eventually, logged, serve, set_route


def test_a_thread_survives_the_errors_of_its_action_and_reports_them(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def action() -> None:
        calls.append(1)
        raise RuntimeError("the disk is on fire")

    with caplog.at_level(logging.ERROR):
        thread = BackgroundThread("work", 0.01, action)
        thread.start()
        eventually(lambda: len(calls) > 3)
        thread.stop()
    assert "the disk is on fire" in caplog.text
    count = len(calls)
    time.sleep(0.05)
    assert len(calls) == count  # stopped is stopped


def test_a_stop_waits_for_the_action_that_is_going_on() -> None:
    began, ended = threading.Event(), threading.Event()

    def action() -> None:
        began.set()
        time.sleep(0.2)
        ended.set()

    thread = BackgroundThread("work", 60, action)
    thread.start()
    began.wait(5)
    thread.stop()
    assert ended.is_set()


def test_a_thread_that_was_never_started_can_be_stopped() -> None:
    BackgroundThread("work", 60, lambda: None).stop()


def test_predictions_carry_the_time_of_the_clock_of_decisions(home: Settings, models: Models) -> None:
    models.publish(home.home, "1", 0)
    set_route(home, champion="1")
    store = Store(home.operations)
    with serve(home.changed({"clock": "replay", "flush_seconds": 0.1})) as client:
        for day in range(3):
            store.set_replay_time(NOW + timedelta(days=day))
            assert client.post("/predict", json={"id": f"{day}", "record": models.records[0]}).status_code == 200
        late = {"id": "0", "value": 1, "known_at": (NOW + timedelta(days=2, seconds=1)).isoformat()}
        assert client.post("/outcomes", json=late).status_code == 409
    assert [row["at"] for row in logged(home)] == [NOW + timedelta(days=day) for day in range(3)]
    assert all(row["recorded_at"] > datetime.now(UTC) - timedelta(minutes=5) for row in logged(home))


def test_while_the_store_fails_the_replay_clock_stands_still(home: Settings) -> None:
    store = Store(home.operations)
    store.set_replay_time(NOW)
    clock = Clock(home.changed({"clock": "replay"}), store)
    assert clock.now() == NOW
    clock.store = Store(f"sqlite:///{home.home / 'operations.db' / 'no-folder' / 'x.db'}")
    assert clock.now() == NOW


def test_a_replay_clock_that_was_never_set_is_an_error(home: Settings, store: Store) -> None:
    with pytest.raises(LookupError, match="never set"):
        Clock(home.changed({"clock": "replay"}), store).now()
