"""The shadow: copies of the requests for a challenger whose answers are logged and never returned.

The copies are scored later, in batches, on a thread of their own: the answer never waits for them. When
they come faster than the challenger scores, the queue is full and copies are dropped and counted.
"""

from __future__ import annotations

import math
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

    def __init__(
        self,
        limit: int,
        metrics: Metrics,
        report: Callable[[list[Scored]], None],
        seconds: float = routing.PREDICT_SECONDS,
    ):
        self.limit, self.metrics, self.report, self.seconds = limit, metrics, report, seconds
        self._waiting: deque[tuple[Model, Case]] = deque()
        self._lock = threading.Lock()

    def add(self, model: Model, cases: list[Case]) -> None:
        """Take copies; what finds no room is dropped."""
        with self._lock:
            room = max(0, self.limit - len(self._waiting))
            self._waiting.extend((model, case) for case in cases[:room])
        self.metrics.shadow_dropped.inc(len(cases[room:]))

    def work(self, until: float = math.inf) -> None:
        """Score one batch of what waits; what is not begun by the time `until` is dropped."""
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        for _, group in groupby(batch, key=lambda copy: copy[0].version):
            copies = list(group)
            scored = self._score(copies[0][0], [case for _, case in copies], until)
            self.report(scored)
            self.metrics.shadow_dropped.inc(len(copies) - sum(map(len, scored)))

    def finish(self, seconds: float = FINISH_SECONDS) -> None:
        """Score what waits, for a clean stop; a slow challenger must not hold it up, so the rest is dropped."""
        until = time.monotonic() + seconds
        while self._waiting and time.monotonic() < until:
            self.work(until)
        self.metrics.shadow_dropped.inc(len(self._waiting))
        self._waiting.clear()

    def _score(self, model: Model, cases: list[Case], until: float) -> list[Scored]:
        scored = routing.score(model, SHADOW, cases, self.seconds)
        if len(cases) == 1 or any(score is not None for score in scored.scores):
            return [scored]
        each = []  # which of them is the cause?
        for case in cases:
            if time.monotonic() > until:
                break
            each.append(routing.score(model, SHADOW, [case], self.seconds))
        return each
