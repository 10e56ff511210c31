"""Which --as-of leaves enough rows: a later one, or an earlier one if the data ends before it."""

from __future__ import annotations

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.store.days import date_of


def advice(rows: pd.DataFrame, as_of: pd.Timestamp) -> str:
    """What to do where a training as of a time has too few rows."""
    if rows.empty:
        return f"there is no row before {date_of(as_of)}: choose a later --as-of"
    times = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE)
    matured = as_of - pd.Timedelta(hours=problem.GATE["maturity_hours"])
    if times.max() > matured - pd.Timedelta(days=1):
        return "choose a later --as-of, or lower GATE['min_rows']"
    latest = times.max() + pd.Timedelta(hours=problem.GATE["maturity_hours"])
    return f"the data ends on {times.max():%Y-%m-%d}: choose an earlier --as-of, as {latest.ceil('D'):%Y-%m-%d}"
