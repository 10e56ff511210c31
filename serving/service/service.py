"""The service without HTTP: what is served, what is asked, and the threads behind it."""

from __future__ import annotations

import threading

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.clock import Clock
from level1_pipeline.store.database import Store
from serving.errors import Refusal
from serving.models import routing
from serving.models.explain import explain
from serving.models.routing import Asked, Scored, Serving
from serving.schemas import Case, Explanation, Health, ModelCard, Outcome, Prediction, Question
from serving.service import outcomes
from serving.service.background import BackgroundThread
from serving.service.hot_swap import HotSwap
from serving.service.ids import new_id
from serving.service.shadow import PAUSE_SECONDS, Shadow
from serving.telemetry.access_log import PAUSE_SECONDS as NOTES_SECONDS
from serving.telemetry.access_log import AccessLog
from serving.telemetry.metrics import Metrics
from serving.telemetry.prediction_log import PredictionLog

OUTCOMES_AT_ONCE = 4
IDENTITY = ("trained_from", "trained_until", "rows", "data_digest", "code_revision", "run_id")


class Service:
    """Everything that one worker holds. Build it, `start` it, ask it, `stop` it."""

    def __init__(self, settings: Settings):
        self.settings, self.store, self.metrics = settings, Store(settings.operations), Metrics()
        self.clock = Clock(settings, self.store)
        self.notes = AccessLog(self.metrics)
        self.watcher = HotSwap(settings, self.store, self.clock, self.metrics)
        self.log = PredictionLog(self.store, settings.log_rows, self.metrics)
        self.shadow = Shadow(settings.shadow_rows, self.metrics, self._record)
        # Outcomes wait for the store; they must never occupy all the threads that predict.
        self._outcome_slots = threading.Semaphore(OUTCOMES_AT_ONCE)
        self._threads = (
            BackgroundThread("watcher", settings.watch_seconds, self.watcher.look),
            BackgroundThread("shadow", PAUSE_SECONDS, self.shadow.work),
            BackgroundThread("notes", NOTES_SECONDS, self.notes.work_off),
            writer := BackgroundThread("prediction log", settings.flush_seconds, self.log.flush),
        )
        self.log.hurry = writer.hurry

    def start(self) -> None:
        """Load what the route names, then begin to follow it. Returns when the first request may come."""
        self.watcher.look()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish the copies, write the whole log. Call after the last request."""
        for thread in self._threads:
            thread.stop()
        self.log.flush()  # what was answered comes before what was only copied
        self.shadow.finish()
        self.log.close()
        self.notes.work_off()
        self.store.close()

    def predict(self, cases: list[Case]) -> list[Prediction]:
        """Score cases with what is served now; logged behind the answer.

        Raises:
            Refusal: too many cases, no model yet, or a model that gives no number.
        """
        if len(cases) > self.settings.max_rows:
            raise Refusal(
                422, f"{len(cases)} rows in one request; at most {self.settings.max_rows} are taken, send several"
            )
        serving, asked = self.serving(), self._asked(cases)
        found = routing.answer(serving, asked)
        self._record(found)
        if serving.shadow:
            self.shadow.add(serving.shadow, asked)
        self._count_unknown(serving, asked)
        return _said(asked, found)

    def is_quick(self) -> bool:
        """Whether every model that answers is a compiled one."""
        serving = self.watcher.serving
        return serving is not None and all(one.bundle.scorer for one in (serving.champion, serving.canary) if one)

    def explain(self, question: Question) -> Explanation:
        """Why the champion gives its score, and what it would be after changes."""
        return explain(self.serving().champion, question)

    def ingest(self, posted: list[Outcome]) -> outcomes.Result:
        """Keep outcomes. Raises a Refusal for one from the future, or while the store fails."""
        if len(posted) > self.settings.max_rows:
            raise Refusal(
                422, f"{len(posted)} rows in one request; at most {self.settings.max_rows} are taken, send several"
            )
        if not self._outcome_slots.acquire(blocking=False):
            raise Refusal(503, "too many outcomes arrive at once; send it again", headers={"Retry-After": "5"})
        try:
            result = outcomes.ingest(self.store, posted, self.clock.now())
        finally:
            self._outcome_slots.release()
        for kind in ("new", "unchanged", "corrected"):
            self.metrics.outcomes.labels(kind).inc(getattr(result, kind))
        self.metrics.outcomes.labels("unknown").inc(len(result.unknown))
        return result

    def page(self) -> bytes:
        """The metrics, with everything that was answered before."""
        self.notes.work_off()
        return self.metrics.page()

    def serving(self) -> Serving:
        """What is served now; take it once for each request."""
        serving = self.watcher.serving
        if serving:
            return serving
        reasons = "; ".join(self.watcher.trouble.values())
        raise Refusal(503, reasons or "there is no champion yet; train one: make level1", headers={"Retry-After": "5"})

    def health(self) -> Health:
        """Whether this worker can answer, and what is wrong."""
        serving = self.watcher.serving
        reasons = [*self.watcher.trouble.values(), *filter(None, [self.log.trouble])]
        if not serving and not reasons:
            reasons = ["there is no champion yet; train one: make level1"]
        return Health(
            state="not ready" if not serving else "degraded" if reasons else "ready",
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
            **{name: manifest.get(name) for name in IDENTITY},
        )

    def _asked(self, cases: list[Case]) -> list[Asked]:
        now, ids = self.clock.now(), [case.id or new_id() for case in cases]
        return [
            Asked(made, case.entity_id or made, vars(case.record), now) for made, case in zip(ids, cases, strict=True)
        ]

    def _record(self, scored: list[Scored]) -> None:
        for one in scored:
            self.notes.scored(one)
            self.log.add(one)

    def _count_unknown(self, serving: Serving, asked: list[Asked]) -> None:
        for name, known in serving.champion.categories.items():
            new = [one for one in asked if one.record[name] not in known and one.record[name] is not None]
            if new:
                self.metrics.unknown.labels(name).inc(len(new))


def _said(asked: list[Asked], found: list[Scored]) -> list[Prediction]:
    """The answers in the order of the cases."""
    said: dict[int, Prediction] = {
        id(case): {
            "id": case.id,
            "score": score,
            "decision": problem.choose_action(score),
            "version": one.model.version,
            "arm": one.arm,
        }
        for one in found
        for case, score in one
        if score is not None
    }
    silent = next((case for case in asked if id(case) not in said), None) if len(said) < len(asked) else None
    if silent:
        raise Refusal(500, f"the model gave no number for {silent.id}; the log of the service says why")
    return [said[id(case)] for case in asked]
