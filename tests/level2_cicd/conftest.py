"""A home with a champion and candidates, and a prediction log that is written as the service writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import outcomes, predictions
from level2_cicd.rollout import controller
from level2_cicd.rollout.policy import CHAMPION, ROLLED_BACK
from level2_cicd.rollout.state_machine import Decision
from tests.serving.conftest import Models, models, opened, set_route

ROWS_A_DAY = 400
NO_REGISTRY = "sqlite:////nowhere/mlflow.db"  # MLflow is down: nothing here may need it


def better(y: np.ndarray) -> np.ndarray:
    """Scores of a model that knows something, for either task."""
    return 0.25 + 0.5 * y if problem.TASK == "classification" else y + 0.5


def worse(y: np.ndarray) -> np.ndarray:
    """Scores of a model that knows less."""
    return 0.3 + 0.2 * y if problem.TASK == "classification" else y + 1.5


@dataclass
class Year:
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

    def start(self, **more: Any) -> Decision:
        return controller.start(self.settings, "2", "a test", now=self.now, **more)

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
            said = np.where(failed, np.nan, self.candidate(y))[tried]
            self._log(cases[tried], str(route.mode), str(route.challenger), said, at, self.latency_ms)
        self._know(cases, at)
        self.day, self.today = self.day + 1, self.today + pd.Timedelta("1D")

    def midnight(self) -> Decision:
        """A day, and a look."""
        self.pass_day()
        decision = controller.advance(self.settings, self.now)
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
        return [(one["action"], one["from_version"], one["to_version"]) for one in self.store.history(problem.NAME)]

    def _log(self, cases: pd.DataFrame, arm: str, version: str, said: np.ndarray, at: datetime, ms: float) -> None:
        lines = [
            {
                "problem": problem.NAME,
                "id": f"{self.day}-{place}",
                "arm": arm,
                "entity_id": f"e{place}",
                "version": version,
                "at": at,
                "recorded_at": at,
                "record": record,
                "score": None if np.isnan(score) else float(score),
                "error": "ValueError: planted" if np.isnan(score) else None,
                "latency_ms": ms + number * 1e-6,
            }
            for number, (place, record, score) in enumerate(zip(cases.index, schema.records(cases), said, strict=True))
        ]
        with self.store.engine.begin() as connection:
            connection.execute(sa.insert(predictions), lines)

    def _know(self, cases: pd.DataFrame, at: datetime) -> None:
        known = {"problem": problem.NAME, "known_at": at, "confirmed_at": at, "recorded_at": at}
        truth = [known | {"id": f"{self.day}-{place}", "value": y} for place, y in cases[problem.TARGET].items()]
        with self.store.engine.begin() as connection:
            connection.execute(sa.insert(outcomes), truth)


@pytest.fixture
def year(home: Settings, models: Models, rows: pd.DataFrame) -> Year:
    """Version 1 serves, version 2 is published, and a year of rows lies ahead."""
    for version, kind in (("1", 1), ("2", 0), ("3", 2)):
        models.publish(home.home, version, kind)
    settings = home.changed({"tracking_uri": NO_REGISTRY, "canary_shares": "0.25,0.5"})
    set_route(settings, champion="1")
    labelled = rows[rows[problem.TARGET].notna()].iloc[10_000:20_000].reset_index(drop=True)
    first = labelled[problem.EVENT_TIME].iloc[0].tz_convert(problem.TIMEZONE).normalize().tz_convert("UTC")
    return Year(settings, Store(settings.operations), labelled, first)


__all__ = ["Models", "Year", "models", "opened", "set_route", "year"]
