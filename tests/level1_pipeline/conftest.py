"""What the tests of the orchestrated pipeline share: one Prefect server, and an MLflow database with its tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from level1_pipeline.cli import main
from level1_pipeline.environment import QUIET
from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from tests.support.homes import Done, Models, in_process


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One complete Prefect server (with its scheduler) for all; yields the variable that names it."""
    folder = tmp_path_factory.mktemp("prefect")
    patch = pytest.MonkeyPatch()
    for name, value in QUIET.items():
        patch.setenv(name, value)
    patch.setenv("PREFECT_HOME", str(folder))
    with prefect_server(folder / "server.log", complete=True) as api:
        wait_until_ready(api, folder / "server.log")
        patch.setenv("MLOPS_PREFECT_API_URL", api)
        yield {"MLOPS_PREFECT_API_URL": api}
    patch.undo()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables: making them takes seconds, copying the file does not."""
    settings = Settings(home=tmp_path_factory.mktemp("migrated")).prepare()
    assert Registry(settings).client.get_experiment_by_name("none") is None
    copy = settings.home / "copy.db"
    with closing(sqlite3.connect(settings.home / "mlflow.db")) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


@pytest.fixture
def models(home: Settings, migrated: Path, rows: pd.DataFrame) -> Callable[[], Models]:
    """Make `Models` in an own home."""

    def make() -> Models:
        home.prepare()
        (home.home / "mlflow.db").write_bytes(migrated.read_bytes())
        return Models(home, rows)

    return make


@pytest.fixture
def level1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `python -m level1_pipeline …` in this process."""
    return in_process(main, monkeypatch, capsys)
