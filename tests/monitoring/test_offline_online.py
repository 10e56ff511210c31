"""What the gate measures before a release is what the monitoring measures after it, for models of any quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from monitoring.data import prediction_window
from monitoring.detectors import performance
from monitoring.results import Window
from tests.support.world import World, midnight

pytestmark = [pytest.mark.flights, pytest.mark.integration]
SPOILED = (0.0, 0.5, 0.8, 1.0)  # share of the labels that belong to other rows
END = "2013-04-08"


def spoiled(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    hit, labels = draw.random(len(rows)) < share, rows[problem.TARGET].to_numpy().copy()
    labels[hit] = draw.permutation(labels[hit])
    return rows.assign(**{problem.TARGET: labels})


def online(home: Settings, rows: pd.DataFrame, scores: np.ndarray) -> float:
    """The metric that a monitoring run reads from the log of a version with these scores."""
    world = World(home, rows, home.home)
    world.log(rows, scores=scores)
    span = Window(*(midnight(day).to_pydatetime() for day in ("2013-04-01", END)))
    answers = prediction_window.read(world.store, span, midnight("2013-04-20").to_pydatetime()).answers
    world.store.close()
    matured = answers["1", "champion"].matured_rows
    y, p = (matured[name].to_numpy() for name in (problem.TARGET, "score"))
    return performance.figures(y, p)[problem.PRIMARY_METRIC]


@pytest.mark.evidence("Model 2")
def test_models_are_in_the_same_order_offline_and_in_the_log_of_what_they_answered(
    home: Settings, rows: pd.DataFrame, tmp_path: Path
) -> None:
    labelled = rows[rows[problem.TARGET].notna()]
    when = labelled[problem.EVENT_TIME]
    older = labelled[when < midnight("2013-03-15")].iloc[::6]
    holdout = labelled[when.between(midnight("2013-03-16"), midnight("2013-04-01"))].iloc[::3]
    served = labelled[when.between(midnight("2013-04-01"), midnight(END))].iloc[::2]
    offline, logged = [], []
    for number, share in enumerate(SPOILED):
        model = fit_model(spoiled(older, share), {"model__max_iter": 30})
        judged = problem.evaluate(holdout[problem.TARGET].to_numpy(), predict(model, holdout))
        offline.append(judged[problem.PRIMARY_METRIC])
        place = home.changed({"home": tmp_path / str(number)}).prepare()
        logged.append(online(place, served, predict(model, served)))
    assert np.array_equal(np.argsort(offline), np.argsort(logged)), (offline, logged)
    assert np.corrcoef(offline, logged)[0, 1] > 0.9, (offline, logged)
