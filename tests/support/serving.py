"""What the tests of the service share: published models, a service on a thread or as a process, and its log."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.load import GOLDEN_TOLERANCE, MANIFEST
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.audit import Change, Promoted
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import outcomes, predictions
from tests.support import ROOT
from tests.support.bundles import is_compiled

NOW = datetime(2013, 4, 1, 4, tzinfo=UTC)


def asked(rows: pd.DataFrame) -> pd.DataFrame:
    """200 rows that the service is asked about; of few rows the newest."""
    return rows.iloc[5000:5200] if len(rows) > 5200 else rows.tail(200)


@dataclass(frozen=True)
class Models:
    """Published bundles to copy from, records to ask about, and what each model says about them."""

    folder: Path
    records: list[dict[str, Any]]
    scores: list[np.ndarray]

    def alike(self, scores: np.ndarray | np.float64) -> Any:
        """Scores to compare those of many rows with. The bits are those of a row alone where the model is compiled; a sum
        in scikit-learn depends on how many rows there are."""
        same = is_compiled(self.folder / "0")
        return scores.tolist() if same else pytest.approx(scores.tolist(), rel=0, abs=GOLDEN_TOLERANCE)

    def publish(self, home: Path, version: str, kind: int) -> Path:
        """Put model number `kind` into a home as `version`, whole or not at all."""
        target = home / "bundles" / problem.NAME / version
        partial = target.with_name(f".{version}-{uuid4().hex}")
        shutil.copytree(self.folder / str(kind), partial)
        partial.rename(target)
        return target

    def publish_all(self, home: Settings) -> Settings:
        """Publish them as versions 1, 2, 3 …, and make the first one champion; these settings let a service react fast."""
        for kind in range(len(self.scores)):
            self.publish(home.home, str(kind + 1), kind)
        set_route(home, champion="1")
        return home.changed({"watch_seconds": 0.1, "flush_seconds": 0.1})


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The store, without connections left open."""
    store = Store(settings.operations)
    try:
        yield store
    finally:
        store.close()


def set_route(settings: Settings, **values: Any) -> Route:
    """Change what is served, as the registry does it."""
    with opened(settings) as store, leases.hold(store, f"promote {problem.NAME}", 30) as lease:
        change = Change("tester", Promoted("champion"), "a test", NOW)
        return store.change_route(problem.NAME, lease, change, **values)


def edit_manifest(folder: Path, **changes: Any) -> None:
    """What an attacker with write access does: change files and make the checksums fit."""
    manifest = json.loads((folder / MANIFEST).read_text())
    present = [name for name in manifest["files"] if (folder / name).exists()]
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in present}
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def logged(settings: Settings) -> list[dict[str, Any]]:
    """The prediction log, in the order of ids."""
    with opened(settings) as store, store.engine.begin() as connection:
        rows = connection.execute(sa.select(predictions).order_by(predictions.c.id, predictions.c.arm))
        return [dict(row._mapping) for row in rows]


def known_outcomes(settings: Settings) -> dict[str, dict[str, Any]]:
    with opened(settings) as store, store.engine.begin() as connection:
        return {row.id: dict(row._mapping) for row in connection.execute(sa.select(outcomes))}


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until something is true; the last error or value is shown otherwise."""
    until, last = time.monotonic() + seconds, None
    while time.monotonic() < until:
        try:
            last = check()
            if last:
                return last
        except (AssertionError, httpx2.TransportError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} seconds; last: {last!r}")


@contextmanager
def serve(settings: Settings, app: Any = None) -> Iterator[httpx2.Client]:
    """The application behind a real uvicorn on a thread of this process."""
    import uvicorn

    from serving.api.app import create_app

    app = app or create_app(settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False)
    socket, server = config.bind_socket(), uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([socket],))
    thread.start()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{socket.getsockname()[1]}", timeout=30) as client:
            eventually(lambda: client.get("/livez").status_code == 200, 60)
            client.app = app  # type: ignore[attr-defined]
            yield client
    finally:
        server.should_exit = True
        thread.join()


def logged_when(settings: Settings, count: int) -> list[dict[str, Any]]:
    """The prediction log as soon as it has this many rows."""
    eventually(lambda: len(logged(settings)) == count)
    return logged(settings)


def degraded(client: httpx2.Client) -> dict[str, Any]:
    """What the service says about its health once it is in trouble."""
    eventually(lambda: client.get("/readyz").json()["state"] == "degraded")
    return client.get("/readyz").json()


class ServiceProcess:
    """`python -m serving run` as a process group of its own."""

    def __init__(self, settings: Settings, *arguments: str, **environment: Any):
        environment = {"home": settings.home, "store_uri": settings.store_uri, "serving_port": 0, **environment}
        variables = {f"MLOPS_{name.upper()}": str(value) for name, value in environment.items()}
        keep = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        self.errors = settings.home / f"service-{uuid4().hex}.log"
        self.errors.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "serving", "run", *arguments]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=keep | variables,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout
        self.line = self.process.stdout.readline().strip()
        assert " | http://" in self.line, self.errors.read_text()
        self.url = next(word for word in self.line.split(" | ") if word.startswith("http"))

    def log(self) -> list[dict[str, Any]]:
        """What it logged, as data."""
        return [json.loads(line) for line in self.errors.read_text().splitlines()]

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """Ask it to end, and wait."""
        self.process.send_signal(sign)
        return self._ended()

    def kill(self) -> int:
        """kill -9, for all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        return self._ended()

    def _ended(self) -> int:
        assert self.process.stdout
        self.process.stdout.close()
        return self.process.wait(60)


@contextmanager
def empty_database(server: str) -> Iterator[str]:
    """The URL of a new PostgreSQL database, dropped afterwards."""
    name, engine = f"test_{uuid4().hex[:12]}", sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()
