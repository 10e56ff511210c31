"""Leaks planted on real flights are named, honest inputs are not; the same for a regression."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from examples.simulated_regression import problem as friedman
from level1_pipeline import flights, problem, schema
from level1_pipeline.evaluation import leakage
from level1_pipeline.schema import record
from level1_pipeline.steps.split import SplitRows, split_rows
from level1_pipeline.store.days import start_of
from tests.conftest import END_OF_TIME

DATES = [f"2013-{month:02d}-01" for month in range(2, 13)] + ["2013-12-20"]
Draws = np.random.Generator


def as_of(rows: pd.DataFrame, day: str) -> SplitRows:
    return split_rows(rows[rows[problem.EVENT_TIME] < start_of(day)], start_of(day))


# ---- flights


@pytest.fixture(scope="module")
def late_spring(rows: pd.DataFrame) -> pd.DataFrame:
    """The newest flights before June, with what was learned after the decision: `delay` at departure."""
    raw = flights.read()
    delay = pd.Series(raw.flights["dep_delay"].to_numpy(), flights.schedule(raw)[problem.ID]).clip(-10, 180)
    part = rows[
        (rows[problem.EVENT_TIME] >= start_of("2013-04-15")) & (rows[problem.EVENT_TIME] < start_of("2013-06-01"))
    ]
    return part.assign(delay=part[problem.ID].map(delay).fillna(0.0))


def bucket(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"dest": "D" + (rows["delay"] // 10).astype(int).astype(str)}


def scrambled(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    """Hundreds of texts in no order."""
    codes = pd.util.hash_array((rows["delay"] // 5).to_numpy() * 10 + draws.integers(0, 4, len(rows)))
    return {"dest": codes.astype(str)}


def u_shape(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"pressure": 1000 + np.where(draws.random(len(rows)) < 0.5, 1, -1) * rows["delay"].to_numpy()}


def actual_departure(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    """Nothing by itself; beside the timetable it is the delay."""
    return {"distance": rows["departure_minute"] + rows["delay"]}


def either_or(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    first = draws.random(len(rows)) < 0.5
    second = first ^ (rows["delay"] > 12)
    return {"humid": 30.0 + 40 * first + draws.normal(0, 5, len(rows)), "dewp": 20.0 + 40 * second}


def time_until_the_label(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"humid": (rows[problem.LABEL_TIME] - rows[problem.EVENT_TIME]) / pd.Timedelta("1min")}


def order_of_arrival(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    day = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    return {"humid": rows.groupby(day)[problem.LABEL_TIME].rank()}


def missing_when_late(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"humid": rows["humid"].mask((rows[problem.TARGET] == 1) & (draws.random(len(rows)) < 0.05))}


def missing_when_on_time(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"humid": rows["humid"].mask((rows[problem.TARGET] == 0) & (draws.random(len(rows)) < 0.05))}


def placeholder(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"humid": rows["humid"].mask((rows[problem.TARGET] == 1) & (draws.random(len(rows)) < 0.05), 0.0)}


def text_of_some(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"dest": rows["dest"].mask((rows[problem.TARGET] == 1) & (draws.random(len(rows)) < 0.05), "XXX")}


def there_for_a_few(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    return {"wind_gust": rows["delay"].where(draws.random(len(rows)) < 0.05)}


LEAKS = {
    bucket: "dest",
    scrambled: "dest",
    u_shape: "pressure",
    actual_departure: "distance",
    either_or: "dewp",
    time_until_the_label: "humid given the other inputs",
    order_of_arrival: "humid given the other inputs",
    missing_when_late: "where humid is missing: True",
    missing_when_on_time: "where humid is missing: True",
    placeholder: "where humid is 0.0",
    text_of_some: "where dest is XXX",
    there_for_a_few: "wind_gust",
}


@pytest.mark.evidence("an input knows the future", "Level 1: no leakage")
@pytest.mark.flights
@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
@pytest.mark.slow
def test_a_leak_is_named(late_spring: pd.DataFrame, leak: Callable[..., dict[str, Any]]) -> None:
    spoiled = late_spring.assign(**leak(late_spring, np.random.default_rng(0)))
    check = leakage.no_leakage(*as_of(spoiled, "2013-06-01"))
    assert check.status == "fail", check.message
    assert LEAKS[leak] in check.message
    assert "leave out what is learned after EVENT_TIME" in check.message


@pytest.mark.flights
@pytest.mark.parametrize("day", [DATES[3], pytest.param(DATES, marks=pytest.mark.slow)], ids=["May", "year"])
def test_honest_inputs_are_far_from_the_limits(rows: pd.DataFrame, day: str | list[str]) -> None:
    for date in [day] if isinstance(day, str) else day:
        check = leakage.no_leakage(*as_of(rows, date))
        assert check.status == "pass", (date, check.message)


@pytest.mark.flights
def test_with_one_label_nothing_can_be_told(late_spring: pd.DataFrame) -> None:
    train, holdout = as_of(late_spring, "2013-06-01")
    assert leakage.no_leakage(train, holdout.assign(**{problem.TARGET: 0.0})).status == "inconclusive"


# ---- the model as a whole


@pytest.mark.flights
def test_a_model_that_improves_too_much_at_once_sets_off_the_alarm(late_spring: pd.DataFrame) -> None:
    train, holdout = as_of(late_spring, "2013-06-01")
    y, draws = holdout[problem.TARGET].to_numpy(), np.random.default_rng(0)
    honest = np.clip(0.3 + 0.2 * y + draws.normal(0, 0.2, len(y)), 0, 1)
    knowing = np.clip(0.3 + 0.6 * y + draws.normal(0, 0.2, len(y)), 0, 1)
    everything = np.ones(len(y), bool)
    assert leakage.not_too_good(train, holdout, honest).status == "pass"
    assert leakage.not_too_good(train, holdout, honest, leakage.Past("champion 1", honest, everything)).status == "pass"
    assert leakage.not_too_good(train, holdout, knowing).status == "fail"
    alarm = leakage.not_too_good(train, holdout, knowing, leakage.Past("champion 1", honest, everything))
    assert alarm.status == "fail"
    assert "of champion 1" in alarm.message
    assert "GATE['min_error_left']" in alarm.message


@pytest.mark.flights
def test_without_a_past_there_is_no_alarm(late_spring: pd.DataFrame) -> None:
    train, holdout = as_of(late_spring, "2013-06-01")
    assert leakage.not_too_good(train.head(1500), holdout, holdout[problem.TARGET].to_numpy()).status == "pass"


# ---- a regression


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> Iterator[pd.DataFrame]:
    for name in (name for name in vars(friedman) if name.isupper() or name in ("Record", "evaluate", "load")):
        monkeypatch.setattr(problem, name, getattr(friedman, name))
    record.columns.cache_clear()
    yield friedman.load(END_OF_TIME)
    monkeypatch.undo()
    record.columns.cache_clear()


def test_honest_inputs_of_a_regression_pass(regression: pd.DataFrame) -> None:
    train, holdout = as_of(regression, "2024-06-01")
    assert schema.names() == list(friedman.Record.model_fields)
    assert leakage.no_leakage(train, holdout).status == "pass"
    y = holdout["y"].to_numpy()
    assert leakage.not_too_good(train, holdout, y + np.random.default_rng(0).normal(0, 1.1, len(y))).status == "pass"


@pytest.mark.evidence("Level 1: no leakage")
@pytest.mark.parametrize(
    ("leak", "named"),
    [
        (lambda rows, draws: {"x5": rows["y"] / 30 + draws.normal(0, 0.02, len(rows))}, "x5 has R²"),
        (lambda rows, draws: {"x5": 0.5 + draws.choice([-1, 1], len(rows)) * rows["y"] / 60}, "x5 has R²"),
        (lambda rows, draws: {"region": (rows["y"] // 1).astype(int).astype(str)}, "region has R²"),
        (lambda rows, draws: {"x5": rows["y"] / 30 + 10 * rows["x6"]}, "x5 with x6"),
        (lambda rows, draws: {"x6": rows["x6"].mask(rows["y"] > 23)}, "where x6 is missing: True"),
        (lambda rows, draws: {"x4": (rows["y"] / 30).where(draws.random(len(rows)) < 0.1)}, "x4 has R²"),
    ],
    ids=["number", "u shape", "text", "with another", "missing", "there for a few"],
)
def test_a_leak_of_a_regression_is_named(regression: pd.DataFrame, leak: Any, named: str) -> None:
    spoiled = regression.assign(**leak(regression, np.random.default_rng(0)))
    check = leakage.no_leakage(*as_of(spoiled, "2024-06-01"))
    assert check.status == "fail", check.message
    assert named in check.message
