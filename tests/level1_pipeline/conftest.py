"""What the tests of the orchestrated pipeline share: one Prefect server, and small models put into service by hand."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from level1_pipeline import problem, schema
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready
from level1_pipeline.registry import Registry
from level1_pipeline.settings import QUIET, Settings

ROOT = Path(__file__).parents[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    """For a child process: an own home, and nothing else that a developer or another test has set."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MLOPS_", "PREFECT_", "PYTEST_"))}
    return kept | {"MLOPS_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | more


def cli(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m level1_pipeline …` as a person would."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "level1_pipeline", *arguments]
    return subprocess.run(
        command, cwd=home, env=environment(home, **more), capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="session")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One complete Prefect server (with its scheduler) for all; yields what a client's environment needs."""
    folder = tmp_path_factory.mktemp("prefect")
    patch = pytest.MonkeyPatch()
    for name, value in QUIET.items():
        patch.setenv(name, value)
    patch.setenv("PREFECT_HOME", str(folder))
    patch.delenv("PREFECT_API_URL", raising=False)
    with prefect_server(folder / "server.log", complete=True) as api:
        wait_until_ready(api, folder / "server.log")
        if "prefect" in sys.modules:  # another test has imported it with other settings
            from prefect.context import refresh_global_settings_context

            refresh_global_settings_context()
        yield {"PREFECT_API_URL": api, "PREFECT_HOME": str(folder)}
    patch.undo()


class Models:
    """Small real models as registered and published versions, without a training run."""

    def __init__(self, settings: Settings, rows: pd.DataFrame) -> None:
        self.registry = Registry(settings)
        numbers = [column.name for column in schema.columns() if not column.text and not column.nullable]
        self.numbers, self.rows = numbers, rows[rows[problem.TARGET].notna()].head(600)

    def fit(self, strength: float) -> Pipeline:
        """A linear model of the inputs that are always there; each strength gives another one."""
        from sklearn.compose import ColumnTransformer
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        last = LogisticRegression(C=strength) if problem.TASK == "classification" else Ridge(alpha=strength)
        encode = ColumnTransformer([("numbers", StandardScaler(), self.numbers)])
        return Pipeline([("encode", encode), ("model", last)]).fit(self.rows[schema.names()], self.rows[problem.TARGET])

    def register(self, strength: float, publish: bool = True, model: Any = None, **info: Any) -> str:
        """A version; blessed unless `verdict` says otherwise."""
        import mlflow

        folder = self.registry.settings.home / "made" / f"{strength}"
        until = self.rows[problem.EVENT_TIME].max().isoformat()
        info = {"verdict": "pass", "trained_until": until, **info}
        summaries = day_summaries(self.rows)
        write_bundle(folder, model or self.fit(strength), self.rows.tail(20), info, summaries)
        experiment = self.registry.experiment(problem.NAME)
        with mlflow.start_run(experiment_id=experiment) as run:
            version = self.registry.register(run.info.run_id, f"runs:/{run.info.run_id}/model", folder, {})
        if publish:
            self.registry.publish(version)
        return version

    def answers(self) -> list[float]:
        """What the champion says about some rows."""
        champion = self.registry.route().champion
        assert champion is not None
        return self.registry.load(champion).predict(schema.records(self.rows.head(50))).tolist()


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
