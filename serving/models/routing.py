"""Who answers: the champion, or for a sticky share of the entities the challenger (canary)."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from level1_pipeline.bundle.time_limit import Overdue
from level1_pipeline.store.routes import CANARY, CHAMPION, SHADOW, Route
from serving.models.loaded_model import Model

logger = logging.getLogger(__name__)

Score = Any  # of one case: a number, or a list of the probabilities of all classes
PREDICT_SECONDS = 2.0  # for one call of a model, if no setting says otherwise


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


class Case(NamedTuple):
    """One case to score, with both ids filled in, and the time on the clock of decisions."""

    id: str
    entity_id: str
    record: Mapping[str, Any]
    at: datetime


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of cases that one arm scored together; no score means that it failed."""

    arm: str
    model: Model
    cases: list[Case]
    scores: list[Score | None]
    error: str  # of the cases without a score
    latency_ms: float
    recorded_at: datetime

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[tuple[Case, Score | None]]:
        return zip(self.cases, self.scores, strict=True)

    def first(self, count: int) -> Scored:
        """Only so many cases; itself, if it has no more."""
        return self if len(self) <= count else replace(self, cases=self.cases[:count], scores=self.scores[:count])


def in_canary(route: Route, entity_id: str) -> bool:
    """Whether an entity belongs to the canary's share: the same on every worker, and kept as the share grows.

    The challenger's version is part of the hash, so that not the same customers try every novelty.
    """
    digest = hashlib.sha256(f"{route.challenger}:{entity_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < route.share


def score(model: Model, arm: str, cases: list[Case], seconds: float = PREDICT_SECONDS) -> Scored:
    """Score cases together; a model that raises, says NaN or says nothing in time gives an error in place of scores."""
    started = time.perf_counter()
    try:
        numbers = model.predict([case.record for case in cases], seconds)
        is_finite = math.isfinite if numbers.ndim == 1 else _all_finite
        scores = [number if is_finite(number) else None for number in numbers.tolist()]
        error = "the score is not a finite number"
    except Overdue as overdue:
        logger.error("version %s on %d cases: %s", model.version, len(cases), overdue)
        scores, error = [None] * len(cases), str(overdue)
    except Exception as failure:  # whatever a model does wrong, the service answers
        logger.exception("version %s failed on %d cases", model.version, len(cases))
        scores, error = [None] * len(cases), f"{type(failure).__name__}: {failure}"
    milliseconds, now = 1000 * (time.perf_counter() - started), datetime.now(UTC)
    return Scored(arm, model, cases, scores, error, milliseconds, now)


def _all_finite(score: list[float]) -> bool:
    return all(map(math.isfinite, score))


def answer(serving: Serving, cases: list[Case], seconds: float = PREDICT_SECONDS) -> list[Scored]:
    """The scores of each arm for its cases. Where the canary fails or says nothing, the champion scores the case, too."""
    if not serving.canary:
        return [score(serving.champion, CHAMPION, cases, seconds)]
    share = [case for case in cases if in_canary(serving.route, case.entity_id)]
    by_canary = [score(serving.canary, CANARY, share, seconds)] if share else []
    done = {id(case) for scored in by_canary for case, number in scored if number is not None}
    rest = [case for case in cases if id(case) not in done]
    return [*by_canary, score(serving.champion, CHAMPION, rest, seconds)] if rest else by_canary
