"""What is counted and written about answers: taken at once, worked off together a moment later.

One by one, between two answers, the counting and the line of a small request would take a fifth of its time;
all of a moment together take a third of that.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from pydantic_core import to_json

from level1_pipeline.schema.scores import likeliest
from serving.models.routing import Scored
from serving.telemetry.error_output import OUTPUT
from serving.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.1
MOST_WAITING = 10_000  # answers; a thread that gets no turn must not let them fill the memory
Item = TypeVar("Item")


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
        line = {"at": datetime.fromtimestamp(self.at, UTC), "level": "info", "from": __name__, "message": "answered"}
        request = {"request_id": self.request_id, "process": os.getpid(), "method": self.method, "path": self.path}
        return to_json(line | request | {"status": self.status, "ms": round(1000 * self.seconds, 2)})


class AccessLog:
    """Answers and scores that are not counted yet."""

    def __init__(self, metrics: Metrics):
        self.metrics = metrics
        self._answers: deque[Answer] = deque()
        self._scored: deque[Scored] = deque()
        self._lock = threading.Lock()

    def answered(self, answer: Answer) -> None:
        """Take an answer."""
        self._answers.append(answer)
        if len(self._answers) > MOST_WAITING:
            self.work_off()

    def scored(self, scored: Scored) -> None:
        """Take the scores of a model."""
        self._scored.append(scored)
        if len(self._scored) > MOST_WAITING:
            self.work_off()

    def work_off(self) -> None:
        """Count everything that was taken before, and write its lines."""
        with self._lock:
            answers = [self._answers.popleft() for _ in range(len(self._answers))]
            scored = [self._scored.popleft() for _ in range(len(self._scored))]
            for (path, method, status), same in _grouped(
                answers, lambda answer: (answer.path, answer.method, answer.status)
            ):
                self.metrics.answered(path, method, status, [answer.seconds for answer in same])
            for (version, arm), groups in _grouped(scored, lambda group: (group.model.version, group.arm)):
                scores = [likeliest(score) for group in groups for score in group.scores]
                self.metrics.scored(version, arm, scores, [group.latency_ms / 1000 for group in groups])
            lines = [answer.line() for answer in answers if answer.logged] if logger.isEnabledFor(logging.INFO) else []
            if lines:
                OUTPUT.write(b"\n".join([*lines, b""]).decode())
            OUTPUT.flush()


def _grouped(items: list[Item], key: Callable[[Item], Any]) -> Iterable[tuple[Any, list[Item]]]:
    groups: dict[Any, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups.items()
