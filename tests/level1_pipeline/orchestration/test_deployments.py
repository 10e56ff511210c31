"""The deployments of a home, run by a worker of a process work pool against a real Prefect server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pandas as pd
import psutil
import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.orchestration import deployments
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of, start_of
from level1_pipeline.store.tables import predictions
from tests.level1_pipeline.orchestration.test_resume import wait_for
from tests.level1_pipeline.orchestration.test_triggers import trained_as_of
from tests.support.child_processes import living_children
from tests.support.homes import environment
from tests.support.webhook import listener

pytestmark = [pytest.mark.flights, pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]

PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


class Prefect:
    """What the server knows of the runs of a home, and orders to it."""

    def __init__(self, api: str, settings: Settings):
        self.api, self.place = api, deployments.place(settings)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        address = f"{self.api}/{quote(path)}"
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.loads(answer.read() or "null")
            except HTTPError as error:
                if error.code != 503:  # "try again": its database is busy; Prefect's own client does the same
                    raise
                time.sleep(1)
        raise AssertionError(f"Prefect does not answer {method} {path}")

    def states(self) -> dict[str, str]:
        """The state of each run that has begun, by name."""
        wanted = {
            "flow_runs": {"work_pool_name": {"any_": [self.place]}},
            "work_pools": {"name": {"any_": [self.place]}},
        }
        runs = self.call("POST", "flow_runs/filter", {"work_pools": wanted["work_pools"]})
        return {run["name"]: run["state"]["name"] for run in runs if run["state"]["type"] != "SCHEDULED"}

    def deployment(self, flow: str, name: str) -> dict[str, Any]:
        return self.call("GET", f"deployments/name/{flow} {problem.NAME}/{self.place} {name}")

    def run(self, flow: str, name: str) -> str:
        """Ask for a run; returns its id."""
        return self.call("POST", f"deployments/{self.deployment(flow, name)['id']}/create_flow_run", {})["id"]

    def pause(self, flow: str, name: str) -> None:
        self.call("PATCH", f"deployments/{self.deployment(flow, name)['id']}", {"paused": True})

    def command(self, *arguments: str) -> None:
        subprocess.run([*PREFECT, *arguments], env={**os.environ, "PREFECT_API_URL": self.api}, check=True)


@contextmanager
def worker(log: Path, home: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "level1_pipeline", "worker", *arguments],
            env=environment(home, **variables),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for("the worker starts", lambda: b"stop with Ctrl-C" in log.read_bytes() or process.poll() is not None)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def engine_of(process: subprocess.Popen[bytes], run: str) -> psutil.Process:
    """The process of the worker in which a run goes on."""
    engines = living_children(process.pid, "prefect.engine")
    return next(engine for engine in engines if engine.environ().get("PREFECT__FLOW_RUN_ID") == run)


def test_a_worker_trains_by_schedule_and_by_event_scores_a_folder_and_tells_what_failed(
    home: Settings, rows: pd.DataFrame, cache: Path, prefect: dict[str, str], tmp_path: Path
) -> None:
    home.home.mkdir()
    (home.home / "cache").symlink_to(cache)
    server = Prefect(prefect["MLOPS_PREFECT_API_URL"], home)
    log = tmp_path / "log"
    with listener() as (url, told):
        variables = {**prefect, "MLOPS_CLOCK": "replay", "MLOPS_WEBHOOK": url}
        with worker(log, home.home, "--cron", "* * * * *", "--replay-from", "2013-03-04", **variables) as process:
            store = Store(home.operations)

            def ended(name: str, state: str) -> None:
                def has() -> bool:
                    assert process.poll() is None, log.read_text()
                    return server.states().get(name) == state

                wait_for(f"{name} is {state}", has, 400)

            ended("retrain on 2013-03-04: schedule", "Completed")
            assert store.route(problem.NAME).champion == "1"
            assert store.replay_time() >= start_of("2013-03-11"), "a scheduled run moves the replay clock on by a week"
            server.pause("retrain", "schedule")
            wait_for("no run is going on", lambda: "Running" not in server.states().values(), 400)
            day = str(date_of(store.replay_time()))

            trained_as_of(home, day)
            server.command("events", "emit", "data.arrived", "--resource-id", server.place)
            ended(f"retrain on {day}: new data", "Completed")

            some = rows[rows[problem.EVENT_TIME] >= start_of("2013-03-12")].head(300)
            (home.home / "inbox").mkdir()
            some.to_parquet(home.home / "inbox" / "march.parquet")
            server.run("score", "folder")
            ended(f"score files on {day}", "Completed")
            p = predictions.c
            with store.engine.connect() as connection:
                logged = connection.execute(
                    sa.select(p.arm, sa.func.count(), sa.func.min(p.version)).group_by(p.arm)
                ).all()
            assert [tuple(row) for row in logged] == [("batch", 300, "1")]

            (home.home / "inbox" / "torn.parquet").write_bytes(b"PAR1 and nothing else")
            server.run("score", "folder")
            wait_for("the webhook hears of it", lambda: bool(told), 120)
            assert told[0]["event"] == "failed"
            assert told[0]["problem"] == problem.NAME
            assert "torn.parquet" in told[0]["body"]
            told.clear()

            run = server.run("retrain", "by hand")
            ended(f"retrain on {day}: on demand", "Running")
            engine_of(process, run).kill()
            ended(f"retrain on {day}: on demand", "Crashed")
            wait_for("the webhook hears of it", lambda: bool(told), 120)
            assert "ended as Crashed" in told[0]["title"]

        store.set_replay_time(store.replay_time() + timedelta(days=1))
        monitored = [sys.executable, "-m", "monitoring", "run", "--no-snapshot"]
        report = subprocess.run(monitored, env=environment(home.home, **variables), capture_output=True, text=True)
        assert "version 1, batch" in report.stdout, report.stderr
