"""A home with a champion and candidates, and days of traffic ahead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.registry import tracking
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from tests.serving.conftest import models
from tests.support.days import Days
from tests.support.problems import NO_NUMBER
from tests.support.serving import Models, opened, set_route

NO_REGISTRY = "sqlite:////nowhere/mlflow.db"  # MLflow is down: nothing here may need it


@pytest.fixture
def prepared(home: Settings, rows: pd.DataFrame, cache: Path) -> None:
    """The rows that were prepared once for all tests lie where a home looks for them, and a simulation, too."""
    home.home.mkdir(exist_ok=True)
    for folder in (home.home, home.home.parent):
        (folder / "cache").symlink_to(cache)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's aliases are somebody else's test."""
    monkeypatch.setattr(tracking, "mirror", lambda client, route: True)


@pytest.fixture
def days(home: Settings, models: Models, rows: pd.DataFrame) -> Days:
    """Version 1 serves, version 2 is published, and days of rows lie ahead."""
    if classes():
        pytest.skip(NO_NUMBER)
    for version, kind in (("1", 1), ("2", 0), ("3", 2)):
        models.publish(home.home, version, kind)
    settings = home.changed({"tracking_uri": NO_REGISTRY, "canary_shares": "0.25,0.5"})
    set_route(settings, champion="1")
    labelled = rows[rows[problem.TARGET].notna()]
    places = np.arange(10_000, 20_000) % len(labelled)  # where there are fewer, they come again
    labelled = labelled.iloc[places].reset_index(drop=True)
    first = labelled[problem.EVENT_TIME].iloc[0].tz_convert(problem.TIMEZONE).normalize().tz_convert("UTC")
    return Days(settings, Store(settings.operations), labelled, first)


__all__ = ["Models", "days", "models", "opened", "set_route"]
