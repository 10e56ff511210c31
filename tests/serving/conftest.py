"""Small real models as published bundles, real stores (SQLite, and PostgreSQL where there is one), real HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from tests.support.problems import NO_NUMBER
from tests.support.serving import Models, ServiceProcess, asked, empty_database, serve

POSTGRES = os.environ.get("MLOPS_TEST_POSTGRES", "")  # read now: the fixture `home` clears the environment
KINDS = 3  # different models


@pytest.fixture(scope="session")
def models(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Three models, the best first, as bundles that passed the gate. Of few iterations, so that they are there soon."""
    if classes():
        pytest.skip(NO_NUMBER)
    few = {name: 20 for name in problem.build_model().get_params() if name.endswith("max_iter")}
    folder = tmp_path_factory.mktemp("models")
    labelled = rows[rows[problem.TARGET].notna()].head(3000)
    records, scores = schema.records(asked(rows)), list[np.ndarray]()
    for kind in range(KINDS):
        pipeline = fit_model(labelled.iloc[: len(labelled) - len(labelled) // 6 * kind], few)
        info = {
            "kind": "refitted",
            "verdict": "pass",
            "metrics": {problem.PRIMARY_METRIC: 0.5},
            "trained_from": labelled[problem.EVENT_TIME].min().isoformat(),
            "trained_until": labelled[problem.EVENT_TIME].max().isoformat(),
            "rows": len(labelled),
            "data_digest": f"digest {kind}",
            "code_revision": "abc",
            "run_id": "a run",
        }
        profile = pd.DataFrame({"day": ["2013-01-01"]})
        write_bundle(folder / str(kind), pipeline, labelled.tail(50), info, profile)
        bundle = load_bundle(folder / str(kind))
        alone = [bundle.predict([record]).item() for record in records]
        scores.append(bundle.predict(records) if bundle.scorer else np.array(alone))
    assert not np.array_equal(scores[0], scores[1])
    return Models(folder, records, scores)


@pytest.fixture
def start(home: Settings) -> Iterator[Callable[..., ServiceProcess]]:
    """Starts services that do not outlive the test."""
    started: list[ServiceProcess] = []

    def start_process(settings: Settings = home, *arguments: str, **environment: Any) -> ServiceProcess:
        started.append(ServiceProcess(settings, *arguments, **environment))
        return started[-1]

    yield start_process
    for service in started:
        if service.process.poll() is None:
            service.kill()


@pytest.fixture
def served(home: Settings, models: Models) -> Settings:
    """A home whose champion is version 1, with versions 2 and 3 published beside it; it reacts fast."""
    return models.publish_all(home)


@pytest.fixture
def client(served: Settings) -> Iterator[httpx2.Client]:
    """A running service with a champion."""
    with serve(served) as running:
        yield running


@pytest.fixture
def records(models: Models) -> list[dict[str, Any]]:
    return models.records


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def both(request: pytest.FixtureRequest, home: Settings) -> Iterator[Settings]:
    """The same test on both databases."""
    if request.param == "sqlite":
        yield home
        return
    if not POSTGRES:
        pytest.skip("no PostgreSQL: set MLOPS_TEST_POSTGRES to the URL of a server where databases may be made")
    with empty_database(POSTGRES) as url:
        yield home.changed({"store_uri": url})
