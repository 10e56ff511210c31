"""What the age of a model costs is found again where it was planted, and nothing later than the training is read."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation import staleness
from level1_pipeline.evaluation.staleness import MOST_OLDER, STEP_WEEKS, WEEK
from level1_pipeline.steps import model_card
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import maturity_cutoff
from level1_pipeline.store.days import start_of
from tests.support import ROOT

pytestmark = pytest.mark.flights
AS_OF = start_of("2013-06-03")
PLANTED = 0.01  # loss for each week of age


def knowing(time: pd.Timestamp, rows: pd.DataFrame, a_week: float = PLANTED) -> np.ndarray:
    """Scores whose log loss is 0.3 for a new model, and more by `a_week` for each week of age."""
    age = (rows[problem.EVENT_TIME] - time) / WEEK
    right = np.exp(-(0.3 + a_week * age))
    return np.where(rows[problem.TARGET] == 1, right, 1 - right)


@pytest.fixture(scope="module")
def matured(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[problem.TARGET].notna() & (rows[problem.EVENT_TIME] <= maturity_cutoff(AS_OF))]


@pytest.mark.evidence("Model 4")
def test_the_price_of_a_week_is_what_was_planted_whatever_else_makes_days_hard(matured: pd.DataFrame) -> None:
    found = staleness.measure(matured, AS_OF, lambda time: partial(knowing, time))
    assert found is not None
    assert found.loss.value == pytest.approx(PLANTED, rel=1e-3)
    assert found.loss.low <= found.loss.value <= found.loss.high
    assert [age for age, _ in found.curve] == [STEP_WEEKS * n for n in range(1, 1 + min(MOST_OLDER, found.models - 1))]
    assert all(loss == pytest.approx(PLANTED * age, rel=1e-3) for age, loss in found.curve)


def test_models_that_do_not_age_cost_nothing_by_their_age(matured: pd.DataFrame) -> None:
    found = staleness.measure(matured, AS_OF, lambda time: partial(knowing, time, a_week=0.0))
    assert found is not None
    assert found.dollars is not None
    assert (found.loss.value, found.dollars.value) == (0.0, 0.0)


@pytest.mark.evidence("Model 4")
def test_a_model_is_asked_only_about_days_after_it_was_made(matured: pd.DataFrame) -> None:
    asked: list[tuple[pd.Timestamp, pd.Timestamp]] = []

    def fit(time: pd.Timestamp) -> staleness.Predict:
        def predict(rows: pd.DataFrame) -> np.ndarray:
            asked.append((time, rows[problem.EVENT_TIME].min()))
            return knowing(time, rows)

        return predict

    assert staleness.measure(matured, AS_OF, fit)
    assert asked
    assert all(first >= time for time, first in asked)


@pytest.mark.slow
def test_rows_that_become_known_later_change_nothing(rows: pd.DataFrame) -> None:
    labelled = rows[rows[problem.TARGET].notna()]
    early = labelled[labelled[problem.LABEL_TIME] < AS_OF]
    upside_down = labelled[problem.TARGET].where(labelled[problem.LABEL_TIME] < AS_OF, 1 - labelled[problem.TARGET])
    measured = [
        staleness.measure(known_rows, AS_OF, lambda time: partial(knowing, time))
        for known_rows in (early, labelled, labelled.assign(**{problem.TARGET: upside_down}))
    ]
    assert measured[0] is not None
    assert measured[0] == measured[1] == measured[2]


def test_two_trainings_compare_models_of_the_same_mondays(matured: pd.DataFrame) -> None:
    times: list[set[pd.Timestamp]] = []
    for as_of in (AS_OF, AS_OF + pd.Timedelta(days=5)):
        seen: set[pd.Timestamp] = set()
        staleness.measure(matured, as_of, lambda time, seen=seen: seen.add(time))  # type: ignore[misc]
        times.append(seen)
    assert times[0] == times[1]
    assert {time.tz_convert(problem.TIMEZONE).day_name() for time in times[0]} == {"Monday"}


@pytest.mark.parametrize("as_of", ["2013-02-01", "2013-03-10"])
def test_a_past_that_is_too_short_says_nothing(matured: pd.DataFrame, as_of: str) -> None:
    time = start_of(as_of)
    known = matured[matured[problem.EVENT_TIME] <= maturity_cutoff(time)]
    assert staleness.measure(known, time, lambda made: partial(knowing, made)) is None


BACKTEST = {
    "loss": {"value": 0.002, "low": 0.001, "high": 0.003},
    "dollars": {"value": 0.05, "low": 0.02, "high": 0.08},
    "curve": [[4, 0.009], [8, 0.004], [12, 0.013]],
    "days": 100,
}


def drawn(measured: dict[str, dict[str, Any]]) -> list[Any]:
    """The axes of the picture."""
    from matplotlib.figure import Figure

    staleness.draw(figure := Figure(), measured)
    return list(figure.axes)


def test_the_picture_shows_every_point_and_the_price_with_its_interval() -> None:
    losses, dollars = drawn({"newest": BACKTEST, "early": BACKTEST | {"curve": [[4, 0.02]]}})
    points = [line.get_xydata().tolist() for line in losses.lines if line.get_marker() == "o"]
    assert points == [[[4, 0.009], [8, 0.004], [12, 0.013]], [[4, 0.02]]]
    assert losses.lines[1].get_xydata().tolist() == [[0, 0], [12, pytest.approx(0.024)]]
    assert dollars.lines[0].get_xydata().tolist() == [[0, 0], [12, pytest.approx(600)]]  # of 1,000 predictions
    for axes, week in ((losses, (0.012, 0.036)), (dollars, (240, 960))):
        corners = axes.collections[0].get_paths()[0].vertices
        assert set(week) <= {round(float(y), 6) for x, y in corners if x == 12}
    assert [text.get_text() for text in losses.get_legend().get_texts()] == [
        "newest: 100 days compared",
        "early: 100 days compared",
    ]


def test_a_training_that_measured_it_draws_it_beside_its_other_pictures(matured: pd.DataFrame, tmp_path: Path) -> None:
    rows = matured.tail(2000)
    few = {name: 5 for name in problem.build_model().get_params() if name.endswith("max_iter")}
    model = fit_model(rows, few)
    predictions = {model_card.EVALUATED: predict(model, rows)}
    names = [
        {path.name for path in model_card.plots(tmp_path, rows, predictions, model, ageing)}
        for ageing in ({"as of today": BACKTEST}, None)
    ]
    assert names[0] - names[1] == {"staleness.png"}
    assert (tmp_path / "staleness.png").read_bytes().startswith(b"\x89PNG")


def test_without_dollars_there_is_one_picture(matured: pd.DataFrame) -> None:
    assert len(drawn({"a regression": BACKTEST | {"dollars": None}})) == 1
    measured = staleness.measure(matured, AS_OF, lambda time: partial(knowing, time))
    assert measured is not None
    (losses, _) = drawn({"measured": measured.as_dict()})
    assert losses.lines[0].get_xydata().tolist() == [[age, loss] for age, loss in measured.curve]


def test_the_picture_in_the_docs_is_of_two_backtests_with_all_their_points() -> None:
    tree = ElementTree.parse(ROOT / "docs" / "staleness.svg")
    texts = " ".join(element.text or "" for element in tree.iter() if element.tag.endswith("}text"))
    assert "weeks older than the new model" in texts
    assert re.findall(r"known on (2013-\d\d)-\d\d", texts) == ["2013-11", "2013-06"]
    styles = [element.get("style", "") for element in tree.iter() if element.tag.endswith("}use")]
    shapes = [sum(color in style for style in styles) for color in ("#1f77b4", "#ff7f0e")]
    assert shapes == [6, 6]  # three points, the one of the legend, and an interval in both pictures
