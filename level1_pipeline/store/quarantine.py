"""What is not to be trained on or judged with: spans of time, perhaps of one slice, that a diagnosis set apart.

A data fault sets *rows* apart. A label fault sets only their *labels* apart: the inputs are right and go on counting.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import NotFound
from level1_pipeline.store.audit import Change, QuarantineLifted
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import quarantine

What = Literal["rows", "labels"]
ROWS: What = "rows"
LABELS: What = "labels"
AND = " & "  # between the parts of a slice that is a combination of values


class Quarantined(NamedTuple):
    """One span, by EVENT_TIME: start included, end excluded; the slice is `column=value`, a combination of these, or
    empty for all rows."""

    start: datetime
    end: datetime
    slice: str
    reason: str
    at: datetime | None = None  # when it was set apart, on the clock of decisions
    lifted_at: datetime | None = None  # when a person found that it is no fault
    what: What = ROWS  # or only their labels, which then count as missing


def spans(store: Store, before: datetime | None = None) -> tuple[Quarantined, ...]:
    """All spans that are in force, or those that were set apart before a time, in order of their start."""
    return tuple(
        span
        for span in sorted(listed(store), key=_order)
        if span.lifted_at is None and (before is None or (span.at and span.at < before))
    )


def lifted(store: Store) -> tuple[Quarantined, ...]:
    """The spans that a person found to be no fault, in order of their start."""
    return tuple(span for span in sorted(listed(store), key=_order) if span.lifted_at)


def _order(span: Quarantined) -> tuple[datetime, str, str]:
    return span.start, span.slice, span.what


def listed(store: Store) -> list[Quarantined]:
    """Every span of the problem, lifted or not, as it was set apart: the first one is number 1."""
    q = quarantine.c
    columns = [q[name] for name in Quarantined._fields]
    rows = sa.select(*columns).where(q.problem == problem.NAME).order_by(q.at, q.start, q.end, q.slice, q.what)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return [Quarantined(*row) for row in connection.execute(rows)]


def lift(store: Store, number: int, who: str, reason: str, now: datetime) -> Quarantined:
    """Let the rows of a span count again, with a line in the audit log. The row stays, so that no run brings it back.

    Raises:
        NotFound: there is no such span, or it was lifted before.
    """
    span = dict(enumerate(listed(store), 1)).get(number)
    if span is None or span.lifted_at:
        message = "was lifted before" if span else "does not exist"
        raise NotFound(f"the span {number} of {problem.NAME} {message}; list them: python -m monitoring quarantine")
    about = {"start": span.start.isoformat(), "end": span.end.isoformat(), "slice": span.slice, "why": span.reason}
    about["what"] = span.what
    # First of all: a run that is killed here is made good by the next, and nothing is lifted without a line.
    store.record(problem.NAME, Change(who, QuarantineLifted(), reason, now, about))
    q = quarantine.c
    same = (q.problem == problem.NAME) & (q.start == span.start) & (q.end == span.end)
    same &= (q.slice == span.slice) & (q.what == span.what)
    with store.engine.begin() as connection:
        connection.execute(quarantine.update().where(same).values(lifted_at=now))
    return span._replace(lifted_at=now)


def covers(rows: pd.DataFrame, hidden: Iterable[Quarantined], what: What = ROWS) -> np.ndarray:
    """Which rows, or labels, lie in a span (and its slice); shape (n,), bool."""
    covered = np.zeros(len(rows), bool)
    for span in (span for span in hidden if span.what == what):
        during = (rows[problem.EVENT_TIME] >= span.start) & (rows[problem.EVENT_TIME] < span.end)
        for part in filter(None, span.slice.split(AND)):
            column, _, value = part.partition("=")
            during &= rows[column].astype(str) == value
        covered |= during.to_numpy()
    return covered


def without_labels(rows: pd.DataFrame, hidden: Iterable[Quarantined]) -> pd.DataFrame:
    """The rows, with a missing TARGET where their labels are in quarantine."""
    return rows.assign(**{problem.TARGET: rows[problem.TARGET].mask(covers(rows, hidden, LABELS))})
