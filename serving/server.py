"""Run the application with uvicorn: in this process, in several workers, or for a moment."""

from __future__ import annotations

import os
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from serving.api import security
from serving.telemetry.json_logging import write_json_lines

if TYPE_CHECKING:
    import uvicorn

STARTUP_SECONDS = 120
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where several workers share their figures


def run(settings: Settings, workers: int) -> None:
    """Serve until a signal comes; requests in flight are finished and the prediction log is written."""
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    os.environ.pop(METRICS_FOLDER, None)  # of another program: its files are not ours
    write_json_lines()
    config = _config(settings, "serving.api.app:from_environment", workers)
    socket = config.bind_socket()
    url = f"http://{config.host}:{socket.getsockname()[1]}"
    threading.Thread(target=_announce, args=(url,), daemon=True).start()
    if workers == 1:
        with suppress(KeyboardInterrupt):  # Ctrl-C is the normal end; uvicorn passes it on when all is finished
            uvicorn.Server(config).run([socket])
        return
    # A folder of its own for each start: numbers of older workers would be added. Not in the home, because
    # its files are mapped into memory, and a full disk would kill the workers.
    with tempfile.TemporaryDirectory(prefix="mlops-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        Multiprocess(config, sockets=[socket]).run()


@contextmanager
def temporary(settings: Settings) -> Iterator[str]:
    """A service on a free port of this machine while the block runs; gives its address."""
    import uvicorn

    from serving.api.app import create_app

    os.environ.pop(METRICS_FOLDER, None)
    config = _config(settings.changed({"serving_host": "127.0.0.1", "serving_port": 0}), create_app(settings))
    config.log_level = "warning"
    socket, server = config.bind_socket(), uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    try:
        url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        _wait(url)
        yield url
    finally:
        server.should_exit = True
        thread.join()


def _config(settings: Settings, app: object, workers: int = 1) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.serving_host if security.has_keys(settings) else "127.0.0.1",
        port=settings.serving_port,
        factory=isinstance(app, str),
        workers=workers,
        log_config=None,  # our own lines, see telemetry/json_logging.py
        access_log=False,
        proxy_headers=False,  # anybody can write X-Forwarded-For: the rate limit counts who really connects
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_worker_healthcheck=60,  # a busy worker is not a dead one
    )


def _wait(url: str) -> str:
    """Wait for the first answer of a starting service; says its state."""
    until = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310  (our own address)
                return "ready"
        except urllib.error.HTTPError:
            return "not ready: there is no model to serve yet (make level1)"
        except OSError:
            time.sleep(0.1)
    return "not ready yet"


def _announce(url: str) -> None:
    state = _wait(url.replace("0.0.0.0", "127.0.0.1"))  # noqa: S104  (ask it here, wherever it listens)
    print(f"serving | {problem.NAME} | {state} | {url} | its API: {url}/docs | stop with Ctrl-C", flush=True)
