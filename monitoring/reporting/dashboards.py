"""Evidently's, MLflow's and Prefect's own pages, side by side on 127.0.0.1. None outlives the command, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from level1_pipeline.settings import Settings
from monitoring.reporting import evidently_snapshot, keeper

STARTUP_SECONDS = 180
END_SECONDS = 10


@dataclass(frozen=True)
class Dashboard:
    """One tool: how it is started on a port, and the path that answers when it is ready."""

    name: str
    port: int  # wanted; another one is taken when it is in use
    command: tuple[str, ...]  # `{port}` is filled in
    health: str


def tools(settings: Settings) -> list[Dashboard]:
    """The three dashboards of a home. Their programs stand beside the Python that runs this."""
    binaries = Path(sys.executable).parent
    local = ("--host", "127.0.0.1", "--port", "{port}")
    store = ("--backend-store-uri", settings.tracking, "--workers", "1")
    pages = ("--workspace", str(evidently_snapshot.workspace(settings)))
    return [
        Dashboard("Evidently", 8010, (str(binaries / "evidently"), "ui", *local, *pages), "/api/version"),
        Dashboard("MLflow", 5000, (str(binaries / "mlflow"), "server", *local, *store), "/health"),
        Dashboard("Prefect", 4200, (str(binaries / "prefect"), "server", "start", *local), "/api/health"),
    ]


def run(settings: Settings, say: Callable[[str], None], wanted: list[Dashboard] | None = None) -> int:
    """Start all, say where they are once they answer, and end all at Ctrl-C or SIGTERM, or when one of them ends."""
    evidently_snapshot.workspace(settings).mkdir(parents=True, exist_ok=True)
    logs = settings.home / "reports" / "dashboards"
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, before)
        started = [(one, *_start(stack, one, logs)) for one in wanted or tools(settings)]
        for one, address, child in started:
            _wait_until_ready(one, address, child, logs)
            say(f"  {one.name:<10} {address}")
        say(f"ui | {', '.join(f'{one.name} {address}' for one, address, _ in started)} | stop with Ctrl-C")
        while all(child.poll() is None for _, _, child in started):
            time.sleep(0.2)
        ended = next(one.name for one, _, child in started if child.poll() is not None)
        say(f"ui | {ended} ended by itself, so all are stopped; see {logs / f'{ended.lower()}.log'}")
        return 1
    return 0


def _start(stack: ExitStack, one: Dashboard, logs: Path) -> tuple[str, subprocess.Popen[bytes]]:
    port = _port(one.port)
    command = [part.format(port=port) for part in one.command]
    with (logs / f"{one.name.lower()}.log").open("ab") as log:
        # The keeper leads a process group of its own and ends it when our end of its standard input closes.
        child = subprocess.Popen(
            [sys.executable, keeper.__file__, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
            start_new_session=True,
        )
    stack.callback(_end, child)
    return f"http://127.0.0.1:{port}", child


def _end(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin
    with suppress(OSError):
        child.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        child.wait(END_SECONDS + 5)
    with suppress(ProcessLookupError):  # a keeper that was killed leaves its group to us
        os.killpg(child.pid, signal.SIGKILL)


def _port(wanted: int) -> int:
    """The wanted port, or a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no port of 127.0.0.1 is free")


def _wait_until_ready(one: Dashboard, address: str, child: subprocess.Popen[bytes], logs: Path) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urllib.request.urlopen(address + one.health, timeout=5):  # noqa: S310 (our own address)
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    why = "ended" if child.poll() is not None else f"did not answer within {STARTUP_SECONDS} s"
    raise OSError(f"{one.name} {why}; see {logs / f'{one.name.lower()}.log'}")
