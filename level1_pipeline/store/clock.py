"""The time of all decisions: wall time, a fixed time, or the replay clock that the store keeps (setting `clock`)."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store

logger = logging.getLogger(__name__)


def now(settings: Settings) -> datetime:
    """The time on the clock of decisions, aware UTC. Ingest times are wall time and are read elsewhere.

    Raises:
        NotFound: the replay clock was never set.
    """
    if settings.clock == "replay":
        return Store(settings.operations).replay_time()
    return datetime.now(UTC) if settings.clock == "wall" else datetime.fromisoformat(settings.clock).astimezone(UTC)


class Clock:
    """The same for a service that runs on: it shares a store, and keeps the last replay time while the store fails."""

    def __init__(self, settings: Settings, store: Store):
        self.settings, self.store = settings, store
        self._last: datetime | None = None

    def now(self) -> datetime:
        """Aware UTC."""
        if self.settings.clock != "replay":
            return now(self.settings)
        try:
            self._last = self.store.replay_time()
        except Exception:
            if self._last is None:
                raise
            logger.warning("the replay clock cannot be read; its last time %s is used", self._last)
        return self._last
