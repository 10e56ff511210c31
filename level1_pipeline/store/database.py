"""The operations store: what is served (routes), who may change it (leases), who did (audit), what was
predicted (predictions), and what really happened (outcomes).

SQLAlchemy Core on SQLite (WAL) by default, PostgreSQL by URL. The row in `routes` is the only truth
about what is served; it changes in one transaction with its line in the append-only `audit` table.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json

from level1_pipeline.errors import LeaseLost, NotFound
from level1_pipeline.store import schema
from level1_pipeline.store.audit import Change, Line
from level1_pipeline.store.audit_columns import columns, read_line
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import audit, leases, replay, rollouts, routes

ENDED = ("champion", "rolled back")  # the last states of a rollout


@dataclass(frozen=True)
class Lease:
    """The right to act under a name, until it expires or is released. The token fences off old holders."""

    name: str
    token: int


class Store:
    """The operations database behind one SQLAlchemy URL. Nothing is opened before the first use."""

    def __init__(self, url: str):
        self.url = url

    @cached_property
    def engine(self) -> sa.Engine:
        """The engine, with the tables made or migrated (safe for parallel starts)."""
        url = sa.make_url(self.url)
        if url.get_backend_name() == "sqlite":
            Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
            engine = sa.create_engine(url, connect_args={"timeout": 30}, json_serializer=_json)
            sa.event.listen(engine, "connect", _configure_sqlite)
            sa.event.listen(engine, "begin", _begin)
        else:
            # A restarted or unreachable server must cost seconds, not a broken pool or a hanging thread.
            if url.drivername == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            engine = sa.create_engine(
                url, pool_pre_ping=True, connect_args={"connect_timeout": 5}, json_serializer=_json
            )
        schema.bring_up_to_date(engine)
        return engine

    def close(self) -> None:
        """Give the connections back; the next use opens new ones."""
        if "engine" in vars(self):
            self.engine.dispose()

    def _reading(self) -> sa.Connection:
        """A connection that only reads, and waits for no writer."""
        return self.engine.connect().execution_options(reads_only=True)

    def route(self, problem: str) -> Route:
        """What is served now; an empty Route before the first promotion."""
        with self._reading() as connection:
            return _route(connection, problem)

    def change_route(
        self, problem: str, lease: Lease, change: Change, also: Sequence[sa.Executable] = (), **values: Any
    ) -> Route:
        """Set columns of the route, write the audit line and run the statements in `also`, in one transaction,
        fenced by the lease.

        Raises:
            LeaseLost: the lease went to another holder meanwhile; nothing was written.
        """
        with self.engine.begin() as connection:
            _fence(connection, lease)
            for statement in also:
                connection.execute(statement)
            before = _route(connection, problem)
            after = replace(before, **values)
            row = {"problem": problem, "changed_at": change.at, **asdict(after)}
            exists = connection.scalar(sa.select(sa.func.count()).where(routes.c.problem == problem))
            connection.execute(
                routes.update().where(routes.c.problem == problem).values(row)
                if exists
                else routes.insert().values(row)
            )
            routes_ = {"route_before": asdict(before), "route_after": asdict(after)}
            change = replace(change, evidence={**change.evidence, **routes_})
            _record(connection, problem, change, before.champion, after.champion)
        return after

    def write(self, lease: Lease, statements: Sequence[sa.Executable]) -> None:
        """Run statements in one transaction, fenced by the lease. Raises LeaseLost, see `change_route`."""
        with self.engine.begin() as connection:
            _fence(connection, lease)
            for statement in statements:
                connection.execute(statement)

    def record(
        self,
        problem: str,
        change: Change,
        from_version: str | None = None,
        to_version: str | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Write an audit line about something that did not change the route, fenced by a lease if one is given."""
        with self.engine.begin() as connection:
            if lease:
                _fence(connection, lease)
            _record(connection, problem, change, from_version, to_version)

    def rollout(self, problem: str) -> dict[str, Any] | None:
        """The row of the rollout that is going on, or None."""
        with self._reading() as connection:
            row = connection.execute(
                sa.select(rollouts).where(rollouts.c.problem == problem, rollouts.c.state.not_in(ENDED))
            ).first()
        return dict(row._mapping) if row else None

    def audit_log(self, problem: str) -> list[Line]:
        """The audit log of a problem, oldest line first."""
        lines = sa.select(audit).where(audit.c.problem == problem).order_by(audit.c.id)
        with self._reading() as connection:
            return [read_line(**row) for row in connection.execute(lines).mappings()]

    def replay_time(self) -> datetime:
        """The time on the replay clock.

        Raises:
            NotFound: the clock was never set.
        """
        with self._reading() as connection:
            now = connection.scalar(sa.select(replay.c.now))
        if now is None:
            raise NotFound("the replay clock was never set; start a replay, or use MLOPS_CLOCK=wall")
        return now

    def set_replay_time(self, now: datetime) -> None:
        """Move the replay clock."""
        with self.engine.begin() as connection:
            connection.execute(replay.delete())
            connection.execute(replay.insert().values(id=1, now=now))


def _json(value: Any) -> str:
    """As `json.dumps`, in a quarter of the time."""
    return to_json(value).decode()


def _fence(connection: sa.Connection, lease: Lease) -> None:
    holds = (
        sa.select(leases.c.token)
        .where(leases.c.name == lease.name, leases.c.expires_at > datetime.now(UTC))
        .with_for_update()
    )
    if connection.scalar(holds) != lease.token:
        raise LeaseLost(
            f"the lease '{lease.name}' expired or went to another process, so nothing was changed; look at the history and try again"
        )


def _route(connection: sa.Connection, problem: str) -> Route:
    row = connection.execute(sa.select(routes).where(routes.c.problem == problem)).first()
    return Route(row.champion, row.challenger, row.mode, row.share, row.previous) if row else Route()


def _record(connection: sa.Connection, problem: str, change: Change, before: str | None, after: str | None) -> None:
    line = columns(change) | {
        "problem": problem,
        "recorded_at": datetime.now(UTC),
        "from_version": before,
        "to_version": after,
    }
    connection.execute(audit.insert().values(line))


def _configure_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver
    connection.execute("PRAGMA busy_timeout = 30000")
    deadline = time.monotonic() + 30
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # SQLite does not wait for the lock when several first openers switch the mode at once.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin(connection: sa.Connection) -> None:
    # Take the write lock at the start: an upgrade in the middle of a transaction fails at once when raced.
    reads_only = connection.get_execution_options().get("reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
