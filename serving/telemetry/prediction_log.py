"""The prediction log: each score, its inputs and its model. Written behind the answers, never before.

Rows wait in memory and one thread writes them in batches. While the store fails they go on waiting, up
to a limit; the rest is lost, counted and shown. A clean stop writes everything; `kill -9` loses what
came since the last flush, `settings.flush_seconds` at most.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import chain
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json

from level1_pipeline import problem
from level1_pipeline.schema.scores import likeliest
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import UtcTime, predictions
from serving.models.routing import Scored
from serving.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

ROWS_IN_TRANSACTION = 1000  # or what was scored together if that is more
# Rows in a statement. SQLite works through a statement without Python's lock, so answers go on beside it; row by
# row each would wait for the lock again. And SQLAlchemy's own insert costs as much as the database does.
ROWS_IN_STATEMENT = 200
# Faults of a row, not of the store: to wait would not help, and would block all others.
ROW_FAULTS = (sa.exc.DataError, sa.exc.IntegrityError)
Row = tuple[Any, ...]


class PredictionLog:
    """Rows that wait, and the writing of them."""

    def __init__(self, store: Store, limit: int, metrics: Metrics):
        self.store, self.limit, self.metrics = store, limit, metrics
        self.lost = self.waiting = 0  # rows
        self.hurry: Callable[[], None] = lambda: None  # asks the writer not to wait for its next time
        self.trouble: str | None = None
        self._rows_to_hurry = limit // 4
        self._queue: deque[Scored] = deque()
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # to write: two at once would take the same rows from the queue
        dialect = sa.make_url(store.url).get_dialect()()
        self._dialect = dialect.name
        self._time = lru_cache(100)(lambda moment: UtcTime().process_bind_param(moment, dialect))  # rows share theirs

    def add(self, scored: Scored) -> None:
        """Take scores, to write them soon. Never waits and never fails."""
        with self._lock:
            kept = scored.first(self.limit - self.waiting)
            self._lose(len(scored) - len(kept))
            if kept:  # while nothing has room, nothing is added
                self._queue.append(kept)
                few = self.waiting < self._rows_to_hurry
                self.waiting += len(kept)
                if few and self.waiting >= self._rows_to_hurry:  # a busy second must not fill the memory
                    self.hurry()

    def flush(self) -> None:
        """Write all that waits now, in batches; what the store does not take goes on waiting."""
        with self._turn:
            self._flush()

    def _flush(self) -> None:
        left = len(self._queue)  # without what comes meanwhile: that would become many transactions of a few rows
        while left > 0:
            batch = self._next()
            try:
                self._write([row for scored in batch for row in self._rows(scored)])
            except Exception as error:  # disk full, locked, unreachable: serving goes on
                self._report(error)
                return
            left -= len(batch)
            with self._lock:
                for _ in batch:
                    self.waiting -= len(self._queue.popleft())
                self.metrics.waiting.set(self.waiting)
        if self.waiting >= self._rows_to_hurry:  # as much came meanwhile
            self.hurry()
        if self.trouble:
            logger.info("the prediction log has caught up")
        self.trouble = None

    def close(self) -> None:
        """Write the rest; count what cannot be written. For a clean stop, after the last `add`."""
        self.flush()
        with self._lock:
            left, self.waiting = self.waiting, 0
            self._queue.clear()
            self._lose(left)
        if left:
            logger.error("%d predictions could not be logged before the stop: %s", left, self.trouble)

    def _rows(self, scored: Scored) -> list[Row]:
        """A value for each column that is written, in the form that its database takes."""
        arm, version, error, took = scored.arm, scored.model.version, scored.error, scored.latency_ms
        checksum = scored.model.checksum
        several = bool(classes())
        time, recorded = self._time, self._time(scored.recorded_at)
        rows = [
            (
                problem.NAME,
                made,
                arm,
                entity,
                version,
                time(at),
                recorded,
                to_json(record).decode(),
                likeliest(score) if several else score,
                error if score is None else None,
                took,
                checksum,
            )
            for (made, entity, record, at), score in scored
        ]
        if several:
            parts = [None if score is None else to_json(score).decode() for score in scored.scores]
            return [(*row, part) for row, part in zip(rows, parts, strict=True)]
        return rows

    def _next(self) -> list[Scored]:
        batch, rows = [], 0
        with self._lock:
            self.metrics.waiting.set(self.waiting)
            for scored in self._queue:
                batch.append(scored)
                rows += len(scored)
                if rows >= ROWS_IN_TRANSACTION:
                    break
        return batch

    def _write(self, rows: list[Row]) -> None:
        try:
            with self.store.engine.begin() as connection:
                self._insert(connection, rows)
        except ROW_FAULTS as error:
            if len(rows) == 1:
                logger.error("prediction %s cannot be logged: %s", rows[0][1], error)
                self._lose(1)
                return
            for row in rows:
                self._write([row])

    def _insert(self, connection: sa.Connection, rows: list[Row]) -> None:
        """Of an arm's rows of one id the first with a score stays: who got no answer may ask again."""
        whole, single = len(rows) - len(rows) % ROWS_IN_STATEMENT, list[Row]()
        several = bool(classes())  # other tasks do not write the last column, and pay nothing for it
        for start in range(0, whole, ROWS_IN_STATEMENT):
            some = rows[start : start + ROWS_IN_STATEMENT]
            done = connection.exec_driver_sql(
                _statement(self._dialect, ROWS_IN_STATEMENT, several), tuple(chain.from_iterable(some))
            )
            if done.rowcount < ROWS_IN_STATEMENT:
                single += some  # some ids were logged before
        if single := single + rows[whole:]:
            connection.exec_driver_sql(_statement(self._dialect, 1, several), single)

    def _lose(self, rows: int) -> None:
        if rows:
            self.lost += rows
            self.metrics.lost.inc(rows)

    def _report(self, error: Exception) -> None:
        if not self.trouble:
            logger.error("predictions cannot be logged, they wait in memory: %s", error)
        self.trouble = f"the prediction log cannot be written ({type(error).__name__}), {self.waiting} rows wait"


@cache
def _statement(dialect: str, rows: int, several: bool) -> str:
    """An insert that leaves logged ids as they are. That of a single row replaces one without a score by one with
    a score; several cannot, because PostgreSQL refuses to touch a row twice in one statement."""
    mark, names = (
        "?" if dialect == "sqlite" else "%s",
        [column.name for column in predictions.columns if several or column.name != "scores"],
    )
    values = ", ".join([f"({', '.join([mark] * len(names))})"] * rows)
    key, new = (
        ", ".join(predictions.primary_key.columns.keys()),
        ", ".join(f"{name} = excluded.{name}" for name in names),
    )
    better = f"({key}) DO UPDATE SET {new} WHERE predictions.score IS NULL AND excluded.score IS NOT NULL"
    conflict = "DO NOTHING" if rows > 1 else better
    return f"INSERT INTO predictions ({', '.join(names)}) VALUES {values} ON CONFLICT {conflict}"  # noqa: S608
