"""What monitoring runs leave in the store: their own row, and spans of rows in quarantine. Writing twice changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store import quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of, start_of
from level1_pipeline.store.quarantine import Quarantined
from level1_pipeline.store.tables import INSERT, monitoring_runs
from level1_pipeline.store.tables import quarantine as table
from monitoring.results import MonitoringRun, Span, Window
from monitoring.thresholds import WINDOW_DAYS


def earlier(store: Store, window: Window, days: int, count: int) -> tuple[MonitoringRun, ...]:
    """The runs over the windows that end where this one begins, and so on back; the newest first.

    There may be a run every day over a week: their windows overlap and must not count twice.
    """
    end = date_of(window.end)
    ends = [start_of(end - timedelta(days=days * back)).to_pydatetime() for back in range(1, count + 1)]
    ended_then = (monitoring_runs.c.problem == problem.NAME) & monitoring_runs.c.window_end.in_(ends)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        rows = connection.execute(
            sa.select(monitoring_runs.c.figures).where(ended_then).order_by(monitoring_runs.c.window_end.desc())
        )
        return tuple(MonitoringRun.from_dict(row.figures) for row in rows)


def newest(store: Store, now: datetime) -> MonitoringRun | None:
    """The run over the newest window, if there was any. A window that ends after `now` was seen by a wrong clock."""
    figures = store.newest_monitoring(problem.NAME, now)
    return MonitoringRun.from_dict(figures) if figures else None


def counts(window: Window) -> bool:
    """Whether a window has WINDOW_DAYS. A run over another length leaves nothing but its report, because persistence,
    tickets and the control loop compare windows of one length."""
    return date_of(window.end) - date_of(window.start) == timedelta(days=WINDOW_DAYS)


def record(store: Store, run: MonitoringRun) -> None:
    """Keep a run and its quarantine in one transaction. The same window replaces itself and what it had set apart."""
    if not counts(run.window):
        return
    row = {
        "problem": run.problem,
        "window_end": run.window.end,
        "window_start": run.window.start,
        "at": run.at,
        "recorded_at": datetime.now(UTC),
        "version": run.champion,
        "cause": run.diagnosis.cause,
        "action": run.diagnosis.action,
        "figures": run.as_dict(),
    }
    insert = INSERT[store.engine.dialect.name]
    spans = [
        vars(span) | {"problem": run.problem, "at": run.at}
        for span in (_not_lifted(span, quarantine.lifted(store)) for span in run.diagnosis.quarantine)
        if span.start < span.end
    ]
    with store.engine.begin() as connection:
        _withdraw(connection, run)
        keys = [monitoring_runs.c.problem, monitoring_runs.c.window_end]
        connection.execute(insert(monitoring_runs).values(row).on_conflict_do_update(index_elements=keys, set_=row))
        if spans:
            connection.execute(insert(table).on_conflict_do_nothing(), spans)


def _not_lifted(span: Span, lifted: tuple[Quarantined, ...]) -> Span:
    """What is left of a span after those that a person has lifted; windows move on, so only its beginning is cut."""
    for other in lifted:
        if other.what == span.what and other.slice in ("", span.slice) and other.start <= span.start < other.end:
            span = replace(span, start=other.end)
    return span


def _withdraw(connection: sa.Connection, run: MonitoringRun) -> None:
    """Delete what an earlier run over this window had set apart: it is set apart again, or it was no fault."""
    same_window = (monitoring_runs.c.problem == run.problem) & (monitoring_runs.c.window_end == run.window.end)
    at = sa.select(monitoring_runs.c.at).where(same_window).scalar_subquery()
    own = (table.c.problem == run.problem) & (table.c.at == at) & (table.c.end <= run.window.end)
    connection.execute(table.delete().where(own, table.c.lifted_at.is_(None)))
