"""A small GitHub, and a home as a loop leaves it."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.audit import Change, Promoted
from level1_pipeline.store.database import Store
from level2_cicd.workflows import kept_home
from tests.support.github import PROGRAM, GitHub

BEGIN = datetime(2013, 4, 1, 4, tzinfo=UTC)
Promote = Callable[[str], None]


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    made = GitHub(tmp_path / "github")
    made.folder.mkdir()
    monkeypatch.setenv("PATH", f"{PROGRAM}:{os.environ['PATH']}")
    for name, value in made.variables.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def loop(home: Settings) -> Settings:
    return kept_home.loop(home)


@pytest.fixture
def promote(loop: Settings) -> Promote:
    """Make a version champion in the home, a day later each time."""

    def change(version: str) -> None:
        loop.home.mkdir(parents=True, exist_ok=True)
        store = Store(loop.operations)
        now = BEGIN + timedelta(days=int(version))
        store.set_replay_time(now)
        with leases.hold(store, leases.promotion(problem.NAME), 30) as lease:
            store.change_route(
                problem.NAME, lease, Change("tester", Promoted("champion"), "a test", now), champion=version
            )
        store.close()

    return change
