"""What happens to a run that was killed, and what a run does to the network: nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import psutil
import pytest

from level1_pipeline import problem
from level1_pipeline.orchestration.conclusion import Result
from level1_pipeline.orchestration.run import Request, run_training
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import start_of
from tests.support import ROOT
from tests.support.child_processes import living_children
from tests.support.homes import environment, run_level1

pytestmark = [pytest.mark.flights, pytest.mark.integration]

AS_OF = "2013-03-01"
BEFORE_TRAIN = ("extract", "validate", "split")


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def start_and_kill_while_training(
    home: Path,
    log: Path,
    before: Callable[[int], None] = lambda pid: None,
    lease_seconds: int = 1,
    more: dict[str, str] | None = None,
) -> float:
    """Kill -9 of the whole process group in the train step. Returns when that was."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "level1_pipeline", "train", "--as-of", AS_OF]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=environment(home, MLOPS_LEASE_SECONDS=str(lease_seconds), **(more or {})),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for("the split", lambda: "done split" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        time.sleep(0.5)
        before(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert "done train" not in log.read_text()
    return time.time()


def launch_once_free(settings: Settings) -> Result:
    """The killed process holds its lease until that expires."""
    while "skipped" in (result := run_training(settings, Request(start_of(AS_OF)))).line:
        time.sleep(0.5)
    return result


@pytest.fixture
def seeded(tmp_path: Path, rows: pd.DataFrame, cache: Path) -> Path:
    """A new home with the prepared rows."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "cache").symlink_to(cache)
    return home


@pytest.mark.evidence("Checklist 9")
@pytest.mark.slow
def test_a_run_that_was_killed_while_training_repeats_exactly_that_step(
    seeded: Path, tmp_path: Path, prefect: dict[str, str]
) -> None:
    settings = Settings(home=seeded, actor="tester", lease_seconds=3).prepare()
    killed_at = start_and_kill_while_training(seeded, tmp_path / "log", lease_seconds=3, more=prefect)
    folder = next((seeded / "runs" / problem.NAME).iterdir())
    written = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.parquet")}
    assert set(written) == {"rows.parquet", "train.parquet", "holdout.parquet"}
    assert Registry(settings).route().champion is None

    from prefect.client.orchestration import get_client

    def states() -> list[str]:
        with get_client(sync_client=True) as client:
            return sorted(
                run.state_name or ""
                for run in client.read_flow_runs()
                if run.parameters.get("run", {}).get("folder") == str(folder)  # others' flows have no such parameter
            )

    result = launch_once_free(settings)
    assert result.results is not None
    started = {step.step: step.started for step in result.results}
    assert {name for name, when in started.items() if when < killed_at} == set(BEFORE_TRAIN)
    assert result.code == 0
    assert Registry(settings).route().champion == "1"
    assert states() == ["Completed", "Crashed"]  # the one that was killed is not RUNNING for ever
    assert not folder.exists()
    assert not list((seeded / "prefect" / "storage").glob(f"{folder.name}*"))


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_line_in_the_audit_log_trains_nothing_again(
    seeded: Path, prefect: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> Result:
        raise Killed

    settings, request = Settings(home=seeded, actor="tester"), Request(start_of(AS_OF), promote_to="challenger")
    with monkeypatch.context() as patch:
        patch.setattr("level1_pipeline.orchestration.conclusion.conclude", killed)
        with pytest.raises(Killed):
            run_training(settings, request)
    stopped_at = time.time()
    result = run_training(settings, request)
    assert result.code == 0
    assert result.results is not None
    assert all(step.started < stopped_at for step in result.results)
    registry = Registry(settings)
    assert [str(version.version) for version in registry.client.search_model_versions("")] == ["1"]
    assert [line.text for line in registry.store.audit_log(problem.NAME)].count("train: gate pass") == 1


@pytest.mark.slow
def test_a_killed_run_leaves_no_server_behind_and_resumes_with_another_one(seeded: Path, tmp_path: Path) -> None:
    """Without a Prefect server of their own: each run brings one, which ends with it."""
    servers: list[psutil.Process] = []

    def remember(pid: int) -> None:
        servers.extend(living_children(pid, "level1_pipeline.orchestration.prefect_server"))

    killed_at = start_and_kill_while_training(seeded, tmp_path / "log", remember)
    assert len(servers) == 1
    gone, alive = psutil.wait_procs(servers, timeout=60)
    assert (len(gone), alive) == (1, [])
    time.sleep(1.5)  # the lease
    done = run_level1(seeded, "train", "--as-of", AS_OF, "--until", "train")
    assert done.returncode == 0, done.stderr
    folder = next((seeded / "runs" / problem.NAME).iterdir())
    assert {f.name: f.stat().st_mtime > killed_at for f in folder.glob("*.parquet")} == {
        "rows.parquet": False,
        "train.parquet": False,
        "holdout.parquet": False,
        "predictions.parquet": True,
    }
    with closing(sqlite3.connect(seeded / "prefect" / "prefect.db")) as connection:
        states = connection.execute("SELECT state_type FROM flow_run ORDER BY created").fetchall()
    assert [state for (state,) in states] == ["CRASHED", "COMPLETED"]


@pytest.mark.slow
def test_a_changed_source_file_of_ours_makes_the_steps_repeat_and_an_unchanged_one_does_not(
    seeded: Path, tmp_path: Path, prefect: dict[str, str]
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(
        ROOT / "level1_pipeline", repository / "level1_pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copyfile(ROOT / "requirements.lock", repository / "requirements.lock")

    def extracted() -> dict[str, int]:
        done = run_level1(seeded, "train", "--as-of", AS_OF, "--until", "split", **prefect, PYTHONPATH=str(repository))
        assert done.returncode == 0, done.stderr
        return {file.parent.name: file.stat().st_mtime_ns for file in seeded.glob("runs/*/*/rows.parquet")}

    first = extracted()
    assert len(first) == 1
    assert extracted() == first
    with (repository / "level1_pipeline" / "flights.py").open("a") as file:
        file.write("# a change\n")
    again = extracted()
    assert len(again) == 2
    assert first.items() < again.items()


# ---- the network

WATCH = """
import os, sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in (None, "", "localhost", "::1", "0.0.0.0") and not str(host).startswith("127."):
        with open(os.environ["CONNECTIONS"], "a") as file:
            file.write(f"{event} {host} {sys.argv}\\n")
sys.addaudithook(watch)
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python process, children included, writes down where it connects to."""
    folder = tmp_path / "watch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH)
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "CONNECTIONS": str(tmp_path / "connections")}


def test_the_watch_notices_a_connection_of_a_child_process(watched: dict[str, str], tmp_path: Path) -> None:
    """So that the empty list of the next test says something. (192.0.2.1 is reserved for documentation.)"""
    connect = "import socket; s = socket.socket(); s.setblocking(False); s.connect_ex(('192.0.2.1', 80)); s.close()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {connect!r}], check=True)"
    subprocess.run([sys.executable, "-c", parent], env=environment(tmp_path, **watched), check=True)
    assert "socket.connect 192.0.2.1" in Path(watched["CONNECTIONS"]).read_text()


@pytest.mark.slow
def test_a_training_connects_to_nothing_but_this_machine(seeded: Path, watched: dict[str, str]) -> None:
    done = run_level1(seeded, "train", "--as-of", AS_OF, **watched)
    assert done.returncode == 0, done.stderr
    connections = Path(watched["CONNECTIONS"])
    assert not connections.exists(), connections.read_text()
