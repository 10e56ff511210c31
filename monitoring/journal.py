"""What passes leave behind in the store: their own row, and spans of rows in quarantine. Writing twice changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store import Store
from level1_pipeline.tables import INSERT, passes, quarantine
from monitoring.findings import Pass, Window


def earlier(store: Store, window: Window, days: int, count: int) -> list[Pass]:
    """The passes over the windows that end where this one begins, and so on back; the newest first.

    Passes may run every day over a week: their windows overlap and must not count twice.
    """
    end = pd.Timestamp(window.end).tz_convert(problem.TIMEZONE)
    ends = [(end - pd.DateOffset(days=days * back)).tz_convert("UTC").to_pydatetime() for back in range(1, count + 1)]
    mine = (passes.c.problem == problem.NAME) & passes.c.window_end.in_(ends)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        rows = connection.execute(sa.select(passes.c.figures).where(mine).order_by(passes.c.window_end.desc()))
        return [Pass.from_dict(row.figures) for row in rows]


def newest(store: Store) -> Pass | None:
    """The pass over the newest window, if there was any."""
    mine = sa.select(passes.c.figures).where(passes.c.problem == problem.NAME)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        found = connection.scalar(mine.order_by(passes.c.window_end.desc()).limit(1))
    return Pass.from_dict(found) if found else None


def write(store: Store, found: Pass) -> None:
    """Keep a pass and its quarantine in one transaction; the same window replaces itself."""
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
    spans = [vars(span) | {"problem": found.problem, "at": found.at} for span in found.diagnosis.quarantine]
    with store.engine.begin() as connection:
        keys = [passes.c.problem, passes.c.window_end]
        connection.execute(insert(passes).values(row).on_conflict_do_update(index_elements=keys, set_=row))
        if spans:
            connection.execute(insert(quarantine).on_conflict_do_nothing(), spans)
