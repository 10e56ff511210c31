"""A world of real rows for each test of the monitoring, and the models that they share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline.settings import Settings
from tests.support.world import World


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are kept that were needed so far: one folder for all workers of this test run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "trained"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def world(home: Settings, rows: pd.DataFrame, trained: Path, cache: Path) -> Any:
    """An empty home with version 1, trained as of 1 April, as champion since that day."""
    home.home.mkdir(parents=True)
    (home.home / "cache").symlink_to(cache)
    empty = World(home, rows, trained)
    empty.serve("1", "april", "2013-04-01")
    yield empty
    empty.store.close()
