"""Days that go by around a rollout: the prediction log, the outcomes, and a look at each midnight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import bundle_checksum
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep
from level1_pipeline.store.routes import Route
from level2_cicd.rollout.advance import advance, start
from level2_cicd.rollout.state_machine import Decision
from level2_cicd.rollout.states import CHAMPION, ROLLED_BACK
from tests.support.prediction_log import log_predictions

ROWS_A_DAY = 400


def better(y: np.ndarray) -> np.ndarray:
    """Scores of a model that knows something, for either task."""
    return 0.25 + 0.5 * y if problem.TASK == "classification" else y + 0.5


def worse(y: np.ndarray) -> np.ndarray:
    """Scores of a model that knows less."""
    return 0.3 + 0.2 * y if problem.TASK == "classification" else y + 1.5


@dataclass
class Days:
    """Days that go by: what each arm answers, then the outcomes, then a look at the rollout at midnight."""

    settings: Settings
    store: Store
    rows: pd.DataFrame  # with outcomes, ordered by time
    today: pd.Timestamp = field(default=pd.Timestamp(0))  # 00:00 local time, as UTC
    candidate: Callable[[np.ndarray], np.ndarray] = better
    latency_ms: float = 1.0  # of the candidate, for one row
    sometimes: float = 0.0  # share of the candidate's answers that fail
    day: int = 0

    @property
    def now(self) -> datetime:
        return self.today.to_pydatetime()

    @property
    def route(self) -> Route:
        return self.store.route(problem.NAME)

    def register(self, version: str) -> None:
        """The store knows what the version is, as after a training."""
        self.store.record_checksum(problem.NAME, version, bundle_checksum(self.settings.bundles / version))

    def start(self, **more: Any) -> Decision:
        return start(self.settings, "2", "a test", now=self.now, **more)

    def pass_day(self) -> None:
        """One day of traffic, answered as the route says, with its outcomes; then it is midnight again."""
        cases = self.rows.iloc[self.day * ROWS_A_DAY : (self.day + 1) * ROWS_A_DAY]
        y, route, at = cases[problem.TARGET].to_numpy(), self.route, self.now + pd.Timedelta("12h")
        share = {"shadow": 1.0, "canary": route.share}.get(route.mode or "", 0.0)
        tried = np.arange(len(y)) < share * len(y)
        failed = tried & (np.arange(len(y)) % 100 < 100 * self.sometimes)
        answered = ~tried | failed if route.mode == "canary" else np.ones(len(y), bool)
        self._log(cases[answered], "champion", str(route.champion), worse(y)[answered], at, 1.0)
        if tried.any():
            scores = np.where(failed, np.nan, self.candidate(y))[tried]
            self._log(cases[tried], str(route.mode), str(route.challenger), scores, at, self.latency_ms)
        self._know(cases, at)
        self.day, self.today = self.day + 1, self.today + pd.Timedelta("1D")

    def midnight(self) -> Decision:
        """A day, and a look."""
        self.pass_day()
        decision = advance(self.settings, self.now)
        assert decision
        return decision

    def until(self, *states: str, days: int = 20) -> list[Decision]:
        """Days until the rollout is in one of these states; all decisions."""
        decisions: list[Decision] = []
        while not decisions or decisions[-1].step.state not in states:
            assert len(decisions) < days, decisions[-1].reason
            decisions.append(self.midnight())
            ended = decisions[-1].step.state in (CHAMPION, ROLLED_BACK)
            assert not ended or decisions[-1].step.state in states, decisions[-1].reason
        return decisions

    def audit(self) -> list[tuple[str, str | None, str | None]]:
        return [(line.text, line.from_version, line.to_version) for line in self.store.audit_log(problem.NAME)]

    def _log(self, cases: pd.DataFrame, arm: str, version: str, scores: np.ndarray, at: datetime, ms: float) -> None:
        answers = zip(cases.index, schema.records(cases), scores, strict=True)
        log_predictions(
            self.store,
            [
                {
                    "id": f"{self.day}-{place}",
                    "arm": arm,
                    "entity_id": f"e{place}",
                    "version": version,
                    "at": at,
                    "record": record,
                    "score": None if np.isnan(score) else float(score),
                    "error": "ValueError: planted" if np.isnan(score) else None,
                    "latency_ms": ms + number * 1e-6,  # no two calls have the same latency
                }
                for number, (place, record, score) in enumerate(answers)
            ],
        )

    def _know(self, cases: pd.DataFrame, at: datetime) -> None:
        labels = cases[problem.TARGET].items()
        keep(self.store, [Reported(f"{self.day}-{place}", float(y), at) for place, y in labels], at)
