"""How many requests there are a day, and on which days of a window there are none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta

from level1_pipeline import problem
from level1_pipeline.store.days import date_of, start_of
from level1_pipeline.store.quarantine import Quarantined
from monitoring.data.aggregates import ALL
from monitoring.data.prediction_window import Log
from monitoring.thresholds import DRIFT_MIN_MATURED_ROWS, EMPTY_DAYS_MIN, FAULT_MIN_ROWS


@dataclass(frozen=True)
class Traffic:
    """How a window was filled with requests."""

    days: int = 0  # of the window
    requests: int = 0
    filled_days: int = 0  # with requests
    empty_days: tuple[date, ...] = ()  # without a request, after requests began
    stopped: bool = False  # there are more of them than in any stretch of the days before that is as long

    @property
    def enough_a_day(self) -> int:
        """Requests a day that leave enough matured outcomes in such a window, whose newest days are open still, and enough
        rows on each day to judge its inputs by. (Those of all rows: a slice is judged where it has as many.)"""
        matured_days = self.days - problem.GATE["maturity_hours"] / 24
        return max(math.ceil(DRIFT_MIN_MATURED_ROWS / max(matured_days, 1.0)), FAULT_MIN_ROWS)

    @property
    def too_little(self) -> bool:
        """Whether even days that are all filled like the others do not give enough."""
        return self.filled_days > 0 and self.requests / self.filled_days < self.enough_a_day


def look(current: Log, logged: Log, reference: Log, quarantined: tuple[Quarantined, ...]) -> Traffic:
    """How the window was filled, against the days before.

    Args:
        current: the window.
        logged: what was really requested before it; without any, requests began in the window.
        reference: the days that are taken as usual.
        quarantined: the spans that were left out of the logs: their days are not empty.
    """
    filled, days = _filled(current), _days(current, quarantined)
    began = min(filled, default=None) if logged.sums.rows is None else date.min
    empty = tuple(day for day in days if day not in filled and began and day >= began)
    usual = _most_empty(reference, len(days), quarantined)
    requests = 0 if current.sums.rows is None else int(current.sums.rows.xs(ALL, level="slice").sum())
    window_days = (date_of(current.window.end) - date_of(current.window.start)).days
    return Traffic(window_days, requests, len(filled), empty, len(empty) >= max(EMPTY_DAYS_MIN, usual + 1))


def _filled(log: Log) -> set[date]:
    return set() if log.sums.rows is None else set(log.sums.rows.index.get_level_values("day"))


def _days(log: Log, quarantined: tuple[Quarantined, ...]) -> list[date]:
    """The local days of a window of which no rows were set apart."""
    first, last = date_of(log.window.start), date_of(log.window.end)
    days = [first + timedelta(days=number) for number in range((last - first).days)]
    return [day for day in days if not any(_covers_a_part(span, day) for span in quarantined)]


def _covers_a_part(span: Quarantined, day: date) -> bool:
    return bool(span.start < start_of(day + timedelta(days=1)) and span.end > start_of(day))


def _most_empty(reference: Log, length: int, quarantined: tuple[Quarantined, ...]) -> int:
    """The most days without a request in any stretch of the reference, from its first request on."""
    filled = _filled(reference)
    days = [day for day in _days(reference, quarantined) if filled and day >= min(filled)]
    is_empty = [day not in filled for day in days]
    return max((sum(is_empty[start : start + length]) for start in range(len(days))), default=0)
