"""What a sane model of late arrivals must do, whatever its scores: tested as a person would question it.

The three kinds of tests of Ribeiro et al. (2020): what must not matter (invariance), what must push in
one direction (direction), and what nobody may get wrong (minimum function).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.steps.fit import fit_model

pytestmark = pytest.mark.flights

Ask = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def newer(rows: pd.DataFrame) -> pd.DataFrame:
    """Flights after those that the model was trained on."""
    april = rows[rows[problem.EVENT_TIME] >= "2013-04-01T04:00:00Z"]
    return april[april[problem.TARGET].notna()].head(6000).reset_index(drop=True)


@pytest.fixture(scope="module")
def ask(rows: pd.DataFrame, newer: pd.DataFrame) -> Ask:
    """The scores of the newer flights with some inputs replaced."""
    older = rows[(rows[problem.EVENT_TIME] < "2013-03-30T00:00:00Z") & rows[problem.TARGET].notna()]
    model = fit_model(older.iloc[::3])
    return lambda **inputs: predict(model, newer.assign(**inputs))


# ---- invariance


def test_ids_and_outcomes_do_not_matter(ask: Ask) -> None:
    hidden = {problem.ID: "X", problem.ENTITY: "Y", problem.TARGET: 1.0}
    assert np.array_equal(ask(), ask(**hidden))


def test_the_company_in_a_request_does_not_matter(rows: pd.DataFrame, newer: pd.DataFrame) -> None:
    model = fit_model(rows[rows[problem.TARGET].notna()].head(3000))
    together, some = predict(model, newer.head(200)), newer.head(200)
    alone = np.concatenate([predict(model, some.iloc[[n]]) for n in range(0, 200, 10)])
    assert np.array_equal(together[::10], alone)
    assert np.array_equal(together[::-1], predict(model, some.iloc[::-1]))


def test_a_carrier_that_nobody_knows_is_like_any_other_that_nobody_knows(ask: Ask) -> None:
    assert np.array_equal(ask(carrier="ZZ"), ask(carrier="Q9"))


def test_a_tiny_error_of_measurement_hardly_matters(ask: Ask, newer: pd.DataFrame) -> None:
    moved = np.abs(ask(temp=newer["temp"] + 0.1, humid=(newer["humid"] + 0.1).clip(upper=100)) - ask())
    assert np.mean(moved) < 0.01


# ---- direction


def test_delays_at_the_airport_make_a_late_arrival_more_likely(ask: Ask) -> None:
    calm, busy, stuck = (ask(recent_delay=minutes).mean() for minutes in (-3.0, 25.0, 90.0))
    assert calm < busy < stuck
    assert stuck - calm > 0.1


def test_for_most_flights_a_long_delay_at_the_airport_is_worse_than_none(ask: Ask) -> None:
    assert np.mean(ask(recent_delay=90.0) > ask(recent_delay=-3.0)) > 0.95


def test_a_storm_is_worse_than_a_fair_day(ask: Ask) -> None:
    fair = ask(precip=0.0, visib=10.0, wind_speed=5.0, wind_gust=np.nan)
    storm = ask(precip=0.3, visib=1.0, wind_speed=30.0, wind_gust=45.0)
    assert storm.mean() > fair.mean() + 0.05


def test_the_evening_is_worse_than_the_early_morning(ask: Ask) -> None:
    assert ask(departure_minute=19 * 60.0).mean() > ask(departure_minute=6 * 60.0).mean()


# ---- minimum function


def test_a_flight_in_a_stuck_airport_in_a_storm_is_warned_of(ask: Ask) -> None:
    p = ask(recent_delay=120.0, precip=0.3, visib=1.0, departure_minute=19 * 60.0)
    assert np.mean([problem.choose_action(item) == "warn" for item in p]) > 0.98


def test_a_flight_on_a_calm_clear_morning_is_not_warned_of(ask: Ask) -> None:
    p = ask(recent_delay=-5.0, precip=0.0, visib=10.0, departure_minute=6 * 60.0, wind_speed=5.0, wind_gust=np.nan)
    assert np.mean([problem.choose_action(item) == "stay silent" for item in p]) > 0.9


def test_a_record_without_any_weather_gets_a_sober_answer(ask: Ask) -> None:
    weather = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    p = ask(**dict.fromkeys(weather, np.nan), recent_delay=np.nan)
    assert np.all((p > 0) & (p < 1))
    assert 0.05 < p.mean() < 0.6


def test_it_beats_a_coin_and_a_constant_on_newer_flights(ask: Ask, newer: pd.DataFrame) -> None:
    y = newer[problem.TARGET].to_numpy()
    scores = problem.evaluate(y, ask())
    constant = problem.evaluate(y, np.full(len(y), y.mean()))
    assert scores["roc_auc"] > 0.65
    assert scores["log_loss"] < constant["log_loss"]
