"""The service without HTTP: what is served, how cases are scored, and the threads behind it."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import datetime
from itertools import count
from typing import NoReturn

from level1_pipeline import problem, schema
from level1_pipeline.bundle.time_limit import OVERDUE
from level1_pipeline.schema.scores import as_answer
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.settings import Settings
from level1_pipeline.store.clock import Clock
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import EARLIEST, Reported, Result, keep, possible
from serving.errors import Detail, Refusal
from serving.models import routing
from serving.models.explain import explain
from serving.models.routing import Case, Scored, Serving
from serving.schemas import ExplainRequest, Explanation, Health, ModelCard, OutcomeRequest, Prediction, PredictRequest
from serving.service.background import BackgroundThread
from serving.service.hot_swap import HotSwap
from serving.service.shadow import PAUSE_SECONDS, Shadow
from serving.telemetry.access_log import PAUSE_SECONDS as ACCESS_LOG_SECONDS
from serving.telemetry.access_log import AccessLog
from serving.telemetry.error_output import OUTPUT
from serving.telemetry.metrics import Metrics
from serving.telemetry.prediction_log import PredictionLog

OUTCOME_REQUESTS_AT_ONCE = 4
LINEAGE = ("trained_from", "trained_until", "rows", "data_digest", "code_revision", "run_id")
_process, _number = secrets.token_hex(6), count()


def new_id() -> str:
    """Milliseconds since 1970, this process, and a number within it; 32 hexadecimal digits.

    Such ids sort by the time at which they were made, as UUIDs of version 7 do: the index of the prediction log
    grows at its end, while each row with a random id would touch another page.
    """
    return f"{time.time_ns() // 1_000_000:012x}{_process}{next(_number):08x}"


class Service:
    """Everything that one worker holds. Create it, `start` it, use it, `stop` it."""

    def __init__(self, settings: Settings):
        self.settings, self.store, self.metrics = settings, Store(settings.operations), Metrics()
        self.clock = Clock(settings, self.store)
        self.access_log = AccessLog(self.metrics)
        self.hot_swap = HotSwap(settings, self.store, self.clock, self.metrics)
        self.log = PredictionLog(self.store, settings.log_rows, self.metrics)
        self.shadow = Shadow(settings.shadow_rows, self.metrics, self._record, settings.predict_seconds)
        # Outcomes wait for the store; they must never occupy all the threads that predict.
        self._outcome_slots = threading.Semaphore(OUTCOME_REQUESTS_AT_ONCE)
        self._threads = (
            BackgroundThread("hot swap", settings.watch_seconds, self.hot_swap.look),
            BackgroundThread("shadow", PAUSE_SECONDS, self.shadow.work),
            BackgroundThread("access log", ACCESS_LOG_SECONDS, self.access_log.work_off),
            writer := BackgroundThread("prediction log", settings.flush_seconds, self._write_log),
        )
        self.log.hurry = writer.hurry

    def start(self) -> None:
        """Load what the route names, then begin to follow it. Returns when the first request may come."""
        self.hot_swap.look()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the copies and write the whole log. Call it after the last request."""
        for thread in self._threads:
            thread.stop()
        self.log.flush()  # what was answered comes before what was only copied
        self.shadow.finish()
        self.log.close()
        self.access_log.work_off()
        OUTPUT.flush(seconds=1.0)
        self.store.close()

    def _write_log(self) -> None:
        """The first prediction makes the home live by this clock."""
        if self.log.waiting:
            self.clock.remember()
        self.log.flush()

    def predict(self, requests: list[PredictRequest]) -> list[Prediction]:
        """Score cases with what is served now; the log is written behind the answer.

        Raises:
            Refusal: too many cases, no model yet, or a model that gives no number.
        """
        self._limit(len(requests))
        serving, cases = self.serving(), self._cases(requests)
        scored = routing.answer(serving, cases, self.settings.predict_seconds)
        self._record(scored)
        if serving.shadow:
            self.shadow.add(serving.shadow, cases)
        self._count_unknown_categories(serving, cases)
        return _predictions(cases, scored)

    def is_quick(self, requests: list[PredictRequest]) -> bool:
        """Whether only compiled models answer these cases."""
        serving = self.hot_swap.serving
        if serving is None or not serving.champion.bundle.scorer:
            return False
        if not serving.canary or serving.canary.bundle.scorer:
            return True
        entities = [request.entity_id or request.id for request in requests]
        return not any(entity is None or routing.in_canary(serving.route, entity) for entity in entities)

    def explain(self, request: ExplainRequest) -> Explanation:
        """Why the champion gives its score, and what it would be after changes."""
        return explain(self.serving().champion, request, self.settings.predict_seconds)

    def ingest(self, requests: list[OutcomeRequest]) -> Result:
        """Keep outcomes. The value that became known last counts, so any order of arrival gives the same end.

        Raises:
            Refusal: one lies in the future of the clock (409), too many (422), or too many at once (503). Then none is
                kept.
        """
        self._limit(len(requests))
        if not self._outcome_slots.acquire(blocking=False):
            raise Refusal(503, "too many outcomes arrive at once; send it again", headers={"Retry-After": "5"})
        try:
            now = self.clock.now()
            _refuse_impossible_times(requests, now)
            reported = [Reported(request.id, task().label(request.value), request.known_at) for request in requests]
            self.clock.remember()
            result = keep(self.store, reported, now)
        finally:
            self._outcome_slots.release()
        for kind in ("new", "unchanged", "corrected"):
            self.metrics.outcomes.labels(kind).inc(getattr(result, kind))
        self.metrics.outcomes.labels("unknown").inc(len(result.unknown))
        return result

    def metrics_page(self) -> bytes:
        """The metrics, with everything that was answered before."""
        self.access_log.work_off()
        return self.metrics.page()

    def serving(self) -> Serving:
        """What is served now; take it once for each request."""
        serving = self.hot_swap.serving
        if serving:
            return serving
        reasons = "; ".join(self.hot_swap.trouble.values())
        raise Refusal(503, reasons or "there is no champion yet; train one: make level1", headers={"Retry-After": "5"})

    def health(self) -> Health:
        """Whether this worker can answer, and what is wrong."""
        serving = self.hot_swap.serving
        reasons = [*self.hot_swap.trouble.values(), *filter(None, [self.log.trouble])]
        models = [model for model in (serving.champion, serving.challenger) if model] if serving else []
        reasons += [f"version {model.version} is not asked: its calls hang" for model in models if model.calls.hang]
        if not serving:
            reasons = reasons or ["there is no champion yet; train one: make level1"]
        able = serving is not None and not serving.champion.calls.hang
        return Health(
            state="not ready" if not able else "degraded" if reasons else "ready",
            version=serving.champion.version if serving else None,
            challenger=serving.challenger.version if serving and serving.challenger else None,
            reasons=reasons,
            lost_predictions=self.log.lost,
        )

    def card(self) -> ModelCard:
        """What is served, in full."""
        serving = self.serving()
        manifest, route = serving.champion.manifest, serving.route
        return ModelCard(
            problem=problem.NAME,
            version=serving.champion.version,
            since=serving.since,
            checksum=serving.champion.checksum,
            **serving.champion.engine,
            metrics=manifest.get("metrics", {}),
            challenger=serving.challenger.version if serving.challenger else None,
            mode=route.mode,
            share=route.share,
            **{name: manifest.get(name) for name in LINEAGE},
        )

    def _limit(self, rows: int) -> None:
        if rows > (most := self.settings.max_rows):
            raise Refusal(422, f"{rows} rows in one request; at most {most} are taken, send several")

    def _cases(self, requests: list[PredictRequest]) -> list[Case]:
        now, ids = self.clock.now(), [request.id or new_id() for request in requests]
        return [
            Case(made, request.entity_id or made, schema.json_record(vars(request.record)), now)
            for made, request in zip(ids, requests, strict=True)
        ]

    def _record(self, scored: list[Scored]) -> None:
        for group in scored:
            self.access_log.scored(group)
            self.log.add(group)

    def _count_unknown_categories(self, serving: Serving, cases: list[Case]) -> None:
        for name, trained in serving.champion.categories.items():
            new = [case for case in cases if case.record[name] not in trained and case.record[name] is not None]
            if new:
                self.metrics.unknown.labels(name).inc(len(new))


