"""Deleting what is older than the retention. (The rows of one entity: `forgetting`.)"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import DeletionRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Change, OldRowsDeleted
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import outcomes, predictions

ROWS_IN_STATEMENT = 10_000  # rows deleted in one statement, so that the service gets its turn
# What retention deletes without a person: so large a share of all rows, or the rows of so many days (of half of a
# shorter retention). Each run deletes what has come of age since the last one, which is no small share of few days.
AT_ONCE, AT_ONCE_DAYS = 0.1, 31.0


@dataclass(frozen=True)
class OldRows:
    """Rows of a table that are older than the retention."""

    count: int
    total: int  # rows of the table
    oldest: datetime | None

    def are_many(self, days_ago: datetime) -> bool:
        """Whether they are too many to be deleted without a person."""
        return self.count > AT_ONCE * self.total and self.oldest is not None and self.oldest < days_ago


def retain(settings: Settings, store: Store, now: datetime, confirmed: bool = False) -> tuple[int, int]:
    """Delete predictions older than the retention, and outcomes that old without one. Returns how many of each.

    A clock may be wrong, and what is deleted is gone. So age is counted from the newest event in the log, if that is
    before `now`, and more than AT_ONCE is deleted only after a person has `confirmed` it: then `now` alone counts.

    Raises:
        DeletionRefused: so much is old that the clock, or the setting, is more likely to be wrong.
    """
    newest = now if confirmed else _newest_event(store, now)
    if newest is None:
        return 0, 0
    before = min(now, newest) - timedelta(days=settings.retention_days)
    p, o = predictions.c, outcomes.c
    logged, old_predictions = p.problem == problem.NAME, p.at < before
    reported, old_outcomes = o.problem == problem.NAME, o.known_at < before
    # A list, made once: SQLite would look through all young rows for each outcome if it were a condition on two rows.
    young = sa.select(p.id).where(logged, ~old_predictions)
    old = {
        "predictions": _old_rows(store, p.at, logged, old_predictions),
        "outcomes": _old_rows(store, o.known_at, reported, old_outcomes & o.id.not_in(young)),
    }
    if not any(rows.count for rows in old.values()):
        return 0, 0
    what = " and ".join(f"{rows.count} {name}" for name, rows in old.items())
    if not confirmed:
        _refuse_many(settings, [*old.values()], before, what)
    # First of all: what is deleted without a line would never be noticed.
    message = f"{what} older than {settings.retention_days:g} days deleted"
    store.record(problem.NAME, Change(settings.who, OldRowsDeleted(), message, now, {"before": before.isoformat()}))
    ids = sa.select(p.id, p.arm).where(logged, old_predictions).limit(ROWS_IN_STATEMENT)
    deleted = _delete_all(store, predictions.delete().where(logged, sa.tuple_(p.id, p.arm).in_(ids)))
    alone = sa.select(o.id).where(reported, old_outcomes, o.id.not_in(young)).limit(ROWS_IN_STATEMENT)
    return deleted, _delete_all(store, outcomes.delete().where(reported, o.id.in_(alone)))


def _refuse_many(settings: Settings, old: list[OldRows], before: datetime, what: str) -> None:
    days = min(AT_ONCE_DAYS, settings.retention_days / 2)
    if any(rows.are_many(before - timedelta(days=days)) for rows in old):
        raise DeletionRefused(
            f"{what} are older than {settings.retention_days:g} days, from before {before:%Y-%m-%d}, which is more than "
            f"{AT_ONCE:.0%} of all and more than {days:g} days, so nothing was deleted: if the clock and "
            "MLOPS_RETENTION_DAYS are right, say so with python -m monitoring retain --confirm"
        )


def _newest_event(store: Store, now: datetime) -> datetime | None:
    """The newest prediction or outcome until now; None without any. Those after it were made by a wrong clock."""
    with store.engine.connect().execution_options(reads_only=True) as connection:
        times = [
            connection.scalar(sa.select(sa.func.max(at)).where(at.table.c.problem == problem.NAME, at <= now))
            for at in (predictions.c.at, outcomes.c.confirmed_at)
        ]
    return max(filter(None, times), default=None)


def _old_rows(store: Store, at: Any, of_problem: Any, old: Any) -> OldRows:
    """What is old in the table of the column `at`."""
    with store.engine.connect().execution_options(reads_only=True) as connection:
        total = connection.scalar(sa.select(sa.func.count()).select_from(at.table).where(of_problem))
        count, oldest = connection.execute(sa.select(sa.func.count(), sa.func.min(at)).where(of_problem, old)).one()
    return OldRows(count, total or 0, oldest)


def _delete_all(store: Store, statement: sa.Delete) -> int:
    """Repeat a delete of a bounded number of rows until none is left, each in its own transaction."""
    deleted = 0
    while True:
        with store.engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA secure_delete = ON")  # freed pages are overwritten
            rows = connection.execute(statement).rowcount
        deleted += rows
        if not rows:
            return deleted
