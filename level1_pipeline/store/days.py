"""Local days of the problem: when each of them begins, on which one a time lies, and how people are shown a time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pandas as pd

from level1_pipeline import problem


def start_of(day: date | str) -> pd.Timestamp:
    """The first moment of a local day, `2013-04-01`, as aware UTC: what "as of" means.

    Where the clocks are changed at midnight, a day may have none (it begins at 01:00), or two (it begins at the first).
    """
    which = day if isinstance(day, date) else date.fromisoformat(day)
    # Of two midnights this is the first; one that does not exist is the moment at which the clocks are changed.
    midnight = datetime.combine(which, time(), ZoneInfo(problem.TIMEZONE))
    return pd.Timestamp(midnight.astimezone(UTC))


def date_of(when: datetime) -> date:
    """The local day on which an aware time lies."""
    return when.astimezone(ZoneInfo(problem.TIMEZONE)).date()


def local(when: datetime) -> str:
    """An aware time for people, in the problem's time zone, which it names: `2013-04-01 09:30 EDT`."""
    return f"{when.astimezone(ZoneInfo(problem.TIMEZONE)):%Y-%m-%d %H:%M %Z}"