def _refuse_impossible_times(requests: list[OutcomeRequest], now: datetime) -> None:
    """409 rather than 422: it is the clock that decides, and the same request may be right later."""
    rule = f"from {EARLIEST:%Y} to {now.isoformat()}, the time on the clock"
    wrong = [
        Detail(field=f"[{place}].known_at", rule=rule, value=request.known_at.isoformat())
        for place, request in enumerate(requests)
        if request.known_at and not possible(request.known_at, now)
    ]
    if wrong:
        raise Refusal(409, "an outcome cannot be known before it happens; nothing of this request was kept", wrong)


def _predictions(cases: list[Case], scored: list[Scored]) -> list[Prediction]:
    """The answers in the order of the cases."""
    several = bool(classes())
    predictions: dict[int, Prediction] = {
        id(case): {
            "id": case.id,
            "score": as_answer(score) if several else score,
            "decision": problem.choose_action(score),
            "version": group.model.version,
            "arm": group.arm,
        }
        for group in scored
        for case, score in group
        if score is not None
    }
    if missing := next((case for case in cases if id(case) not in predictions), None):
        _refuse(missing, scored)
    return [predictions[id(case)] for case in cases]


def _refuse(missing: Case, scored: list[Scored]) -> NoReturn:
    overdue = [group.error for group in scored if group.error.startswith(OVERDUE) or group.model.calls.hang]
    if overdue:
        raise Refusal(503, f"the model gave no answer for {missing.id}: {overdue[-1]}", headers={"Retry-After": "5"})
    raise Refusal(500, f"the model gave no number for {missing.id}; the log of the service says why")
