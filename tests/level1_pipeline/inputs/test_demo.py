"""The days of the demo: for flights those that the docs tell of, for any other problem days that its data has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from examples.simulated_regression import problem as friedman
from level1_pipeline import problem, schema
from level1_pipeline.inputs import demo
from level1_pipeline.inputs.demo import DEMO, Simulation
from level1_pipeline.settings import Settings


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A problem that says no days."""
    for name in (name for name in vars(friedman) if name.isupper() or name in ("Record", "load")):
        monkeypatch.setattr(problem, name, getattr(friedman, name), raising=False)
    monkeypatch.delattr(problem, "DEMO", raising=False)
    schema.columns.cache_clear()
    yield
    schema.columns.cache_clear()


@pytest.mark.flights
def test_the_demo_of_flights_has_the_days_that_the_docs_tell_of(home: Settings) -> None:
    summer = Simulation("2013-04-01", "2013-05-18", "2013-08-09", "temp", "2013-05-28", 3)
    assert demo.simulation(home) == summer
    assert (demo.day(home, DEMO), demo.row(home)) == ("2013-04-01", "UA-1545-EWR-2013-04-01")
    assert demo.year(home) == ("2013-04-01", "2013-12-29")


@pytest.mark.usefixtures("another")
def test_without_a_word_the_days_follow_from_the_data(home: Settings) -> None:
    """200 days from 1 January 2024 on: half way is 9 April, and the last whole day is 17 July."""
    simulated = demo.simulation(home)
    assert simulated == Simulation("2024-04-09", "2024-04-09", "2024-07-01", "x0", "2024-04-19", 3)
    assert demo.day(home, DEMO) == "2024-04-09"
    assert demo.row(home) == "row-9900"
    first, last = (date.fromisoformat(day) for day in demo.year(home))
    assert (first.weekday(), last.weekday(), str(first), str(last)) == (0, 6, "2024-04-15", "2024-07-14")


@pytest.mark.usefixtures("another")
def test_what_the_problem_says_of_its_demo_is_kept_and_the_rest_follows(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "DEMO", {"simulate": {"first": "2024-05-01", "fault": "x3"}}, raising=False)
    assert demo.simulation(home) == Simulation("2024-04-09", "2024-05-01", "2024-07-17", "x3", "2024-05-11", 3)


@pytest.mark.usefixtures("another")
def test_a_day_that_is_typed_stays_as_it_is(home: Settings) -> None:
    assert demo.day(home, "2024-06-01") == "2024-06-01"
