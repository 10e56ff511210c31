"""What is counted and written about answers: noted at once, worked off together a moment later.

One by one, between two answers, the counting and the line of a small request would take a fifth of its time;
all of a moment together take a third of that.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pydantic_core import to_json

from serving.models.routing import Scored
from serving.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.1
One = TypeVar("One")


class Answer(NamedTuple):
    """One answer to a request."""

    at: float  # seconds since 1970
    request_id: str
    method: str
    path: str
    status: int
    seconds: float
    logged: bool  # as a line of its own

    def line(self) -> bytes:
        """As the log shows it."""
        shown = {"at": datetime.fromtimestamp(self.at, UTC), "level": "info", "from": __name__, "message": "answered"}
        asked = {"request_id": self.request_id, "process": os.getpid(), "method": self.method, "path": self.path}
        return to_json(shown | asked | {"status": self.status, "ms": round(1000 * self.seconds, 2)})


class AccessLog:
    """Answers and scores that are not counted yet."""

    def __init__(self, metrics: Metrics):
        self.metrics = metrics
        self._answers: deque[Answer] = deque()
        self._scored: deque[Scored] = deque()
        self._lock = threading.Lock()

    def answered(self, answer: Answer) -> None:
        """Note an answer."""
        self._answers.append(answer)

    def scored(self, scored: Scored) -> None:
        """Note what a model said."""
        self._scored.append(scored)

    def work_off(self) -> None:
        """Count everything that was noted before, and write its lines."""
        with self._lock:
            answers = [self._answers.popleft() for _ in range(len(self._answers))]
            scored = [self._scored.popleft() for _ in range(len(self._scored))]
            for (path, method, status), same in _grouped(answers, lambda one: (one.path, one.method, one.status)):
                self.metrics.answered(path, method, status, [one.seconds for one in same])
            for (version, arm), calls in _grouped(scored, lambda one: (one.model.version, one.arm)):
                scores = [score for one in calls for score in one.scores]
                self.metrics.scored(version, arm, scores, [one.latency_ms / 1000 for one in calls])
            lines = [one.line() for one in answers if one.logged] if logger.isEnabledFor(logging.INFO) else []
            if lines:
                sys.stderr.write(b"\n".join([*lines, b""]).decode())
                sys.stderr.flush()


def _grouped(found: list[One], key: Callable[[One], Any]) -> Iterable[tuple[Any, list[One]]]:
    groups: dict[Any, list[One]] = defaultdict(list)
    for one in found:
        groups[key(one)].append(one)
    return groups.items()
