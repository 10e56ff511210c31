"""Days without requests, and too few requests, are told apart from calm days; on rows of the real year."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.store.quarantine import Quarantined
from monitoring.data import traffic
from monitoring.data.prediction_window import Log, of_rows
from monitoring.data.traffic import Traffic
from monitoring.detectors.concept_drift import UNTESTED
from monitoring.detectors.measured import Measured
from monitoring.diagnosis import diagnose
from monitoring.reporting import text
from monitoring.results import Coverage, Drift, Skew, Window
from tests.support.monitoring_runs import a_run
from tests.support.world import midnight

pytestmark = [pytest.mark.flights, pytest.mark.integration]
BEFORE, FIRST, LAST = "2013-04-22", "2013-05-20", "2013-05-27"


def log_of(rows: pd.DataFrame, first: str, last: str) -> Log:
    return of_rows(rows, Window(*(midnight(day).to_pydatetime() for day in (first, last))), "1")


@pytest.fixture(scope="module")
def spring(rows: pd.DataFrame) -> pd.DataFrame:
    when = rows[problem.EVENT_TIME]
    return rows[(when >= midnight(BEFORE)) & (when < midnight(LAST))]


@pytest.fixture(scope="module")
def before(spring: pd.DataFrame) -> Log:
    return log_of(spring, BEFORE, FIRST)


def without(rows: pd.DataFrame, *days: str) -> pd.DataFrame:
    return rows[~rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.strftime("%Y-%m-%d").isin(days)]


def measured(seen: Traffic, matured: int = 5000, tested: bool = True) -> Measured:
    relation = replace(UNTESTED, changed=False if tested else None)
    return Measured(
        coverage=Coverage(matured + 500, matured, 400, 100),
        drift=Drift("steady", 0.5, (), 0, 3, "as before"),
        skew=Skew("equal", 100, 0, (), "equal"),
        concept_drift=relation,
        concept_drift_over=relation,
        traffic=seen,
    )


def test_an_ordinary_week_is_full(spring: pd.DataFrame, before: Log) -> None:
    seen = traffic.look(log_of(spring, FIRST, LAST), before, before, ())
    assert (seen.days, seen.filled_days, seen.empty_days) == (7, 7, ())
    assert not seen.stopped
    assert not seen.too_little
    assert diagnose(measured(seen)).cause == "nothing"


@pytest.mark.parametrize("days", [("2013-05-21", "2013-05-22", "2013-05-23"), ("2013-05-25", "2013-05-26")])
def test_a_week_with_empty_days_is_not_nothing_and_names_them(
    spring: pd.DataFrame, before: Log, days: tuple[str, ...]
) -> None:
    seen = traffic.look(log_of(without(spring, *days), FIRST, LAST), before, before, ())
    answer = diagnose(measured(seen))
    assert (answer.cause, answer.action) == ("inconclusive", "wait")
    assert "traffic stopped" in answer.message
    assert all(day in answer.message for day in days)
    assert any(days[0] in need for need in answer.missing)


def test_a_stop_of_nine_days_is_a_stop_of_traffic(spring: pd.DataFrame, before: Log) -> None:
    nothing = spring[spring[problem.EVENT_TIME] < midnight("2013-05-18")]
    seen = traffic.look(log_of(nothing, FIRST, LAST), before, before, ())
    answer = diagnose(measured(seen, matured=0, tested=False))
    assert answer.cause == "inconclusive"
    assert answer.message.startswith("traffic stopped: 7 of 7 days have no request")


def test_days_that_are_always_empty_are_usual(spring: pd.DataFrame) -> None:
    """A business that rests at weekends."""
    working = spring[spring["weekday"] < 5]
    days = log_of(working, BEFORE, FIRST)
    assert not traffic.look(log_of(working, FIRST, LAST), days, days, ()).stopped
    assert traffic.look(log_of(without(working, "2013-05-22"), FIRST, LAST), days, days, ()).stopped


def test_days_in_quarantine_and_days_before_the_first_request_are_not_empty(spring: pd.DataFrame, before: Log) -> None:
    hidden = without(spring, "2013-05-21", "2013-05-22", "2013-05-23")
    start, end = (midnight(day).to_pydatetime() for day in ("2013-05-21", "2013-05-24"))
    seen = traffic.look(log_of(hidden, FIRST, LAST), before, before, (Quarantined(start, end, "", "stuck"),))
    assert seen.empty_days == ()
    young = spring[spring[problem.EVENT_TIME] >= midnight("2013-05-24")]
    assert traffic.look(log_of(young, FIRST, LAST), log_of(young, BEFORE, FIRST), before, ()).empty_days == ()


@pytest.mark.parametrize(("a_day", "too_little"), [(24, True), (48, True), (52, False), (120, False)])
def test_too_little_traffic_says_what_would_be_enough(
    spring: pd.DataFrame, before: Log, a_day: int, too_little: bool
) -> None:
    day = spring[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    seen = traffic.look(log_of(spring[spring.groupby(day).cumcount() < a_day], FIRST, LAST), before, before, ())
    assert seen.too_little == too_little
    assert not seen.stopped
    answer = diagnose(measured(seen, matured=a_day * 5, tested=False))
    assert ("too little traffic for Level 2" in answer.message) == too_little
    assert ("50 a day would be enough" in answer.message) == too_little
    assert answer.cause == "inconclusive"
    assert answer.message in text.summary(a_run(answer))
    assert diagnose(measured(seen, matured=a_day * 5, tested=True)).cause == (
        "inconclusive" if too_little else "nothing"
    )
