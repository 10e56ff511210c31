"""The shadow: copies of the requests for a challenger whose answers are logged and never returned.

The copies are scored later, in batches, on a thread of their own: the answer never waits for them. When
they come faster than the challenger scores, the queue is full and copies are dropped and counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import groupby

from level1_pipeline.store.routes import SHADOW
from serving.models import routing
from serving.models.loaded_model import Model
from serving.models.routing import Case, Scored
from serving.telemetry.metrics import Metrics

PAUSE_SECONDS = 0.2  # from one batch to the next
BATCH = 500
FINISH_SECONDS = 5.0


class Shadow:
    """Copies that wait for the challenger."""

    def __init__(self, limit: int, metrics: Metrics, report: Callable[[list[Scored]], None]):
        self.limit, self.metrics, self.report = limit, metrics, report
        self._waiting: deque[tuple[Model, Case]] = deque()
        self._lock = threading.Lock()

    def add(self, model: Model, cases: list[Case]) -> None:
        """Take copies; what finds no room is dropped."""
        with self._lock:
            room = max(0, self.limit - len(self._waiting))
            self._waiting.extend((model, case) for case in cases[:room])
        self.metrics.shadow_dropped.inc(len(cases[room:]))

    def work(self) -> None:
        """Score one batch of what waits."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        for _, group in groupby(batch, key=lambda copy: copy[0].version):
            copies = list(group)
            self.report(_score(copies[0][0], [case for _, case in copies]))

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Score what waits, for a clean stop; a slow challenger must not hold it up, so the rest is dropped."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            self.work()
        self.metrics.shadow_dropped.inc(len(self._waiting))
        self._waiting.clear()


def _score(model: Model, cases: list[Case]) -> list[Scored]:
    scored = routing.score(model, SHADOW, cases)
    if len(cases) > 1 and not any(score is not None for score in scored.scores):
        return [routing.score(model, SHADOW, [case]) for case in cases]  # which of them is the cause?
    return [scored]
