"""The time of decisions for the service: as `settings.now()`, without opening a store for each request."""

from __future__ import annotations

import logging
from datetime import datetime

from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store

logger = logging.getLogger(__name__)


class Clock:
    """Wall time, fixed, or the replay clock in the store; the last known replay time while the store fails."""

    def __init__(self, settings: Settings, store: Store):
        self.settings, self.store = settings, store
        self._last: datetime | None = None

    def now(self) -> datetime:
        """Aware UTC."""
        if self.settings.clock != "replay":
            return self.settings.now()
        try:
            self._last = self.store.replay_time()
        except Exception:
            if self._last is None:
                raise
            logger.warning("the replay clock cannot be read; its last time %s is used", self._last)
        return self._last
