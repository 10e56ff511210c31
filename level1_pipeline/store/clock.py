"""The time of all decisions: wall time, a fixed time, or the replay clock that the store keeps (setting `clock`).

A home remembers which of them its predictions, outcomes and monitoring runs were made by. A command that comes with
another one would take all of them for old, or for not yet there, so it is refused.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import ClockRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Change, ClockSet
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import INSERT
from level1_pipeline.store.tables import clock as table

logger = logging.getLogger(__name__)

FIXED = "fixed"  # the kind of all clocks that stand still


def now(settings: Settings) -> datetime:
    """The time on the clock of decisions, aware UTC. Ingest times are wall time and are read elsewhere.

    Raises:
        ClockRefused: the home lives by another clock.
        NotFound: the replay clock was never set.
    """
    store = Store(settings.operations)
    try:
        refuse_another(settings, store)
        return _read(settings, store)
    finally:
        store.close()


def _read(settings: Settings, store: Store) -> datetime:
    if settings.clock == "replay":
        return store.replay_time()
    return datetime.now(UTC) if settings.clock == "wall" else datetime.fromisoformat(settings.clock).astimezone(UTC)


def kind(settings: Settings) -> str:
    """Which clock a command comes with: wall, replay or fixed."""
    return settings.clock if settings.clock in ("wall", "replay") else FIXED


def remembered(store: Store) -> str | None:
    """The clock that the home lives by; None before the first prediction, outcome or monitoring run."""
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return connection.scalar(sa.select(table.c.kind))


def refuse_another(settings: Settings, store: Store) -> None:
    """Raises ClockRefused if the home lives by another clock than the command."""
    lives_by, given = remembered(store), kind(settings)
    if lives_by in (None, given):
        return
    value = "a time, as in 2013-05-06T12:00:00-04:00" if lives_by == FIXED else lives_by
    raise ClockRefused(
        f"the home {settings.home} lives by the clock '{lives_by}', and this command by '{given}': by another clock its "
        f"rows are of another age. Set MLOPS_CLOCK to {value}, take another MLOPS_HOME, or, if the home is to change its "
        f"clock: python -m level1_pipeline clock {given} --reason …"
    )


def live_by(settings: Settings, store: Store) -> None:
    """Remember the clock at the first thing that is kept by it.

    Raises:
        ClockRefused: the home lives by another one.
    """
    if remembered(store) is None:
        row = {"id": 1, "kind": kind(settings)}
        with store.engine.begin() as connection:
            connection.execute(INSERT[connection.dialect.name](table).values(row).on_conflict_do_nothing())
    refuse_another(settings, store)


def replay_moves_on(settings: Settings, by: timedelta) -> None:
    """Move a replay clock; any other one moves by itself or stands still."""
    if settings.clock == "replay":
        store = Store(settings.operations)
        store.set_replay_time(store.replay_time() + by)
        store.close()


def change(settings: Settings, store: Store, kind: str, reason: str) -> None:
    """A person says that the home lives by another clock from now on; with a line in the audit log, at wall time."""
    line = Change(settings.who, ClockSet(kind), reason, datetime.now(UTC), {"before": remembered(store)})
    store.record(problem.NAME, line)
    with store.engine.begin() as connection:
        connection.execute(table.delete())
        connection.execute(table.insert().values(id=1, kind=kind))


class Clock:
    """The same for a service that runs on: it shares a store, and keeps the last replay time while the store fails."""

    def __init__(self, settings: Settings, store: Store):
        self.settings, self.store = settings, store
        self._last: datetime | None = None
        self._remembered = False

    def remember(self) -> None:
        """Let the home live by this clock, once. That it lives by another one was said when the service started."""
        if not self._remembered:
            with suppress(ClockRefused):
                live_by(self.settings, self.store)
            self._remembered = True

    def now(self) -> datetime:
        """Aware UTC."""
        if self.settings.clock != "replay":
            return _read(self.settings, self.store)
        try:
            self._last = self.store.replay_time()
        except Exception:
            if self._last is None:
                raise
            logger.warning("the replay clock cannot be read; its last time %s is used", self._last)
        return self._last
