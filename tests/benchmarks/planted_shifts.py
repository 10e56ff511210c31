"""Shifts of known size, planted in the newest days of real weeks: after how many days does the drift test see them?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from monitoring.detectors import drift
from monitoring.reporting import plots
from monitoring.thresholds import REFERENCE_DAYS, WINDOW_DAYS

if TYPE_CHECKING:
    from tests.benchmarks.drift_power import Year

LENGTHS = (3, 5, 7)  # days since the shift began
Shift = Callable[[pd.DataFrame], pd.DataFrame]


def _add(name: str, size: float) -> Shift:
    """As many standard deviations more."""
    return lambda rows: rows.assign(**{name: rows[name] + size * rows[name].std()})


FLIGHTS: dict[str, Shift] = {
    "recent delay + 0.5 SD": _add("recent_delay", 0.5),
    "recent delay + 1 SD": _add("recent_delay", 1.0),
    "temperature + 2 SD": _add("temp", 2.0),
    "°C for °F": lambda rows: rows.assign(temp=(rows["temp"] - 32) / 1.8),
    "stuck temperature": lambda rows: rows.assign(temp=50.0),
    "clock + 1 h": lambda rows: rows.assign(departure_minute=(rows["departure_minute"] + 60) % 1440),
    "nulls at JFK": lambda rows: rows.assign(recent_delay=rows["recent_delay"].mask(rows["origin"] == "JFK")),
}


def shifts(rows: pd.DataFrame) -> dict[str, Shift]:
    """Those of the flights; for another problem the same kinds, on the number that goes most with the label."""
    if problem.NAME == "flight_delay":
        return FLIGHTS
    numbers = [column.name for column in schema.columns() if not column.text]
    name = rows[numbers].corrwith(rows[problem.TARGET], method="spearman").abs().idxmax()
    middle, part = rows[name].median(), rows[problem.SLICES[0]].mode()[0]
    return {
        **{f"{name} + {size:g} SD": _add(name, size) for size in (0.5, 1.0, 2.0)},
        f"{name} stuck": lambda rows: rows.assign(**{name: middle}),
        f"{name} missing at {part}": lambda rows: rows.assign(
            **{name: rows[name].mask(rows[problem.SLICES[0]] == part)}
        ),
    }


def starts(year: Year) -> list[int]:
    """The first Monday of each month that has enough days before and after it: places in the days of the year."""
    days = pd.to_datetime(pd.Series(year.summaries.index))
    mondays = days[(days.dt.weekday == 0) & (days.dt.day <= 7)].index
    return [place for place in mondays if REFERENCE_DAYS <= place <= len(days) - WINDOW_DAYS]


def delays(year: Year) -> dict[str, dict[int, float]]:
    """For each shift the share of real weeks in which the drift test sees it when it is that many days old.

    The window is the last seven days; only its newest days are shifted, so the first figures are hard. (A shift of two
    weeks lies in the reference, too, and is not seen.)
    """
    weeks = starts(year)
    return {
        name: {length: float(np.mean([_sees(year, week, length, shift) for week in weeks])) for length in LENGTHS}
        for name, shift in shifts(year.rows).items()
    }


def _sees(year: Year, start: int, length: int, shift: Shift) -> bool:
    days = year.summaries.index.to_numpy()[start - REFERENCE_DAYS : start + WINDOW_DAYS]
    shifted = year.summarise(shift(year.days(days[-length:])), like=year.summaries)
    summaries = pd.concat([year.summaries.loc[days[:-length]], shifted])
    return drift.decide(summaries.iloc[:-WINDOW_DAYS], summaries.iloc[-WINDOW_DAYS:], []).verdict == "moved"


def draw(target: Path, gate: float, evidently: float, share: float, seen: dict[str, dict[int, float]]) -> None:
    """The plot of the docs."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(plots.STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        names = ["drift test:\nalarms", "Evidently:\nalarms", "Evidently:\ncolumns flagged"]
        left.bar(names, [gate, evidently, share], color=[plots.BLUE, plots.GREY, plots.GREY])
        left.axhline(0.01, color=plots.RED, lw=1)
        left.set(title="Nothing moved: share of A/A windows", ylim=(0, 1))
        for name, shares in seen.items():
            right.plot(list(shares), list(shares.values()), marker="o", label=name)
        right.set(title="Planted shift: share of weeks seen by the drift test", xlabel="days since the shift began")
        right.set(ylim=(-0.03, 1.05), xticks=list(LENGTHS))
        right.legend(fontsize=7)
        figure.savefig(target, metadata={"Date": None})
