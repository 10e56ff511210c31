"""The operations store: what is served (routes), who may change it (leases), who did (audit), what was
predicted (predictions), and what really happened (outcomes).

SQLAlchemy Core on SQLite (WAL) by default, PostgreSQL by URL. The row in `routes` says what is to be served, by
version, and `bundles` what each version is, by checksum; a route changes in one transaction with its line in the
append-only `audit` table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from level1_pipeline.errors import LeaseLost, NotFound
from level1_pipeline.store import schema
from level1_pipeline.store.audit import Change, Line
from level1_pipeline.store.audit_columns import columns, read_line
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import (
    INSERT,
    audit,
    bundles,
    clock,
    leases,
    monitoring_runs,
    predictions,
    replay,
    rollouts,
    routes,
)

NAMING_A_VERSION = (
    *(routes.c.champion, routes.c.challenger, routes.c.previous),
    *(audit.c.from_version, audit.c.to_version, rollouts.c.version, predictions.c.version, bundles.c.version),
)
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
        return schema.open_engine(self.url)

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
            after = replace(after, checksums=_checksums(connection, problem, after.versions))
            row = {name: value for name, value in asdict(after).items() if name != "checksums"}
            row |= {"problem": problem, "changed_at": change.at}
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
            if checksums := _checksums(connection, problem, {*filter(None, (from_version, to_version))}):
                change = replace(change, evidence={**change.evidence, "checksums": checksums})
            _record(connection, problem, change, from_version, to_version)

    def rollout(self, problem: str) -> dict[str, Any] | None:
        """The row of the rollout that is going on, or None."""
        with self._reading() as connection:
            row = connection.execute(
                sa.select(rollouts).where(rollouts.c.problem == problem, rollouts.c.state.not_in(ENDED))
            ).first()
        return dict(row._mapping) if row else None

    def newest_monitoring(self, problem: str, until: datetime) -> dict[str, Any] | None:
        """All that the monitoring run over the newest window found; None before the first. A window that ends after
        `until` was seen by a wrong clock."""
        m = monitoring_runs.c
        of_problem = sa.select(m.figures).where(m.problem == problem, m.window_end <= until)
        with self._reading() as connection:
            figures: dict[str, Any] | None = connection.scalar(of_problem.order_by(m.window_end.desc()).limit(1))
        return figures

    def audit_log(self, problem: str) -> list[Line]:
        """The audit log of a problem, oldest line first."""
        lines = sa.select(audit).where(audit.c.problem == problem).order_by(audit.c.id)
        with self._reading() as connection:
            return [read_line(**row) for row in connection.execute(lines).mappings()]

    def checksums(self, problem: str) -> dict[str, str]:
        """What each version is: the checksum of its bundle."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(bundles).where(bundles.c.problem == problem))
            return {row.version: row.checksum for row in rows}

    def record_checksum(self, problem: str, version: str, checksum: str) -> str:
        """Record what a version is, unless that was done. Returns the checksum that counts: the first.

        The primary key decides, so of several processes that record at once all get the same answer.
        """
        row = {"problem": problem, "version": version, "checksum": checksum, "recorded_at": datetime.now(UTC)}
        with self.engine.begin() as connection:
            connection.execute(INSERT[connection.dialect.name](bundles).values(row).on_conflict_do_nothing())
        return self.checksums(problem)[version]

    def versions(self, problem: str) -> set[str]:
        """Every version that the store has ever heard of."""
        named: set[str | None] = set()
        with self._reading() as connection:
            for column in NAMING_A_VERSION:
                of_problem = column.table.c.problem == problem
                named.update(connection.scalars(sa.select(column).where(of_problem).distinct()))
        return {version for version in named if version}

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
        """Move the replay clock. The first time makes a home live by it."""
        with self.engine.begin() as connection:
            connection.execute(replay.delete())
            connection.execute(replay.insert().values(id=1, now=now))
            if connection.scalar(sa.select(clock.c.kind)) is None:
                connection.execute(clock.insert().values(id=1, kind="replay"))


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
    if row is None:
        return Route()
    route = Route(row.champion, row.challenger, row.mode, row.share, row.previous)
    return replace(route, checksums=_checksums(connection, problem, route.versions))


def _checksums(connection: sa.Connection, problem: str, versions: set[str]) -> dict[str, str]:
    named = (bundles.c.problem == problem) & bundles.c.version.in_(sorted(versions))
    return {row.version: row.checksum for row in connection.execute(sa.select(bundles).where(named))}


def _record(connection: sa.Connection, problem: str, change: Change, before: str | None, after: str | None) -> None:
    line = columns(change) | {
        "problem": problem,
        "recorded_at": datetime.now(UTC),
        "from_version": before,
        "to_version": after,
    }
    connection.execute(audit.insert().values(line))
