"""What a caller without a key can cost the service: raw sockets against a real process, whose memory and first answer
are held while it is attacked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from level1_pipeline.settings import Settings
from serving import server
from serving.api.connections import HEAD_BYTES, HEADERS
from tests.support import ROOT
from tests.support.serving import Models, ServiceProcess, eventually

pytestmark = pytest.mark.integration
MORE_MB = 60  # memory that an attack may cost; the audit saw 300 to 800
SLOWEST = 3.0  # seconds for /livez meanwhile, on a busy machine
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def service(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """One service survives all attacks."""
    running = ServiceProcess(models.publish_all(Settings(home=tmp_path_factory.mktemp("attacked"))))
    yield running
    running.kill()


def port_of(service: ServiceProcess) -> int:
    return int(service.url.rpartition(":")[2])


def forget_peak(process: subprocess.Popen[str]) -> None:
    """From now on the peak is that of the time after."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_megabytes(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def connect(service: ServiceProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(service)), timeout=20)


@contextmanager
def held(service: ServiceProcess) -> Iterator[None]:
    """While the block runs, /livez answers soon on a new connection; at its end, memory has not grown much."""
    httpx2.get(f"{service.url}/livez")
    forget_peak(service.process)
    before, took, done = peak_megabytes(service.process), [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            started = time.monotonic()
            status = httpx2.get(f"{service.url}/livez", timeout=30).status_code
            took.append(time.monotonic() - started if status == 200 else 99.0)
            time.sleep(0.05)

    probe = threading.Thread(target=ask)
    probe.start()
    try:
        yield
    finally:
        done.set()
        probe.join()
    assert max(took) < SLOWEST, sorted(took)[-5:]
    assert peak_megabytes(service.process) - before < MORE_MB


def answer_to(caller: socket.socket) -> bytes:
    """What came until the connection was closed."""
    parts = []
    try:
        while part := caller.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def flood(caller: socket.socket, start: bytes, more: bytes, megabytes: int = 100) -> bytes:
    """Send without end, or until the other side has had enough; its answer."""
    try:
        caller.sendall(start)
        for _ in range(megabytes * 2**20 // len(more)):
            caller.sendall(more)
    except OSError:
        pass
    return answer_to(caller)


@pytest.mark.parametrize(
    ("start_of", "more"),
    [
        (b"GET /livez HTTP/1.1\r\nX: ", b"x" * 65536),
        (b"GET /livez HTTP/1.1\r\n", b"X: y\r\n" * 10_000),
        (b"GET /", b"x" * 65536),
        pytest.param(b"GET /livez HTTP/1.1\r\nX: y\r\n", b" continued\r\n" * 5000, marks=pytest.mark.slow),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536, marks=pytest.mark.slow),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", b"X: y\r\n" * 10_000, marks=pytest.mark.slow
        ),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000, marks=pytest.mark.slow),
        pytest.param(b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1500, marks=pytest.mark.slow),
        pytest.param(b"", b"\r\n" * 30_000, marks=pytest.mark.slow),
    ],
    ids=["header", "headers", "path", "folded", "chunk", "trailers", "tiny chunks", "pipelined", "empty lines"],
)
def test_a_head_without_end_is_cut_off(service: ServiceProcess, start_of: bytes, more: bytes) -> None:
    with held(service), ExitStack() as stack:
        for _ in range(5):
            reply = flood(stack.enter_context(connect(service)), start_of, more)
        assert not reply or b" 431 " in reply or b" 400 " in reply or b" 413 " in reply or b" 200 " in reply


def test_what_is_within_the_bounds_is_taken(service: ServiceProcess) -> None:
    headers = {f"x-{number}": "y" * 200 for number in range(HEADERS - 10)}
    assert httpx2.get(f"{service.url}/livez", headers=headers).status_code == 200
    assert httpx2.get(f"{service.url}/livez", headers=headers | {f"z-{n}": "" for n in range(20)}).status_code == 431
    assert httpx2.get(f"{service.url}/livez", headers={"x": "y" * HEAD_BYTES}).status_code == 431


def test_many_idle_connections_make_room_for_new_ones(service: ServiceProcess) -> None:
    with held(service), ExitStack() as stack:
        idle = [stack.enter_context(connect(service)) for _ in range(900)]
        for caller in idle[::3]:
            caller.sendall(b"GET /livez HTTP/1.1\r\n")
        eventually(lambda: answered_nothing(idle[0]))
        files = list(Path(f"/proc/{service.process.pid}/fd").iterdir())
        assert len(files) < 250 + server.OWN_FILES


def answered_nothing(caller: socket.socket) -> bool:
    """Whether the other side closed it."""
    try:
        return caller.recv(100) == b""
    except OSError:
        return True


@pytest.mark.slow
def test_a_head_that_comes_slowly_is_not_waited_for(service: ServiceProcess, records: list[dict[str, Any]]) -> None:
    with held(service), connect(service) as silent, connect(service) as slow, connect(service) as second:
        second.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /liv")  # the next one never comes whole
        started = time.monotonic()
        while time.monotonic() - started < 25:
            try:
                slow.sendall(b"G" if time.monotonic() - started < 1 else b"x")
            except OSError:
                break
            time.sleep(0.5)
        assert time.monotonic() - started < 20
        assert [answered_nothing(silent), b" 200 " in answer_to(second)] == [True, True]


def test_an_answer_that_nobody_reads_is_not_kept_for_ever(
    service: ServiceProcess, records: list[dict[str, Any]]
) -> None:
    body = json.dumps([{"record": record} for record in records]).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    with held(service), ExitStack() as stack:
        for _ in range(30):
            deaf = stack.enter_context(connect(service))
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            deaf.sendall(request * 2)
        time.sleep(2)


def test_large_bodies_that_never_end_are_few(service: ServiceProcess) -> None:
    with held(service), ExitStack() as stack:
        for _ in range(150):
            caller = stack.enter_context(connect(service))
            caller.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 900_000)


@pytest.mark.evidence("a request is wrong or hostile")
@pytest.mark.parametrize("path", ["/predict", "/explain", "/outcomes"])
def test_a_body_full_of_unknown_fields_is_refused_before_each_is_named(service: ServiceProcess, path: str) -> None:
    all_fields = [",".join(f'"a{number}":{value}' for number in range(80_000)) for value in ("1", "{}", "[]")]
    shapes = ('{"record": {FIELDS}}', "{FIELDS}", '[{"record": {FIELDS}}]')
    with held(service):
        for body in (shape.replace("FIELDS", fields) for fields in all_fields for shape in shapes):
            kind = {"Content-Type": "application/json"}
            answer = httpx2.post(f"{service.url}{path}", content=body, headers=kind, timeout=30)
            assert (answer.status_code, len(answer.content) < 5000) == (422, True)


@pytest.mark.slow
def test_a_log_that_nobody_reads_costs_no_memory_and_no_stop(served: Settings, records: list[dict[str, Any]]) -> None:
    variables = {"MLOPS_HOME": str(served.home), "MLOPS_SERVING_PORT": "0", "MLOPS_RATE_LIMIT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "run"],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        url = next(word for word in process.stdout.readline().split(" | ") if word.startswith("http"))
        with httpx2.Client(base_url=url, timeout=30) as client:
            for number in range(2000):
                if number == 500:
                    before = peak_megabytes(process)
                assert client.post("/predict", json={"record": records[0]}).status_code == 200
            assert client.get("/metrics").status_code == 200
        assert peak_megabytes(process) - before < 20
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert time.monotonic() - started < 15
    finally:
        process.kill()
        process.communicate()
