"""Evidently's, MLflow's and Prefect's own pages, side by side on 127.0.0.1. None outlives the command, however it ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from level1_pipeline.errors import NoAnswer
from level1_pipeline.processes import sigterm_like_ctrl_c, wait_until_answers
from level1_pipeline.settings import Settings
from monitoring.reporting import evidently_snapshot

STARTUP_SECONDS = 180
# A process of its own that reads the ids of process groups and ends them when its standard input closes: the
# operating system closes it for every command that ends, also for one that is killed with -9.
END_WITH_COMMAND = """
import os, signal, sys, time
for sign in (signal.SIGINT, signal.SIGTERM): signal.signal(sign, signal.SIG_IGN)
groups = [int(line) for line in sys.stdin]
for sign, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 0)):
    for group in groups:
        try: os.killpg(group, sign)
        except ProcessLookupError: pass
    time.sleep(seconds)
"""


@dataclass(frozen=True)
class Dashboard:
    """One tool: how it is started on a port, and the path that answers when it is ready."""

    name: str
    port: int  # wanted; another one is taken when it is in use
    command: tuple[str, ...]  # `{port}` is filled in
    health: str


@dataclass(frozen=True)
class Started:
    """A dashboard that was started."""

    name: str
    address: str
    health: str
    process: subprocess.Popen[str]
    log: Path


def tools(settings: Settings) -> list[Dashboard]:
    """The three dashboards of a home. Their programs stand beside the Python that runs this."""
    binaries = Path(sys.executable).parent
    local = ("--host", "127.0.0.1", "--port", "{port}")
    pages = ("--workspace", str(evidently_snapshot.workspace(settings)))
    return [
        Dashboard("Evidently", 8010, (str(binaries / "evidently"), "ui", *local, *pages), "/api/version"),
        Dashboard("MLflow", 5000, (str(binaries / "mlflow"), "server", *local, "--workers", "1"), "/health"),
        Dashboard("Prefect", 4200, (str(binaries / "prefect"), "server", "start", *local), "/api/health"),
    ]


def run(settings: Settings, say: Callable[[str], None], wanted: list[Dashboard] | None = None) -> int:
    """Start all, say where they are once they answer, and end all at Ctrl-C or SIGTERM, or when one of them ends.

    Raises:
        NoAnswer: one of them does not start; the message names its log.
    """
    # Everybody on the machine sees the arguments of a program, and this address may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = settings.tracking
    evidently_snapshot.workspace(settings).mkdir(parents=True, exist_ok=True)
    logs = settings.home / "reports" / "dashboards"
    logs.mkdir(parents=True, exist_ok=True)
    with suppress(KeyboardInterrupt), sigterm_like_ctrl_c(), _running(wanted or tools(settings), logs) as dashboards:
        for dashboard in dashboards:
            wait_until_answers(dashboard.address + dashboard.health, STARTUP_SECONDS, dashboard.log, dashboard.process)
            say(f"  {dashboard.name:<10} {dashboard.address}")
        addresses = ", ".join(f"{dashboard.name} {dashboard.address}" for dashboard in dashboards)
        say(f"ui | {addresses} | stop with Ctrl-C")
        while all(dashboard.process.poll() is None for dashboard in dashboards):
            time.sleep(0.2)
        ended = next(dashboard for dashboard in dashboards if dashboard.process.poll() is not None)
        say(f"ui | {ended.name} ended by itself, so all are stopped; see {ended.log}")
        return 1
    return 0


@contextmanager
def _running(wanted: list[Dashboard], logs: Path) -> Iterator[list[Started]]:
    """Dashboards that end with this block, and with this process."""
    ending = subprocess.Popen(
        [sys.executable, "-c", END_WITH_COMMAND], stdin=subprocess.PIPE, start_new_session=True, text=True
    )
    assert ending.stdin
    started: list[Started] = []
    try:
        for dashboard in wanted:
            started.append(_start(dashboard, logs))
            print(started[-1].process.pid, file=ending.stdin, flush=True)
        yield started
    finally:
        ending.stdin.close()
        for each in started:
            each.process.wait()
        ending.kill()  # all have ended, so nothing is left to be killed
        ending.wait()


def _start(dashboard: Dashboard, logs: Path) -> Started:
    port, log = _free_port(dashboard.port), logs / f"{dashboard.name.lower()}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [part.format(port=port) for part in dashboard.command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
            start_new_session=True,  # a process group of its own, which ends as a whole
        )
    return Started(dashboard.name, f"http://127.0.0.1:{port}", dashboard.health, process, log)


def _free_port(wanted: int) -> int:
    """The wanted port, or another one."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise NoAnswer("no port of 127.0.0.1 is free; end another program that listens there")
