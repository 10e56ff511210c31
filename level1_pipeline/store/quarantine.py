"""Rows that are not to be trained on or judged with: spans of time, perhaps of one slice, that a diagnosis set apart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import NotFound
from level1_pipeline.store.audit import Change, QuarantineLifted
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import quarantine


class Quarantined(NamedTuple):
    """One span, by EVENT_TIME: start included, end excluded; the slice is `column=value`, or empty for all rows."""

    start: datetime
    end: datetime
    slice: str
    reason: str


def spans(store: Store, before: datetime | None = None) -> tuple[Quarantined, ...]:
    """All spans that are in force, or those that were set apart before a time, in order of their start."""
    known = [one for one in listed(store) if one["lifted_at"] is None and (before is None or one["at"] < before)]
    return _spans(known)


def lifted(store: Store) -> tuple[Quarantined, ...]:
    """The spans that a person found to be no fault, in order of their start."""
    return _spans([one for one in listed(store) if one["lifted_at"] is not None])


def _spans(known: list[dict[str, Any]]) -> tuple[Quarantined, ...]:
    ordered = sorted(known, key=lambda one: (one["start"], one["slice"]))
    return tuple(Quarantined(*(one[name] for name in Quarantined._fields)) for one in ordered)


def listed(store: Store) -> list[dict[str, Any]]:
    """Every span of the problem, lifted or not, as it was set apart: the first one is number 1."""
    q = quarantine.c
    mine = sa.select(quarantine).where(q.problem == problem.NAME).order_by(q.at, q.start, q.end, q.slice)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return [dict(row._mapping) for row in connection.execute(mine)]


def lift(store: Store, number: int, who: str, reason: str, now: datetime) -> Quarantined:
    """Let the rows of a span count again, with a line in the audit log. The row stays, so that no pass brings it back.

    Raises:
        NotFound: there is no such span, or it was lifted before.
    """
    known = dict(enumerate(listed(store), 1)).get(number)
    if known is None or known["lifted_at"] is not None:
        message = "was lifted before" if known else "does not exist"
        raise NotFound(f"the span {number} of {problem.NAME} {message}; list them: python -m monitoring quarantine")
    (span,) = _spans([known])
    about = {"start": span.start.isoformat(), "end": span.end.isoformat(), "slice": span.slice, "why": span.reason}
    # First of all: a run that is killed here is made good by the next, and nothing is lifted without a line.
    store.record(problem.NAME, Change(who, QuarantineLifted(), reason, now, about))
    with store.engine.begin() as connection:
        this = [key == known[key.name] for key in quarantine.primary_key.columns]
        connection.execute(quarantine.update().where(*this).values(lifted_at=now))
    return span


def covers(rows: pd.DataFrame, hidden: Iterable[Quarantined]) -> np.ndarray:
    """Which rows lie in a span (and its slice); shape (n,), bool."""
    covered = np.zeros(len(rows), bool)
    for span in hidden:
        during = (rows[problem.EVENT_TIME] >= span.start) & (rows[problem.EVENT_TIME] < span.end)
        column, _, value = span.slice.partition("=")
        covered |= (during & (rows[column].astype(str) == value) if column else during).to_numpy()
    return covered
