"""Simulated weeks: real models score real rows, straight into a real store; faults and changes are planted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import split_rows
from level1_pipeline.store import leases
from level1_pipeline.store.audit import Change, Promoted
from level1_pipeline.store.database import Store
from monitoring.results import MonitoringRun
from monitoring.run import run_monitoring
from tests.support.prediction_log import log_outcomes, log_predictions
from tests.support.serving import eventually


def confused(rows: pd.DataFrame) -> pd.DataFrame:
    """Labels that belong to other rows: there is nothing to learn but the base rate."""
    seen_before = rows[problem.TARGET].notna()
    labels = rows[problem.TARGET].copy()
    labels[seen_before] = labels[seen_before].sample(frac=1, random_state=0).to_numpy()
    return rows.assign(**{problem.TARGET: labels})


def as_they_are(rows: pd.DataFrame) -> pd.DataFrame:
    return rows


def of_autumn(rows: pd.DataFrame) -> pd.DataFrame:
    """A model that has forgotten the winter."""
    return rows[rows[problem.EVENT_TIME] >= midnight("2013-09-01")]


MODELS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "april": ("2013-04-01", as_they_are),
    "may": ("2013-05-01", as_they_are),
    "confused": ("2013-05-01", confused),
    "autumn": ("2013-11-15", of_autumn),
}


def midnight(day: str) -> pd.Timestamp:
    """Where a local day begins."""
    return pd.Timestamp(day, tz=problem.TIMEZONE).tz_convert("UTC")


def train(rows: pd.DataFrame, as_of: str, folder: Path, **info: Any) -> Path:
    """A bundle as a run as of that day makes it: judged on the newest days, fitted on all matured rows."""
    time = midnight(as_of)
    seen_before = rows[rows[problem.EVENT_TIME] < time]
    seen_before = seen_before.assign(
        **{problem.TARGET: seen_before[problem.TARGET].where(seen_before[problem.LABEL_TIME] < time)}
    )
    parts = split_rows(seen_before, time)
    judged = predict(fit_model(parts.train), parts.holdout)
    info = {
        "verdict": "pass",
        "metrics": problem.evaluate(parts.holdout[problem.TARGET].to_numpy(), judged),
        "trained_until": parts.pool[problem.EVENT_TIME].max().isoformat(),
        **info,
    }
    profile = day_summaries(parts.pool)
    write_bundle(folder, fit_model(parts.pool), parts.holdout, info, profile)
    return folder


@dataclass
class World:
    """A home whose prediction log is written as if the days had been served."""

    settings: Settings
    rows: pd.DataFrame
    models: Path

    @cached_property
    def store(self) -> Store:
        return Store(self.settings.operations)

    def publish(self, version: str, model: str) -> None:
        """Put one of the trained models on the shelf."""
        target = self.settings.home / "bundles" / problem.NAME / version
        self._train_once(model)
        if not target.exists():
            shutil.copytree(self.models / model, target)

    def _train_once(self, model: str) -> None:
        """The processes that run tests beside each other share the models: who needs one first trains it."""
        made, being_made = self.models / model, self.models / f"{model}.partial"
        if made.exists():
            return
        try:
            being_made.mkdir(parents=True)
        except FileExistsError:
            eventually(made.exists, 600)
            return
        as_of, spoil = MODELS[model]
        try:
            train(spoil(self.rows), as_of, being_made / model).rename(made)
        except BaseException:
            shutil.rmtree(being_made)  # nobody waits for it
            raise

    def serve(self, version: str, model: str, day: str) -> None:
        """Make a version champion at the beginning of a day."""
        self.publish(version, model)
        with leases.hold(self.store, leases.promotion(problem.NAME), 30) as lease:
            change = Change("tester", Promoted("champion"), "a test", midnight(day).to_pydatetime())
            self.store.change_route(problem.NAME, lease, change, champion=version)

    def between(self, first: str, last: str) -> pd.DataFrame:
        """The true rows of local days, `last` excluded."""
        when = self.rows[problem.EVENT_TIME]
        return self.rows[(when >= midnight(first)) & (when < midnight(last))].reset_index(drop=True)

    def score(self, rows: pd.DataFrame, version: str) -> np.ndarray:
        """What a published version says."""
        return load_bundle(self.settings.home / "bundles" / problem.NAME / version).predict_frame(rows)

    def log(
        self, rows: pd.DataFrame, version: str = "1", arm: str = "champion", scores: np.ndarray | None = None
    ) -> None:
        """Write rows as answered, with the outcomes they hold."""
        scores = self.score(rows, version) if scores is None else scores
        now = datetime.now(UTC)
        lines = [
            {
                "arm": arm,
                "version": version,
                "recorded_at": now,
                "id": name,
                "entity_id": entity,
                "at": at,
                "record": record,
                "score": score if np.isfinite(score) else None,
            }
            for name, entity, at, record, score in zip(
                rows[problem.ID],
                rows[problem.ENTITY],
                rows[problem.EVENT_TIME].dt.to_pydatetime(),
                schema.records(rows),
                scores.tolist(),
                strict=True,
            )
        ]
        log_predictions(self.store, lines)
        if arm != "shadow":
            self.outcomes(rows)

    def outcomes(self, rows: pd.DataFrame) -> None:
        """What really happened, known when it became known."""
        rows = rows[rows[problem.TARGET].notna()]
        times = rows[problem.LABEL_TIME].dt.to_pydatetime()
        named = zip(rows[problem.ID], rows[problem.TARGET].tolist(), times, strict=True)
        log_outcomes(self.store, [{"id": name, "value": value, "known_at": at} for name, value, at in named])

    def look(self, day: str, days: int = 7) -> MonitoringRun:
        """A run at the beginning of a day."""
        return run_monitoring(self.settings, midnight(day).to_pydatetime(), days)
