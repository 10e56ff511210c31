"""Values that return, traffic that falls or stops, on rows of the real year."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.steps.write_bundle import categories
from level1_pipeline.store.quarantine import Quarantined
from monitoring.data.prediction_window import Log, of_rows
from monitoring.detectors import data_faults, fault_checks
from monitoring.results import Window
from tests.support.world import midnight

pytestmark = [pytest.mark.flights, pytest.mark.integration]
BEFORE, FIRST, LAST = "2013-04-22", "2013-05-20", "2013-05-27"


def log_of(rows: pd.DataFrame, first: str, last: str) -> Log:
    return of_rows(rows, Window(*(midnight(day).to_pydatetime() for day in (first, last))), "1")


def during(rows: pd.DataFrame, first: str, last: str) -> pd.DataFrame:
    when = rows[problem.EVENT_TIME]
    return rows[(when >= midnight(first)) & (when < midnight(last))]


def certain(faults: list[data_faults.Fault]) -> list[tuple[str, str]]:
    return [(fault.kind, fault.column) for fault in faults if not fault.strange]


@pytest.mark.parametrize(
    "absent",
    [("UA", "B6"), *(pytest.param(part, marks=pytest.mark.slow) for part in [("EV", "DL"), ("AA", "US", "WN", "MQ")])],
    ids="-".join,
)
def test_carriers_that_were_trained_on_and_return_after_four_weeks_are_no_fault(
    rows: pd.DataFrame, absent: tuple[str, ...]
) -> None:
    reference = log_of(rows[~rows["carrier"].isin(absent)], BEFORE, FIRST)
    current = log_of(rows, FIRST, LAST)
    new = (fault_checks.NEW_VALUES, "carrier")
    assert new in certain(data_faults.find(reference, current))  # nobody knew them
    trained_on = categories(during(rows, "2013-01-01", "2013-04-01"))
    assert certain(data_faults.find(reference, current, trained_on=trained_on)) == []


def test_values_that_the_record_lists_are_never_new(rows: pd.DataFrame) -> None:
    reference = log_of(rows[rows["origin"] != "JFK"], BEFORE, FIRST)
    assert (fault_checks.NEW_VALUES, "origin") not in certain(data_faults.find(reference, log_of(rows, FIRST, LAST)))


@pytest.mark.parametrize(("days_ago", "is_fault"), [(7, True), (14, False)])
def test_the_quarantine_of_new_values_does_not_keep_them_new(rows: pd.DataFrame, days_ago: int, is_fault: bool) -> None:
    renamed = rows.assign(carrier=rows["carrier"].replace({"UA": "U1", "B6": "B1"}))
    start = midnight(FIRST) - pd.Timedelta(days=days_ago)
    reason = f"carrier: {fault_checks.NEW_VALUES} on 2 days from 2013-05-01"
    spans = (Quarantined(start.to_pydatetime(), midnight(FIRST).to_pydatetime(), "", reason),)
    window = str((pd.Timestamp(FIRST) + pd.Timedelta(days=2)).date())
    faults = data_faults.find(log_of(rows, BEFORE, FIRST), log_of(renamed, FIRST, window), spans)
    assert ((fault_checks.NEW_VALUES, "carrier") in certain(faults)) == is_fault


# ---- traffic


@pytest.mark.parametrize("share", [0.02, pytest.param(0.1, marks=pytest.mark.slow), 5.0])
@pytest.mark.parametrize(
    "first", ["2013-05-20", *(pytest.param(day, marks=pytest.mark.slow) for day in ("2013-08-19", "2013-11-11"))]
)
def test_more_or_less_traffic_is_no_fault_of_the_data(rows: pd.DataFrame, share: float, first: str) -> None:
    start = pd.Timestamp(first)
    days = [str((start + pd.Timedelta(days=n)).date()) for n in (-28, 0, 7)]
    week = during(rows, *days[1:])
    week = week.sample(frac=share, random_state=0, replace=share > 1).sort_index()
    assert certain(data_faults.find(log_of(rows, *days[:2]), log_of(week, *days[1:]))) == []


@pytest.mark.parametrize(
    "hours", [(8, 20), *(pytest.param(pair, marks=pytest.mark.slow) for pair in [(6, 22), (12, 15), (7, 6)])]
)
def test_the_days_on_which_traffic_stops_and_returns_are_no_fault_of_slices(
    rows: pd.DataFrame, hours: tuple[int, int]
) -> None:
    """Only the flights of an early morning, then nothing for days, then only those of a late evening."""
    stop = midnight(FIRST) + pd.Timedelta(hours=24 + hours[0])
    back = midnight(FIRST) + pd.Timedelta(hours=24 * 4 + hours[1])
    when = rows[problem.EVENT_TIME]
    current = log_of(rows[(when < stop) | (when >= back)], FIRST, LAST)
    assert certain(data_faults.find(log_of(rows, BEFORE, FIRST), current)) == []


@pytest.mark.parametrize("gone", [["origin=JFK", "origin=LGA"], ["carrier=UA"]], ids="+".join)
def test_slices_that_really_vanish_are_still_found(rows: pd.DataFrame, gone: list[str]) -> None:
    current = during(rows, FIRST, LAST)
    for part in gone:
        name, _, value = part.partition("=")
        current = current[current[name] != value]
    faults = data_faults.find(log_of(rows, BEFORE, FIRST), log_of(current, FIRST, LAST))
    assert {fault.slice for fault in faults if fault.kind == fault_checks.GONE} >= set(gone)


FAULTS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    fault_checks.MISSED: lambda rows: rows.assign(temp=float("nan")),
    fault_checks.STUCK: lambda rows: rows.assign(temp=61.0),
    fault_checks.GONE: lambda rows: rows[rows["origin"] != "LGA"],
    fault_checks.NEW_VALUES: lambda rows: rows.assign(carrier=rows["carrier"].replace({"UA": "ZZ", "DL": "ZZ"})),
    fault_checks.UNRELATED: lambda rows: rows.assign(temp=(rows["temp"] - 32) / 1.8),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_that_began_on_the_last_day_before_the_window_is_found(rows: pd.DataFrame, kind: str) -> None:
    """One bad day is too few for an alarm; on the next run it is a day of the reference, and must not excuse the others."""
    last = (pd.Timestamp(FIRST) - pd.Timedelta(days=1)).strftime("%Y-%m-%d")
    calm = during(rows, BEFORE, LAST)
    when = calm[problem.EVENT_TIME]
    spoiled = pd.concat([calm[when < midnight(last)], FAULTS[kind](calm[when >= midnight(last)])], ignore_index=True)
    assert kind in dict(certain(data_faults.find(log_of(spoiled, BEFORE, FIRST), log_of(spoiled, FIRST, LAST))))
