"""Local days, also where the clocks are changed at midnight."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.orchestration.run import today
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import date_of, local, start_of
from monitoring import history
from monitoring.data.prediction_window import before, last_days
from monitoring.thresholds import WINDOW_DAYS

CHANGES = [  # a day whose midnight does not exist, or that has two, or 25 or 23 hours
    ("America/Santiago", date(2013, 9, 8)),
    ("America/Santiago", date(2013, 4, 28)),
    ("America/Sao_Paulo", date(2013, 10, 20)),
    ("America/Sao_Paulo", date(2013, 2, 17)),
    ("Africa/Cairo", date(2014, 5, 16)),
    ("Asia/Beirut", date(2013, 3, 31)),
    ("America/Havana", date(2013, 3, 10)),
    ("America/Havana", date(2013, 11, 3)),
    ("America/New_York", date(2013, 3, 10)),
    ("America/New_York", date(2013, 11, 3)),
    ("Asia/Kolkata", date(2013, 5, 1)),
]


@pytest.fixture(params=CHANGES, ids=str)
def changed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> date:
    zone: str
    day: date
    zone, day = request.param
    monkeypatch.setattr(problem, "TIMEZONE", zone)
    return day


def test_days_follow_each_other_without_a_gap(changed: date) -> None:
    days = [changed + timedelta(days=n) for n in range(-2, 3)]
    starts = [start_of(day) for day in days]
    assert [date_of(start) for start in starts] == days
    assert [date_of(start - timedelta(seconds=1)) for start in starts[1:]] == days[:-1]
    assert {(after - first) / pd.Timedelta("1h") for first, after in pairwise(starts)} <= {
        23,
        24,
        25,
    }


def test_today_begins_where_the_day_does(changed: date, home: Settings) -> None:
    for hour in range(0, 23, 2):
        noon = start_of(changed) + pd.Timedelta(hours=hour)
        assert today(home.changed({"clock": noon.isoformat()})) == start_of(changed)


def test_windows_are_whole_days_that_touch(changed: date) -> None:
    for n in range(9):
        now = (start_of(changed + timedelta(days=n)) + pd.Timedelta("12h")).to_pydatetime()
        window = last_days(now, WINDOW_DAYS)
        assert (date_of(window.start), date_of(window.end)) == (date_of(now) - timedelta(days=7), date_of(now))
        assert history.counts(window)
        assert before(window, 3).end == window.start
        assert date_of(before(window, 3).start) == date_of(window.start) - timedelta(days=3)


def test_a_day_that_a_zone_left_out_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "TIMEZONE", "Pacific/Apia")
    assert start_of("2011-12-30") == start_of("2011-12-31")


def test_a_time_is_shown_with_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "TIMEZONE", "America/New_York")
    assert local(datetime.fromisoformat("2013-04-01T00:30Z")) == "2013-03-31 20:30 EDT"
