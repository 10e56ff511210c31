"""Rows that are not to be trained on or judged with: spans of time, perhaps of one slice, that a diagnosis set apart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store import Store
from level1_pipeline.tables import quarantine


class Quarantined(NamedTuple):
    """One span, by EVENT_TIME: start included, end excluded; the slice is `column=value`, or empty for all rows."""

    start: datetime
    end: datetime
    slice: str
    reason: str


def spans(store: Store, before: datetime | None = None) -> tuple[Quarantined, ...]:
    """All spans of the problem, or those that were set apart before a time, in order of their start."""
    mine = quarantine.c.problem == problem.NAME
    if before is not None:
        mine &= quarantine.c.at < before
    with store.engine.connect().execution_options(reads_only=True) as connection:
        rows = connection.execute(sa.select(quarantine).where(mine).order_by(quarantine.c.start, quarantine.c.slice))
        return tuple(Quarantined(row.start, row.end, row.slice, row.reason) for row in rows)


def covers(rows: pd.DataFrame, hidden: Iterable[Quarantined]) -> np.ndarray:
    """Which rows lie in a span (and its slice); shape (n,), bool."""
    covered = np.zeros(len(rows), bool)
    for span in hidden:
        during = (rows[problem.EVENT_TIME] >= span.start) & (rows[problem.EVENT_TIME] < span.end)
        column, _, value = span.slice.partition("=")
        covered |= (during & (rows[column].astype(str) == value) if column else during).to_numpy()
    return covered
