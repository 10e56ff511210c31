"""A Prefect server for the time of one run, which cannot outlive the process that started it.

Prefect starts such a server itself, but only when the first flow begins, and leaves it running when
the run is killed. This one starts at once, while the heavy imports run, and ends when its standard
input closes, which the operating system does for every killed parent.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from level1_pipeline.processes import child_process, free_port, wait_until_answers

STARTUP_SECONDS = 180


@contextmanager
def prefect_server(log: Path, running: str = "", complete: bool = False) -> Iterator[str]:
    """The API address of a Prefect server: the one that is running there, or one of our own.

    Yields at once; call `wait_until_ready` before the first flow. A `complete` one has the user
    interface and the services, of which one is the scheduler.
    """
    port = free_port()
    os.environ["PREFECT_API_URL"] = api = running or f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "level1_pipeline.orchestration.prefect_server", str(port)]
    try:
        with nullcontext() if running else child_process(command, log, _environment(complete)):
            yield api
    finally:
        os.environ.pop("PREFECT_API_URL", None)


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
    wait_until_answers(f"{api}/health", STARTUP_SECONDS, log)


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
