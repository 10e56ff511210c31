"""What passes leave behind in the store: their own row, and spans of rows in quarantine. Writing twice changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store import quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.quarantine import Quarantined
from level1_pipeline.store.tables import INSERT, monitoring_runs
from level1_pipeline.store.tables import quarantine as table
from monitoring.results import MonitoringRun, Span, Window

DAYS = 7  # of the window of a pass that counts


def earlier(store: Store, window: Window, days: int, count: int) -> list[MonitoringRun]:
    """The passes over the windows that end where this one begins, and so on back; the newest first.

    Passes may run every day over a week: their windows overlap and must not count twice.
    """
    end = pd.Timestamp(window.end).tz_convert(problem.TIMEZONE)
    ends = [(end - pd.DateOffset(days=days * back)).tz_convert("UTC").to_pydatetime() for back in range(1, count + 1)]
    mine = (monitoring_runs.c.problem == problem.NAME) & monitoring_runs.c.window_end.in_(ends)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        rows = connection.execute(
            sa.select(monitoring_runs.c.figures).where(mine).order_by(monitoring_runs.c.window_end.desc())
        )
        return [MonitoringRun.from_dict(row.figures) for row in rows]


def newest(store: Store) -> MonitoringRun | None:
    """The pass over the newest window, if there was any."""
    mine = sa.select(monitoring_runs.c.figures).where(monitoring_runs.c.problem == problem.NAME)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        found = connection.scalar(mine.order_by(monitoring_runs.c.window_end.desc()).limit(1))
    return MonitoringRun.from_dict(found) if found else None


def usual(window: Window) -> bool:
    """Whether a window has the length that passes are counted by. One of another length is a look: it leaves no trace
    but its report, because persistence, tickets and the control loop compare windows of one length."""
    return round((window.end - window.start) / timedelta(days=1)) == DAYS


def write(store: Store, found: MonitoringRun) -> None:
    """Keep a pass and its quarantine in one transaction. The same window replaces itself and what it had set apart."""
    if not usual(found.window):
        return
    row = {
        "problem": found.problem,
        "window_end": found.window.end,
        "window_start": found.window.start,
        "at": found.at,
        "recorded_at": datetime.now(UTC),
        "version": found.champion,
        "cause": found.diagnosis.cause,
        "action": found.diagnosis.action,
        "figures": found.as_dict(),
    }
    insert = INSERT[store.engine.dialect.name]
    spans = [
        vars(span) | {"problem": found.problem, "at": found.at}
        for span in (_beyond(one, quarantine.lifted(store)) for one in found.diagnosis.quarantine)
        if span.start < span.end
    ]
    with store.engine.begin() as connection:
        _withdraw(connection, found)
        keys = [monitoring_runs.c.problem, monitoring_runs.c.window_end]
        connection.execute(insert(monitoring_runs).values(row).on_conflict_do_update(index_elements=keys, set_=row))
        if spans:
            connection.execute(insert(table).on_conflict_do_nothing(), spans)


def _beyond(span: Span, lifted: tuple[Quarantined, ...]) -> Span:
    """What is left of a span after those that a person has lifted; windows move on, so only its beginning is cut."""
    for one in lifted:
        if one.slice in ("", span.slice) and one.start <= span.start < one.end:
            span = replace(span, start=one.end)
    return span


def _withdraw(connection: sa.Connection, found: MonitoringRun) -> None:
    """Delete what an earlier run of this pass had set apart: it is found again, or it was none."""
    mine = (monitoring_runs.c.problem == found.problem) & (monitoring_runs.c.window_end == found.window.end)
    at = sa.select(monitoring_runs.c.at).where(mine).scalar_subquery()
    own = (table.c.problem == found.problem) & (table.c.at == at) & (table.c.end <= found.window.end)
    connection.execute(table.delete().where(own, table.c.lifted_at.is_(None)))
