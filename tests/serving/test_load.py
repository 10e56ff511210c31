"""Under load, with several processes: swaps, kills and restarts that no caller notices."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
import psutil
import pytest

from level1_pipeline.settings import Settings
from tests.serving.conftest import KINDS
from tests.support.child_processes import living_children
from tests.support.serving import Models, ServiceProcess, eventually, logged, set_route

FAST = {"watch_seconds": 0.2, "flush_seconds": 0.2, "rate_limit": 0}


class Load:
    """Callers that ask on and on, each with its own records, and keep every answer."""

    def __init__(self, url: str, models: Models, callers: int = 4, rows: int = 3):
        self.url, self.models, self.rows = url, models, rows
        self.answers: list[tuple[float, list[tuple[int, dict[str, Any]]]]] = []  # when, and record number with answer
        self.failures: list[str] = []
        self.slowest = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(callers)]

    def _ask(self, caller: int) -> None:
        turn = 0
        while not self._stop.is_set():
            # A new connection now and then: each belongs to one worker.
            with httpx2.Client(base_url=self.url, timeout=30) as client:
                for _ in range(10):
                    turn += 1
                    numbers = [(caller + turn + n) % len(self.models.records) for n in range(self.rows)]
                    ids = [f"{caller}-{turn}-{n}" for n in range(self.rows)]
                    body = [{"id": i, "record": self.models.records[n]} for i, n in zip(ids, numbers, strict=True)]
                    self._post(client, body, numbers)
                    if self._stop.is_set():
                        return

    def _post(self, client: httpx2.Client, body: list[dict[str, Any]], numbers: list[int]) -> None:
        started = time.time()
        try:
            answer = client.post("/predict", json=body)
            answer.raise_for_status()
        except httpx2.HTTPError as error:
            self.failures.append(repr(error))
            return
        self.slowest = max(self.slowest, time.time() - started)
        self.answers.append((time.time(), list(zip(numbers, answer.json(), strict=True))))

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def ids(self, before: float = float("inf")) -> set[str]:
        """Ids of the predictions that were answered before a time."""
        return {answer["id"] for when, answers in self.answers if when < before for _, answer in answers}

    def check_numbers(self) -> Counter[str]:
        """Every answer is of one version, and is what that version says. Returns answers by version."""
        for _, answers in self.answers:
            versions = {answer["version"] for _, answer in answers}
            assert len(versions) == 1, "an answer mixes versions"
            for number, answer in answers:
                assert answer["score"] == self.models.scores[int(answer["version"]) % KINDS][number], (
                    "another model's number"
                )
        return Counter(answers[0][1]["version"] for _, answers in self.answers)


def workers_on(url: str, version: str) -> int:
    """How many workers serve this version; any worker knows it of all."""
    page = httpx2.get(f"{url}/metrics", timeout=30).text
    wanted = f'mlops_workers{{arm="champion",version="{version}"}}'
    return int(sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(wanted)))


def both_workers_on(url: str, version: str) -> bool:
    return workers_on(url, version) == 2


@pytest.mark.evidence("Checklist 15", "Checklist 17")
@pytest.mark.slow
def test_twenty_swaps_under_load_with_two_workers(start: Any, home: Settings, models: Models) -> None:
    versions = [str(number) for number in range(1, 22)]
    for version in versions:
        models.publish(home.home, version, int(version) % KINDS)
    set_route(home, champion="1")
    service: ServiceProcess = start(home, "--workers", "2", **FAST)
    took = []
    with Load(service.url, models).running() as load:
        eventually(lambda: workers_on(service.url, "1") == 2, 60)
        for version in versions[1:]:
            set_route(home, champion=version)
            changed = time.monotonic()
            eventually(partial(both_workers_on, service.url, version), 30)
            took.append(time.monotonic() - changed)
            assert workers_on(service.url, str(int(version) - 1)) == 0
    assert load.failures == []
    served = load.check_numbers()
    assert set(served) == set(versions)
    assert max(took) < 10
    print(f"\n20 swaps: {len(load.answers)} answers, none failed; slowest answer {load.slowest:.2f} s; "
          f"both workers on the new version after {sum(took) / 20:.2f} s on average, {max(took):.2f} s at most")  # fmt: skip
    service.stop()
    assert load.ids() <= {row["id"] for row in logged(home)}  # a clean stop of two workers loses nothing


@pytest.mark.slow
def test_kill_9_under_load_loses_at_most_one_flush_interval_and_a_restart_goes_on(
    start: Any, served: Settings, models: Models
) -> None:
    service: ServiceProcess = start(served, flush_seconds=0.5, rate_limit=0)
    with Load(service.url, models, callers=3).running() as load:
        eventually(lambda: len(load.ids()) > 300, 30)
        killed = time.time()
        service.kill()
    result = {row["id"] for row in logged(served)}
    writing = 0.25  # the time of the write itself, and of the journey of the answer
    assert load.ids(before=killed - 0.5 - writing) <= result
    lost, answered = load.ids() - result, load.ids()
    print(f"\nkill -9: {len(answered)} rows answered, {len(lost)} lost, all of the last {0.5 + writing} s")
    assert all(row["score"] is not None for row in logged(served))

    again: ServiceProcess = start(served, flush_seconds=0.2)
    body = {"id": "after", "record": models.records[0]}
    answer = httpx2.post(f"{again.url}/predict", json=body, timeout=30).json()
    assert (answer["version"], answer["score"]) == ("1", models.scores[0][0])
    eventually(lambda: "after" in {row["id"] for row in logged(served)})


@pytest.mark.slow
def test_a_killed_worker_is_replaced_while_the_other_answers(start: Any, served: Settings, models: Models) -> None:
    service: ServiceProcess = start(served, "--workers", "2", **FAST)
    eventually(lambda: workers_on(service.url, "1") == 2, 60)
    before = {child.pid for child in workers(service)}
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    assert httpx2.post(f"{service.url}/predict", json={"record": models.records[0]}, timeout=30).status_code == 200

    def replaced() -> bool:
        running = [child.pid for child in workers(service) if child.pid != victim]
        assert len(running) == 2, (victim, running, service.errors.read_text()[-2000:])
        return True

    eventually(replaced, 60)
    eventually(lambda: workers_on(service.url, "1") == 2, 60)  # the dead one is not counted
    set_route(served, champion="2")
    eventually(lambda: workers_on(service.url, "2") == 2, 60)


@pytest.mark.slow
def test_a_worker_that_is_killed_during_a_health_check_is_replaced_at_once(start: Any, served: Settings) -> None:
    """Not only when the check has waited its full minute for an answer."""
    service: ServiceProcess = start(served, "--workers", "2", **FAST)
    eventually(lambda: workers_on(service.url, "1") == 2, 60)
    victim = workers(service)[0].pid
    os.kill(victim, signal.SIGSTOP)  # the next check waits for it
    time.sleep(2)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len([child for child in workers(service) if child.pid != victim]) == 2, 30)


def workers(service: ServiceProcess) -> list[psutil.Process]:
    """The processes that answer (not the helper that Python's multiprocessing starts beside them)."""
    return living_children(service.process.pid, "spawn_main")


@pytest.mark.slow
def test_ctrl_c_ends_the_service_without_a_traceback(start: Any, served: Settings) -> None:
    service: ServiceProcess = start(served)
    assert service.stop(signal.SIGINT) == 0
    assert "Traceback" not in service.errors.read_text()
    assert "Application shutdown complete." in service.errors.read_text()


@pytest.mark.slow
def test_two_minutes_of_load_leave_the_memory_flat(start: Any, served: Settings, models: Models) -> None:
    set_route(served, challenger="3", mode="canary", share=0.3)
    service: ServiceProcess = start(served, **FAST)
    process = psutil.Process(service.process.pid)
    samples: list[tuple[float, float]] = []
    started = time.monotonic()
    with Load(service.url, models, callers=3).running() as load:
        while (now := time.monotonic() - started) < 120:
            samples.append((now, process.memory_info().rss / 1e6))
            set_route(served, champion=str(1 + int(now / 5) % 2), challenger="3", mode="canary", share=0.3)
            time.sleep(1)
    assert load.failures == []
    early = [size for when, size in samples if 20 < when < 50]
    late = [size for when, size in samples if when > 90]
    growth = sorted(late)[len(late) // 2] - sorted(early)[len(early) // 2]
    print(
        f"\nsoak: {len(load.answers)} answers in 120 s, memory {max(early):.0f} MB -> {max(late):.0f} MB, {growth:+.1f} MB"
    )
    assert growth < 15
    assert len(process.children()) == 0
    assert process.num_fds() < 200
    assert httpx2.get(f"{service.url}/readyz", timeout=10).json()["lost_predictions"] == 0
    service.stop()
    assert load.ids() <= {row["id"] for row in logged(served)}
