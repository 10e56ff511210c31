"""The prediction log: what was said, about what, by which model. Written behind the answers, never before.

Rows wait in memory and one thread writes them in batches. While the store fails they go on waiting, up
to a limit; the rest is lost, counted and shown. A clean stop writes everything; `kill -9` loses what
came since the last flush, `settings.flush_seconds` at most.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from itertools import islice
from typing import Any

import sqlalchemy as sa

from level1_pipeline.store import Store
from level1_pipeline.tables import INSERT, predictions
from serving.arms import Scored
from serving.metrics import Metrics

logger = logging.getLogger(__name__)

BATCH = 1000
# Faults of a row, not of the store: to wait would not help, and would block all others.
ROW_FAULTS = (sa.exc.DataError, sa.exc.IntegrityError)


class PredictionLog:
    """Rows that wait, and the writing of them."""

    def __init__(self, store: Store, limit: int, metrics: Metrics):
        self.store, self.limit, self.metrics = store, limit, metrics
        self.lost = 0
        self.trouble: str | None = None
        self._waiting: deque[Scored] = deque()
        self._lock = threading.Lock()

    def add(self, scored: list[Scored]) -> None:
        """Take what was said, to write it soon. Never waits and never fails."""
        with self._lock:
            room = max(0, self.limit - len(self._waiting))
            self._waiting.extend(scored[:room])
            self._lose(len(scored[room:]))

    def flush(self) -> None:
        """Write all that waits, in batches; what the store does not take goes on waiting."""
        while batch := self._next():
            try:
                self._write([one.row() for one in batch])
            except Exception as error:  # disk full, locked, unreachable: serving goes on
                self._report(error)
                return
            with self._lock:
                for _ in batch:
                    self._waiting.popleft()
                self.metrics.waiting.set(len(self._waiting))
        if self.trouble:
            logger.info("the prediction log has caught up")
        self.trouble = None

    def close(self) -> None:
        """Write the rest; count what cannot be written. For a clean stop, after the last `add`."""
        self.flush()
        with self._lock:
            left = len(self._waiting)
            self._waiting.clear()
            self._lose(left)
        if left:
            logger.error("%d predictions could not be logged before the stop: %s", left, self.trouble)

    def _next(self) -> list[Scored]:
        with self._lock:
            self.metrics.waiting.set(len(self._waiting))
            return list(islice(self._waiting, BATCH))

    def _write(self, rows: list[dict[str, Any]]) -> None:
        try:
            engine = self.store.engine
            with engine.begin() as connection:
                connection.execute(INSERT[engine.dialect.name](predictions).on_conflict_do_nothing(), rows)
        except ROW_FAULTS as error:
            if len(rows) == 1:
                logger.error("prediction %s cannot be logged: %s", rows[0]["id"], error)
                self._lose(1)
                return
            for row in rows:
                self._write([row])

    def _lose(self, rows: int) -> None:
        if rows:
            self.lost += rows
            self.metrics.lost.inc(rows)

    def _report(self, error: Exception) -> None:
        if not self.trouble:
            logger.error("predictions cannot be logged, they wait in memory: %s", error)
        self.trouble = f"the prediction log cannot be written ({type(error).__name__}), {len(self._waiting)} rows wait"
