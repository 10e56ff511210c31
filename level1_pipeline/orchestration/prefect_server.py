"""A Prefect server for the time of one run, which cannot outlive the process that started it.

Prefect starts such a server itself, but only when the first flow begins, and leaves it running when
the run is killed. This one starts at once, while the heavy imports run, and ends when its standard
input closes, which the operating system does for every killed parent.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from level1_pipeline.errors import NoAnswer

STARTUP_SECONDS = 180


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def prefect_server(log: Path, complete: bool = False) -> Iterator[str]:
    """The API address of a Prefect server: the one in PREFECT_API_URL, or one of our own.

    Yields at once; call `wait_until_ready` before the first flow. A `complete` one has the user
    interface and the services, of which one is the scheduler.
    """
    running = os.environ.get("PREFECT_API_URL")
    if running:
        yield running
        return
    port = free_port()
    os.environ["PREFECT_API_URL"] = api = f"http://127.0.0.1:{port}/api"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        command = [sys.executable, "-m", "level1_pipeline.orchestration.prefect_server", str(port)]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=_environment(complete),
            start_new_session=True,
        )
    try:
        yield api
    finally:
        os.environ.pop("PREFECT_API_URL")
        assert child.stdin is not None
        child.stdin.close()
        child.wait()


def _environment(complete: bool) -> dict[str, str]:
    """The child's environment; it must not become a client of itself."""
    kept = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    if complete:
        return kept
    return kept | {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def wait_until_ready(api: str, log: Path) -> None:
    """Return when the server answers.

    Raises:
        NoAnswer: it does not within STARTUP_SECONDS.
    """
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:  # noqa: S310 (our own address)
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise NoAnswer(f"the Prefect server at {api} did not answer within {STARTUP_SECONDS} s; see {log}")


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(port: int) -> None:
    """Serve until standard input closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import uvicorn

    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="error",
        lifespan="on",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
