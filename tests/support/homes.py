"""Homes of their own: for child processes, and with small registered models without a training run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from level1_pipeline import problem, schema
from level1_pipeline.command_line import console
from level1_pipeline.registry import CHAMPION, Registry
from level1_pipeline.schema.task import task
from level1_pipeline.settings import Settings
from tests.support import ROOT
from tests.support.bundles import make_bundle


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def environment(home: Path, **more: str) -> dict[str, str]:
    """For a child process: an own home, and nothing else that a developer or another test has set."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("MLOPS_", "PREFECT_", "PYTEST_"))}
    return kept | {"MLOPS_HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | more


def in_process(
    main: Callable[[Sequence[str]], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run a command line in this process, which does not import everything once more; call it with home and arguments."""

    def run(home: Path, *arguments: str, **variables: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in {"MLOPS_HOME": str(home), **variables}.items():
                patch.setenv(name, value)
            patch.setattr(console, "width", 200)
            capsys.readouterr()
            code = main(arguments)
        written = capsys.readouterr()
        return Done(code, written.out, written.err)

    return run


def run_level1(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m level1_pipeline …` as a person would."""
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "level1_pipeline", *arguments]
    return subprocess.run(
        command, cwd=home, env=environment(home, **more), capture_output=True, text=True, check=False, timeout=600
    )


def register(registry: Registry, folder: Path, publish: bool = True, promote: bool = False) -> str:
    """A bundle as a registered version, as a training makes it."""
    import mlflow

    with mlflow.start_run(experiment_id=registry.experiment(problem.NAME)) as run:
        version = registry.register(run.info.run_id, f"runs:/{run.info.run_id}/model", folder, {})
    if publish:
        registry.publish(version)
    if promote:
        registry.promote(version, CHAMPION, "planted by a test")
    return version


class Models:
    """Small real models as registered and published versions."""

    def __init__(self, settings: Settings, rows: pd.DataFrame) -> None:
        self.registry = Registry(settings)
        numbers = [column.name for column in schema.columns() if not column.text and not column.nullable]
        self.numbers, self.rows = numbers, rows[rows[problem.TARGET].notna()].head(600)

    def fit(self, strength: float) -> Pipeline:
        """A linear model of the inputs that are always there; each strength gives another one."""
        from sklearn.compose import ColumnTransformer
        from sklearn.linear_model import Ridge
        from sklearn.preprocessing import StandardScaler

        last = LogisticRegression(C=strength) if task().has_classes else Ridge(alpha=strength)
        encode = ColumnTransformer([("numbers", StandardScaler(), self.numbers)])
        return Pipeline([("encode", encode), ("model", last)]).fit(self.rows[schema.names()], self.rows[problem.TARGET])

    def register(self, strength: float, publish: bool = True, model: Any = None, **info: Any) -> str:
        """A version; blessed unless `verdict` says otherwise."""
        folder = self.registry.settings.home / "made" / f"{strength}"
        make_bundle(folder, model or self.fit(strength), self.rows.tail(20), self.rows, **info)
        return register(self.registry, folder, publish)

    def answers(self) -> list[float]:
        """What the champion says about some rows."""
        champion = self.registry.route().champion
        assert champion is not None
        return self.registry.load(champion).predict(schema.records(self.rows.head(50))).tolist()
