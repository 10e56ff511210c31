"""A new version without a training: the champion with an offset on its scores, fitted on matured outcomes.

It stands between a note and a training: the scores are off, their order is right, and a training would not pay or may
not start yet. The offset is judged as a training is: fitted on the older days, and held against the champion on the
newest ones. The version has a bundle, a lineage and a rollout like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import EVALUATION_MODEL, Bundle
from level1_pipeline.bundle.recalibrated import moved, recalibrate
from level1_pipeline.bundle.write import seal_bundle, write_bundle
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.gate import Check, Verdict
from level1_pipeline.evaluation.metrics import days
from level1_pipeline.orchestration.run import today
from level1_pipeline.registry import Registry
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.steps.register import log_model
from level1_pipeline.store import audit, clock, quarantine
from level1_pipeline.store.audit_queries import last_recalibration
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from monitoring.data.prediction_window import last_days, read
from monitoring.detectors import concept_drift, past_champions
from monitoring.detectors.performance import matured
from monitoring.thresholds import LAST_WINDOWS, MIN_EXCESS_LOSS, WINDOW_CONFIDENCE, WINDOW_DAYS

PRIOR_ROWS = 2000  # with outcomes as the scores promise, that stand against the offset: few rows move it little
STEPS = 50  # of Newton's method; it needs about five
NOT_INHERITED = ("files", "engine", "judged_version")  # of the champion's manifest
DAYS = LAST_WINDOWS * WINDOW_DAYS  # before now, over which a lasting change was seen


def fit_offset(y: np.ndarray, p: np.ndarray, prior_rows: int = PRIOR_ROWS) -> float:
    """The offset with the smallest log loss (regression: squared error) on the outcomes and on `prior_rows` more, whose
    outcomes are what the scores promise. 0 without outcomes.

    Args:
        y: what happened; shape (n,).
        p: the scores; shape (n,).
        prior_rows: the shrinkage. With n = `prior_rows` about half of the bias is taken away.
    """
    if not len(y):
        return 0.0
    if not task().has_event:
        return float((y - p).sum() / (len(y) + prior_rows))
    offset, weight = 0.0, prior_rows / len(y)
    for _ in range(STEPS):
        q = moved(p, offset)
        gradient = (y - q).sum() + weight * (p - q).sum()
        step = gradient / ((1 + weight) * (q * (1 - q)).sum() + 1e-12)
        offset += float(np.clip(step, -1, 1))
        if abs(step) < 1e-10:
            break
    return offset


@dataclass(frozen=True)
class Recalibration:
    """An offset for a version, and what the gate says of it."""

    offset: float  # fitted on all rows: to be served
    judged_offset: float  # fitted on the older days: what the gate judged
    judged_from: pd.Timestamp  # the first time that it had not seen
    rows: int
    verdict: Verdict
    metrics: dict[str, float]  # on the days that it had not seen


def judge(rows: pd.DataFrame, scores: np.ndarray, who: str) -> Recalibration | None:
    """Fit an offset, and ask the gate; None where there are too few days for both.

    Args:
        rows: matured rows (EVENT_TIME, TARGET, SLICES), which the version has not seen.
        scores: that the version gives them; shape (n,).
        who: the version, in words.
    """
    day = days(rows) if len(rows) else np.empty(0)
    different = np.unique(day)
    if len(different) < 2 * gate.COMPARISON_MIN_DAYS:
        return None
    newest = day >= different[-gate.COMPARISON_MIN_DAYS]
    y = rows[problem.TARGET].to_numpy("float64")
    judged = fit_offset(y[~newest], scores[~newest])
    unseen, theirs = rows[newest].reset_index(drop=True), scores[newest]
    ours = moved(theirs, judged)
    checks, comparison = gate.better_than_champion(unseen, theirs, ours, who)
    begin = unseen[problem.EVENT_TIME].min()
    metrics = problem.evaluate(y[newest], ours)
    return Recalibration(fit_offset(y, scores), judged, begin, len(rows), Verdict(tuple(checks), comparison), metrics)


def recalibrate_champion(registry: Registry, reason: str, evidence: dict[str, Any]) -> str:
    """Make a challenger of the champion and an offset, if the gate passes it. Returns what came out, in words.

    Raises:
        BundleRefused: the champion's bundle is damaged.
        LeaseHeld, LeaseLost: another process changes the route at this moment; the version stays, without an alias.
    """
    if classes():
        return "no recalibration: an offset moves one number, and a score is a probability for each class"
    version, now = str(registry.route().champion), clock.now(registry.settings)
    last = last_recalibration(registry.store.audit_log(problem.NAME))
    if last and now - last < timedelta(days=registry.settings.retraining.cooldown_days):
        return f"no recalibration: the last one was at {date_of(last)}"
    parent = registry.load(version)
    rows, scores = _unseen_outcomes(registry.store, parent, now)
    result = judge(rows, scores, f"version {version}")
    if result is None:
        return f"no recalibration: version {version} has answered too few days since it was trained"
    verdict = Verdict((*result.verdict.checks, _ranking_intact(rows, scores, result)), result.verdict.comparison)
    made = _register(registry, version, parent, rows, result) if verdict.status == "pass" else None
    about = f"offset {result.offset:+.3f} on the scores of version {version}, from {result.rows:,} outcomes"
    why = "; ".join([about, *verdict.reasons])
    facts = {**evidence, "offset": result.offset, "metrics": result.metrics, "verdict": verdict.as_dict()}
    change = audit.Change(registry.settings.who, audit.Recalibrated(verdict.status, version), why, now, facts)
    registry.store.record(problem.NAME, change, to_version=made)
    if made:
        registry.publish(made)
        registry.promote(made, "challenger", f"{about}: {reason}", facts, judged_against=version)
    return f"recalibration: gate {verdict.status}, {why}"


def _unseen_outcomes(store: Store, parent: Bundle, now: datetime) -> tuple[pd.DataFrame, np.ndarray]:
    """The matured rows of the last days that the champion has not seen in training, and its scores for them."""
    log = read(store, last_days(now, DAYS), now, quarantine.spans(store))
    rows = matured(log.rows)
    if len(rows):
        rows = rows[rows[problem.EVENT_TIME] > pd.Timestamp(parent.manifest["trained_until"])]
        rows = rows.drop_duplicates(problem.ID if problem.ID in rows else "id").reset_index(drop=True)
    return rows, parent.predict_frame(rows) if len(rows) else np.empty(0)


def _ranking_intact(rows: pd.DataFrame, scores: np.ndarray, result: Recalibration) -> Check:
    """Whether an offset is enough: with it, the loss on the days that it has not seen is what the scores promise."""
    unseen = (rows[problem.EVENT_TIME] >= result.judged_from).to_numpy()
    daily = concept_drift.daily_figures(
        rows[unseen].reset_index(drop=True), moved(scores[unseen], result.judged_offset)
    )
    excess = daily["excess"].dropna()
    if not len(excess):
        return Check("ranking is intact", "pass", "not tested: nothing says what loss to expect")
    mean = concept_drift.over_days(excess).value
    worse = concept_drift.beyond(excess, WINDOW_CONFIDENCE) and mean > MIN_EXCESS_LOSS
    return gate.judge("ranking is intact", not worse, f"with the offset the loss is {mean:+.3f} from its expectation")


def _register(registry: Registry, version: str, parent: Bundle, rows: pd.DataFrame, result: Recalibration) -> str:
    """The new version: its run in MLflow, its bundle, and inside it what the gate judged, as its evidence."""
    import mlflow

    lineage = {
        "parent": version,
        "trained_until": parent.manifest.get("recalibration", parent.manifest)["trained_until"],  # of its trees
        "offset": result.offset,
        "rows": result.rows,
        "from": _time(rows, "min"),
        "until": _time(rows, "max"),
    }
    inherited = {name: value for name, value in parent.manifest.items() if name not in NOT_INHERITED}
    info = {**inherited, "as_of": today(registry.settings).isoformat(), "recalibration": lineage}
    older = rows[rows[problem.EVENT_TIME] < result.judged_from]
    registry.client  # noqa: B018  (sets MLflow's address)
    with TemporaryDirectory(dir=registry.settings.home) as work:
        folder = Path(work)
        for name, offset, seen in (
            (EVALUATION_MODEL, result.judged_offset, older),
            ("served_model", result.offset, rows),
        ):
            about = {**info, "kind": name.replace("_", " "), "trained_until": _time(seen, "max")}
            pipeline = recalibrate(parent.pipeline, offset)
            write_bundle(folder / name, pipeline, rows, about, past_champions.profile(parent))
        experiment = registry.experiment(problem.NAME)
        with mlflow.start_run(experiment_id=experiment, run_name=f"recalibration of version {version}") as run:
            tags = {"as_of": info["as_of"], "verdict": "pass", "parent": version}
            mlflow.set_tags({**tags, "mlflow.user": registry.settings.who})
            mlflow.log_params({"offset": result.offset, "rows": result.rows})
            mlflow.log_metrics({name: value for name, value in result.metrics.items() if value == value})
            judged = {"run_id": run.info.run_id, "verdict": "pass", "metrics": result.metrics}
            sealed = seal_bundle(folder / "served_model", folder / "bundle", judged, folder / EVALUATION_MODEL)
            address = log_model(recalibrate(parent.pipeline, result.offset), rows.head(100))
            described = f"{info['as_of'][:10]} · offset {result.offset:+.3f} on the scores of version {version}"
            made = registry.register(run.info.run_id, address, sealed, tags, described)
            mlflow.set_tags({"version": made, "trigger": "recalibration"})
            return made


def _time(rows: pd.DataFrame, which: str) -> str:
    return str(getattr(rows[problem.EVENT_TIME], which)().isoformat())
