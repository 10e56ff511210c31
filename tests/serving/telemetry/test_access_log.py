"""What is noted about answers and worked off behind them: ids that sort, counts that agree, flushes that end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram

from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from serving.models.loaded_model import Model
from serving.models.routing import Case, Scored
from serving.service.service import new_id
from serving.telemetry.access_log import AccessLog, Answer
from serving.telemetry.metrics import BatchHistogram, Metrics
from serving.telemetry.prediction_log import PredictionLog
from tests.support.serving import NOW, logged

MODEL = Model("1", None, "checksum", {}, {})  # type: ignore[arg-type]


def scored(*names: str) -> Scored:
    cases = [Case(name, name, {"x": 1.0}, NOW) for name in names]
    return Scored("champion", MODEL, cases, [0.25 if name != "none" else None for name in names], "no number", 1.5, NOW)


@pytest.mark.slow
def test_ids_are_never_the_same_and_sort_by_the_time_they_were_made() -> None:
    made = [new_id() for _ in range(1000)]
    assert made == sorted(made)
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda _: new_id(), range(20_000)))
    assert len({*made, *at_once}) == 21_000
    assert {len(item) for item in at_once} == {32}
    assert min(at_once) > max(made)


def test_many_scores_at_once_are_counted_as_one_by_one() -> None:
    values, bounds = [0.05, 0.1, 0.1000001, 0.5, 0.0, 1.0, 2.0, -1.0], (0.1, 0.5, 1.0)
    together, single = CollectorRegistry(), CollectorRegistry()
    BatchHistogram("scores", "of a model", buckets=bounds, registry=together).observe_all(values)
    one_by_one = Histogram("scores", "of a model", buckets=bounds, registry=single)
    for value in values:
        one_by_one.observe(value)

    def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
        every = [sample for metric in registry.collect() for sample in metric.samples]
        return {(s.name, s.labels.get("le", "")): s.value for s in every if not s.name.endswith("_created")}

    # Sums only to the last bits: since Python 3.12 `sum` rounds once, adding one by one rounds each time.
    assert samples(together) == pytest.approx(samples(single), rel=1e-15)
    assert len(samples(single)) == 6


@pytest.mark.evidence("Monitor 5")
def test_notes_are_counted_once_and_rows_without_a_score_as_errors() -> None:
    notes = AccessLog(Metrics())
    notes.scored(scored("a", "none", "b"))
    notes.answered(Answer(0.0, "id", "POST", "/predict", 200, 0.002, logged=True))
    for _ in range(2):
        notes.work_off()
    page = notes.metrics.page().decode()
    for line in (
        'mlops_requests_total{method="POST",path="/predict",status="200"} 1.0',
        'mlops_predictions_total{arm="champion",version="1"} 3.0',
        'mlops_score_count{arm="champion",version="1"} 2.0',
        'mlops_model_errors_total{arm="champion",version="1"} 1.0',
    ):
        assert line in page


def test_a_flush_ends_although_more_comes_meanwhile(home: Settings) -> None:
    class Busy(PredictionLog):
        """A log that always gets another row while it writes."""

        written = 0

        def _write(self, rows: list[Any]) -> None:
            super()._write(rows)
            self.written += 1
            self.add(scored(f"more-{self.written}"))

    log = Busy(Store(home.operations), 100, Metrics())
    log.add(scored("first", "second"))
    log.flush()
    assert (log.written, log.waiting) == (1, 1)
    assert [row["id"] for row in logged(home)] == ["first", "second"]
    log.store.close()
