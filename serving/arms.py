"""Who answers: the champion, or for a sticky share of the entities the challenger (canary)."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from level1_pipeline import problem
from level1_pipeline.store import Route
from serving.model import Model

logger = logging.getLogger(__name__)

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"


@dataclass(frozen=True)
class Serving:
    """What is served at one moment. It is replaced as a whole and never changed, so no request sees a mixture."""

    route: Route
    champion: Model
    challenger: Model | None = None
    since: str | None = None

    @property
    def shadow(self) -> Model | None:
        """The model that gets copies."""
        return self.challenger if self.route.mode == SHADOW else None

    @property
    def canary(self) -> Model | None:
        """The model that answers a share of the traffic."""
        return self.challenger if self.route.mode == CANARY else None


class Asked(NamedTuple):
    """One case to score, with both ids filled in, and the time on the clock of decisions."""

    id: str
    entity_id: str
    record: Mapping[str, Any]
    at: datetime


class Scored(NamedTuple):
    """What an arm said about a case; no score means that it failed."""

    asked: Asked
    arm: str
    model: Model
    score: float | None
    error: str | None
    latency_ms: float
    recorded_at: datetime

    def row(self) -> dict[str, Any]:
        """The row of the prediction log."""
        said = self._asdict()
        asked, model = said.pop("asked"), said.pop("model")
        return {"problem": problem.NAME, "version": model.version, **asked._asdict(), **said}


def in_canary(route: Route, entity_id: str) -> bool:
    """Whether an entity belongs to the canary's share: the same on every worker, and kept as the share grows.

    The challenger's version is part of the hash, so that not the same customers try every novelty.
    """
    digest = hashlib.sha256(f"{route.challenger}:{entity_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < route.share


def ask(model: Model, arm: str, cases: list[Asked]) -> list[Scored]:
    """Score cases together; a model that raises or says NaN gives errors in place of scores."""
    started = time.perf_counter()
    try:
        found = model.bundle.predict([one.record for one in cases]).tolist()
        scores = [score if math.isfinite(score) else None for score in found]
        error = "the score is not a finite number"
    except Exception as failure:  # whatever a model does wrong, the service answers
        logger.exception("version %s failed on %d cases", model.version, len(cases))
        scores, error = [None] * len(cases), f"{type(failure).__name__}: {failure}"
    milliseconds, now = 1000 * (time.perf_counter() - started), datetime.now(UTC)
    return [
        Scored(one, arm, model, score, None if score is not None else error, milliseconds, now)
        for one, score in zip(cases, scores, strict=True)
    ]


def answer(serving: Serving, cases: list[Asked]) -> tuple[list[Scored], list[Scored]]:
    """The answers in the order of the cases, and the canary's failures (the champion answered these)."""
    if not serving.canary:
        return ask(serving.champion, CHAMPION, cases), []
    tries = [one for one in cases if in_canary(serving.route, one.entity_id)]
    tried = ask(serving.canary, CANARY, tries) if tries else []
    by_place = {id(scored.asked): scored for scored in tried if scored.score is not None}
    rest = [one for one in cases if id(one) not in by_place]
    by_place |= {id(scored.asked): scored for scored in (ask(serving.champion, CHAMPION, rest) if rest else [])}
    return [by_place[id(one)] for one in cases], [scored for scored in tried if scored.score is None]
