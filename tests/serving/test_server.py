"""The processes of the service and their signals: nothing outlives its supervisor, and no signal loses a row."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psutil
import pytest

from level1_pipeline.processes import environment
from level1_pipeline.settings import Settings
from serving import server
from serving.api import security
from tests.support import ROOT
from tests.support.child_processes import living_children
from tests.support.serving import ServiceProcess, eventually, logged

pytestmark = pytest.mark.integration
Start = Callable[..., ServiceProcess]


def predict(service: ServiceProcess, records: list[dict[str, Any]], first: int, count: int) -> set[str]:
    """Predictions on connections of their own, so that every worker gets some; their ids."""
    ids = [f"{number:04}" for number in range(first, first + count)]
    for place, name in enumerate(ids):
        body = {"id": name, "record": records[place % len(records)]}
        assert httpx2.post(f"{service.url}/predict", json=body).status_code == 200
    return set(ids)


def workers_of(service: ServiceProcess) -> list[psutil.Process]:
    return living_children(service.process.pid, "spawn_main")


@pytest.mark.slow
def test_workers_end_and_free_the_port_when_their_supervisor_is_killed(
    start: Start, served: Settings, records: list[dict[str, Any]]
) -> None:
    service = start(served, "--workers", "2", flush_seconds=60.0)
    eventually(lambda: len(workers_of(service)) == 2)
    ids = predict(service, records, 0, 20)
    workers, port = workers_of(service), int(service.url.rpartition(":")[2])
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait(10)
    eventually(lambda: not any(worker.is_running() for worker in workers), 30)
    assert {row["id"] for row in logged(served)} == ids, "they wrote what they had answered"
    again = start(served, serving_port=port)
    assert httpx2.get(f"{again.url}/readyz").status_code == 200


@pytest.mark.slow
def test_the_service_of_a_simulation_ends_when_the_simulation_is_killed(served: Settings) -> None:
    code = (
        "import sys, time; from level2_cicd.simulation import replay; from level1_pipeline.settings import Settings\n"
    )
    code += "with replay.service(Settings()) as url: print(url, flush=True); time.sleep(60)"
    env = environment(served.changed({"serving_port": 0}))
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        url = parent.stdout.readline().strip()
        service = psutil.Process(parent.pid).children()[0]
        assert httpx2.get(f"{url}/readyz").status_code == 200
        parent.kill()
    eventually(lambda: not service.is_running(), 30)


@pytest.fixture
def hangups_end() -> Iterator[None]:
    """Also where the tests themselves were started by nohup, and each child would ignore a hangup, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True], ids=["supervisor", "group"])
def test_a_hangup_replaces_the_workers_and_loses_no_row(
    start: Start, served: Settings, records: list[dict[str, Any]], whole_group: bool
) -> None:
    service = start(served, "--workers", "2", flush_seconds=60.0)
    eventually(lambda: len(workers_of(service)) == 2)
    ids = predict(service, records, 0, 20)
    before = {worker.pid for worker in workers_of(service)}
    (os.killpg if whole_group else os.kill)(service.process.pid, signal.SIGHUP)
    eventually(
        lambda: len(workers_of(service)) == 2 and not before & {worker.pid for worker in workers_of(service)}, 60
    )
    ids |= predict(service, records, 100, 20)
    assert service.stop() == 0
    assert {row["id"] for row in logged(served)} == ids


@pytest.mark.slow
@pytest.mark.usefixtures("hangups_end")
def test_a_hangup_ends_a_single_process_with_its_log_written(
    start: Start, served: Settings, records: list[dict[str, Any]]
) -> None:
    service = start(served, flush_seconds=60.0)
    ids = predict(service, records, 0, 20)
    assert service.stop(signal.SIGHUP) == 0
    assert {row["id"] for row in logged(served)} == ids


@pytest.mark.slow
def test_an_idle_connection_stays_open_as_long_as_the_setting_says(start: Start, served: Settings) -> None:
    service = start(served, keep_alive_seconds=1)
    with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=20) as caller:
        caller.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b"}"):
            received += caller.recv(10_000)
        assert b" 200 " in received
        started = time.monotonic()
        assert caller.recv(10_000) == b""
        assert time.monotonic() - started < 4


@pytest.mark.slow
def test_an_address_of_ipv6_is_written_as_urls_write_it(start: Start, served: Settings) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    for host, keys in (("::1", {}), ("[::1]", {}), ("::", {"admin_key_hash": security.new_key()[1]})):
        service = start(served, serving_host=host, **keys)
        assert " | http://[::" in service.line
        assert httpx2.get(f"{service.url.replace('[::]', '[::1]')}/livez").status_code == 200
        service.stop()


@pytest.mark.parametrize(
    ("host", "url"), [("::", "http://[::]:1"), ("::1", "http://[::1]:1"), ("localhost", "http://localhost:1")]
)
def test_a_url_has_brackets_around_ipv6_only(host: str, url: str) -> None:
    assert server._url(host, 1) == url
