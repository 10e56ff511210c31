"""Numbers for Prometheus. With several workers the library adds them up through files in
PROMETHEUS_MULTIPROC_DIR (set by `python -m serving run --workers N`, before this is imported)."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from level1_pipeline.schema.task import task

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
SHARES = tuple(step / 20 for step in range(1, 21))
MAGNITUDES = (-1000, -100, -10, -1, 0, 1, 10, 100, 1000)
FILES = "PROMETHEUS_MULTIPROC_DIR"


class BatchHistogram(Histogram):
    """A histogram that takes many values at once: one by one they cost as much as the model."""

    def observe_all(self, values: Sequence[float]) -> None:
        """Observe each value."""
        self._sum.inc(sum(values))
        for place, count in Tally(bisect_left(self._upper_bounds, value) for value in values).items():
            self._buckets[place].inc(count)


class Metrics:
    """All metrics of one worker."""

    def __init__(self) -> None:
        # A time stamp for each number would only double the page.
        disable_created_metrics()
        own = self.registry = CollectorRegistry()
        self._parts: dict[Any, Any] = {}
        scores = SHARES if task().has_classes else MAGNITUDES
        self.requests = Counter("mlops_requests", "answers", ["path", "method", "status"], registry=own)
        self.seconds = BatchHistogram(
            "mlops_request_seconds", "time to answer", ["path"], buckets=SECONDS, registry=own
        )
        self.predictions = Counter("mlops_predictions", "scored rows", ["version", "arm"], registry=own)
        self.scores = BatchHistogram("mlops_score", "scores", ["version", "arm"], buckets=scores, registry=own)
        self.model_seconds = BatchHistogram(
            "mlops_model_seconds", "time of the model for one call", ["version", "arm"], buckets=SECONDS, registry=own
        )
        self.model_errors = Counter("mlops_model_errors", "rows without a score", ["version", "arm"], registry=own)
        self.unknown = Counter(
            "mlops_unknown_categories", "legal values that training never saw", ["input"], registry=own
        )
        self.lost = Counter("mlops_prediction_log_lost", "predictions that could not be logged", registry=own)
        self.waiting = Gauge(
            "mlops_prediction_log_waiting", "rows in memory", registry=own, multiprocess_mode="livesum"
        )
        self.shadow_dropped = Counter("mlops_shadow_dropped", "copies that found the queue full", registry=own)
        self.outcomes = Counter("mlops_outcomes", "outcomes posted", ["result"], registry=own)
        self.swaps = Counter("mlops_swaps", "changes of what is served", registry=own)
        self.refused = Counter("mlops_bundles_refused", "bundles that failed a check", ["version"], registry=own)
        self.workers = Gauge(
            "mlops_workers",
            "workers that serve this version",
            ["version", "arm"],
            registry=own,
            multiprocess_mode="livesum",
        )
        self.degraded = Gauge("mlops_degraded", "workers in trouble", registry=own, multiprocess_mode="livesum")
        self.age = Gauge(
            "mlops_model_age_seconds", "since the newest row of its training", registry=own, multiprocess_mode="livemax"
        )

    def answered(self, path: str, method: str, status: int, seconds: Sequence[float]) -> None:
        """Count answers, by the time that each took."""
        self._of(self.requests, path, method, status).inc(len(seconds))
        self._of(self.seconds, path).observe_all(seconds)

    def scored(self, version: str, arm: str, scores: Sequence[float | None], seconds: Sequence[float]) -> None:
        """Count rows that a model scored, None for one without a score, and the time of each of its calls."""
        self._of(self.predictions, version, arm).inc(len(scores))
        self._of(self.model_seconds, version, arm).observe_all(seconds)
        numbers = [score for score in scores if score is not None]
        self._of(self.scores, version, arm).observe_all(numbers)
        if len(numbers) < len(scores):
            self._of(self.model_errors, version, arm).inc(len(scores) - len(numbers))

    def _of(self, metric: Any, *labels: Any) -> Any:
        """The part of a metric with these labels. Remembered, because looking it up costs more than counting."""
        key = (metric, labels)
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = metric.labels(*labels)
        return part

    def page(self) -> bytes:
        """The page that Prometheus reads: this worker's numbers or, with several workers, those of all."""
        if FILES not in os.environ:
            return generate_latest(self.registry)
        _forget_the_dead(Path(os.environ[FILES]))
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return generate_latest(together)


def _forget_the_dead(files: Path) -> None:
    """Remove the gauges of killed workers: they serve nothing any more."""
    for process in {int(file.stem.rpartition("_")[2]) for file in files.glob("gauge_live*.db")}:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            mark_process_dead(process)
