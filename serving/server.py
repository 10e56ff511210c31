"""Run the application with uvicorn: in this process, in several workers, or for a moment."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from serving.api import security
from serving.telemetry.json_logging import write_json_lines

if TYPE_CHECKING:
    from socket import socket as Socket

    import uvicorn
    from uvicorn.supervisors import Multiprocess

    from serving.api.middleware import Middleware

STARTUP_SECONDS = 120
OWN_FILES = 200  # beside the connections


def run(settings: Settings, workers: int) -> None:
    """Serve until a signal comes; requests in flight are finished and the prediction log is written."""
    import uvicorn

    write_json_lines()
    _allow_files(settings.max_connections + OWN_FILES)
    config = _config(settings, "serving.server:application", workers)
    socket = config.bind_socket()
    threading.Thread(target=_announce, args=(config.host, socket.getsockname()[1]), daemon=True).start()
    if workers == 1:
        server = uvicorn.Server(config)
        _on_hangup(lambda *_: setattr(server, "should_exit", True))
        with suppress(KeyboardInterrupt):  # Ctrl-C is the normal end; uvicorn passes it on when all is finished
            server.run([socket])
        return
    # A folder of its own for each start: numbers of older workers would be added. Not in the home, because
    # its files are mapped into memory, and a full disk would kill the workers.
    with tempfile.TemporaryDirectory(prefix="mlops-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _supervisor(config, socket).run()


def _supervisor(config: uvicorn.Config, socket: Socket) -> Multiprocess:
    """Uvicorn's supervisor, which sees at once that a worker is dead.

    It holds both ends of its pipe to a worker. So a worker that was killed during a health check would be waited for
    until `timeout_worker_healthcheck`. The worker's end is the worker's alone here: its death ends the check.
    """
    from uvicorn.supervisors import Multiprocess

    class Supervisor(Multiprocess):
        def keep_subprocess_alive(self) -> None:
            for worker in self.processes:
                worker.child_conn.close()
            super().keep_subprocess_alive()

    return Supervisor(config, sockets=[socket])


def application() -> Middleware:
    """The application for the environment's settings, in a worker. It ends when its supervisor is gone, however that
    ended: an orphan would keep the port, and nobody would ever stop it."""
    from serving.api.app import from_environment

    supervisor = multiprocessing.parent_process()
    if supervisor:
        _on_hangup(signal.SIG_IGN)  # a terminal tells all its processes; the supervisor is the one that acts on it
        threading.Thread(target=_end_after, args=(supervisor.sentinel,), daemon=True).start()
    return from_environment()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)


def _on_hangup(handler: Any) -> None:
    """What SIGHUP does, whose default ends a process without writing its log; under `nohup` it does nothing."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)


def _allow_files(count: int) -> None:
    """Raise the number of files that this process may open, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def temporary(settings: Settings) -> Iterator[str]:
    """A service on a free port of this machine while the block runs; gives its address."""
    import uvicorn

    from serving.api.app import create_app

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

    from serving.api.connections import BoundedProtocol, Connections

    host = settings.serving_host.strip("[]")
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=host if security.has_keys(settings) or security.is_local(host) else "127.0.0.1",
        port=settings.serving_port,
        factory=isinstance(app, str),
        workers=workers,
        http=BoundedProtocol,
        ws="none",
        timeout_keep_alive=settings.keep_alive_seconds,
        log_config=None,  # our own lines, see telemetry/json_logging.py
        access_log=False,
        proxy_headers=False,  # anybody can write X-Forwarded-For: the rate limit counts who really connects
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_worker_healthcheck=60,  # a busy worker is not a dead one
    )
    counted = Connections(settings.max_connections, settings.max_connections_of_address)
    config.counted_connections = counted  # type: ignore[attr-defined]
    return config


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


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(host: str, port: int) -> None:
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (ask it here, wherever it listens)
    state, url = _wait(_url(here, port)), _url(host, port)
    print(f"serving | {problem.NAME} | {state} | {url} | its API: {url}/docs | stop with Ctrl-C", flush=True)
