"""What the tests share: an own home for each, the prepared rows once, and which tests are marked or skipped."""

from __future__ import annotations

import os

# As `make test` says it, for a plain `pytest`, too: beside other busy processes, threads that wait must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"  # the services of the tests
os.environ.pop("MLOPS_PREFECT_API_URL", None)  # only the server that a fixture starts is used
os.environ.pop("MAKEFLAGS", None)  # of the `make test` above us: what a test calls is a make of its own
os.environ.pop("MAKELEVEL", None)

from pathlib import Path

import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from tests.evidence.results import ABOUT_FLIGHTS, Recorder
from tests.support.job_summary import PAGE, JobSummary

END_OF_TIME = pd.Timestamp("2100-01-01", tz="UTC")  # by then every outcome of any problem is known


# A test that asks for one of these opens a database, starts a server or trains models: `make test-fast` leaves it out.
INTEGRATION = {"home", "store", "client", "served", "serve", "models", "trained", "prefect", "migrated", "level0"}


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # a worker of xdist tells this process how its tests ended
        config.pluginmanager.register(Recorder())
        # Taken away, so that a planted failure of a test writes nothing there.
        if page := os.environ.pop(PAGE, None):
            config.pluginmanager.register(JobSummary(Path(page)))


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    for item in items:
        if INTEGRATION & set(item.fixturenames):
            item.add_marker(pytest.mark.integration)
        if problem.NAME != "flight_delay" and item.get_closest_marker("flights"):
            item.add_marker(pytest.mark.skip(reason=f"{ABOUT_FLIGHTS}{problem.NAME}"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with an empty home of their own, whatever the developer's environment says."""
    for name in [name for name in os.environ if name.startswith("MLOPS_") and name != "MLOPS_PREFECT_API_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # no `.env` of the checkout is read
    return Settings(home=tmp_path / "home", actor="tester")


@pytest.fixture
def store(home: Settings) -> Store:
    return Store(home.operations)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `problem.load` keeps prepared rows during this test run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def rows(cache: Path) -> pd.DataFrame:
    """All rows of the problem with all outcomes. Shared by every test: do not change it in place."""
    return schema.typed(problem.load(END_OF_TIME, cache=cache))
