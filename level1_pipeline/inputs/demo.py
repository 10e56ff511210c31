"""The days, the row and the fault of the demo: from `problem.DEMO`, and what it does not say follows from the data.

`make demo` and `make level2` need them for any problem; a person's own trainings take today on the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from level1_pipeline import problem, schema
from level1_pipeline.errors import NotEnoughData
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings

DEMO = "demo"  # in the place of a day
WEEKS = 12  # of a simulation, at most
CALM_DAYS = 10  # before its fault: the monitoring has seen a week without one
FAULT_DAYS = 3


@dataclass(frozen=True)
class Simulation:
    """Local days, and the column that callers send in another unit (None: no number has two bounds)."""

    trained: str
    first: str
    last: str
    fault: str | None
    fault_from: str
    fault_days: int


def day(settings: Settings, text: str) -> str:
    """A day as it was typed; for the word `demo` the day of the demo's first training: by default half way through the data.

    Raises:
        NotEnoughData: the data has no rows.
    """
    if text != DEMO:
        return text
    if "as_of" in _given():
        return str(_given()["as_of"])
    first, last = _span(settings)
    return str(first + (last - first) / 2)


def row(settings: Settings) -> str:
    """The ID of the row that the demo asks about: by default the first that is decided on the day of its training."""
    if "row" in _given():
        return str(_given()["row"])
    rows, start = source.load(settings), day(settings, DEMO)
    later = rows[rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.strftime("%Y-%m-%d") >= start]
    return str(later.sort_values(problem.EVENT_TIME)[problem.ID].iloc[0])


def simulation(settings: Settings) -> Simulation:
    """The simulation of `make level2`: by default at most twelve weeks from the first training to the data's end, with
    a fault of three days in the first input that is a number with two bounds."""
    given: dict[str, Any] = _given().get("simulate", {})
    trained = given.get("trained") or day(settings, DEMO)
    first = given.get("first", trained)
    last = given.get("last") or min(_moved(first, 7 * WEEKS - 1), str(_span(settings)[1]))
    real = (column for column in schema.columns() if column.kind is schema.Kind.NUMBER)
    numbers = [column.name for column in real if None not in (column.low, column.high)]
    fault = given.get("fault", numbers[0] if numbers else None)
    begin = given.get("fault_from", _moved(first, CALM_DAYS))
    return Simulation(trained, first, last, fault, begin, given.get("fault_days", FAULT_DAYS))


def year(settings: Settings) -> tuple[str, str]:
    """First and last day of `make year`: by default whole weeks from the first Monday after the demo's training on."""
    if "year" in _given():
        first, last = _given()["year"]
        return first, last
    begin = date.fromisoformat(day(settings, DEMO))
    begin += timedelta(days=-begin.weekday() % 7)
    weeks = (_span(settings)[1] - begin + timedelta(days=1)).days // 7
    return str(begin), str(begin + timedelta(days=7 * max(weeks, 1) - 1))


def _given() -> dict[str, Any]:
    return getattr(problem, "DEMO", {})


def _moved(text: str, days: int) -> str:
    return str(date.fromisoformat(text) + timedelta(days=days))


def _span(settings: Settings) -> tuple[date, date]:
    """The first and the last local day of the data that are whole."""
    times = source.load(settings)[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE)
    if times.empty:
        raise NotEnoughData(f"the data of {problem.NAME} has no rows, so it has no days for a demo; look into `load`")
    return times.min().date(), times.max().date() - timedelta(days=1)
