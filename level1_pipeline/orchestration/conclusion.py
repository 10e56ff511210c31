"""What came out of a training: the line in the audit log, the reports that stay, the exit code, and the line for people."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any

from level1_pipeline import problem
from level1_pipeline.orchestration.pipeline import TrainingResults
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps.step import Run
from level1_pipeline.store import clock
from level1_pipeline.store.audit import Change, Training, TrainingJudged, TrainingStopped

PASSED, NOT_PASSED, DATA_FAULT = 0, 3, 4  # exit codes, see docs/level1.md


@dataclass(frozen=True)
class Result:
    """How a request ended: the exit code, and the one line that says what came out and where it is."""

    code: int
    line: str
    results: TrainingResults | None = None  # of the steps; None when they did not all run


def stopped(registry: Registry, run: Run, order: str | None, fault: Exception, seconds: float) -> Result:
    """A training that the data did not allow, as a line of the audit log, with the report of the checks."""
    action = TrainingStopped(as_of=run.as_of, seconds=round(seconds, 1), order=order)
    _record(registry, run, action, str(fault), {})
    page = _keep_reports(registry.settings, run)
    line = f"level 1 | {problem.NAME} | STOPPED before training: {type(fault).__name__} | {page}"
    return Result(DATA_FAULT, f"{fault}\n{line}")


def conclude(registry: Registry, run: Run, order: str | None, results: TrainingResults, seconds: float) -> Result:
    """A training whose steps all ran: its line in the audit log, its times in MLflow, and its reports."""
    registered, metrics = results.registered, results.evaluated.metrics
    if not run.experiment:
        action = TrainingJudged(
            as_of=run.as_of,
            seconds=round(seconds, 1),
            order=order,
            status=registered.status,
            run_id=registered.run_id,
        )
        why = "; ".join(registered.reasons) or run.reason or run.trigger
        evidence = {"metrics": metrics, "reasons": registered.reasons, "staleness": results.evaluated.staleness}
        _record(registry, run, action, why, evidence, registered.version)
    _log_times(registry, results)
    before = "".join(f"  {reason}\n" for reason in registered.reasons)
    before += f"  model card: {_keep_reports(registry.settings, run)}\n"
    shutil.rmtree(run.folder)
    where = f"MLflow run {registered.run_id[:8]}, no version"
    if registered.version:
        where = f"models:/{problem.NAME}/{registered.version} -> {results.published.message}"
    # The first three metrics fit on a line; all of them stand in the card.
    scores = " ".join(f"{name}={value:.4f}" for name, value in list(metrics.items())[:3])
    verdict = f"gate {registered.status.upper()}"
    line = f"{before}level 1 | {problem.NAME} | {scores} | {verdict} | {where} | {seconds:.0f}s"
    return Result(PASSED if registered.status == "pass" else NOT_PASSED, line, results)


def _log_times(registry: Registry, results: TrainingResults) -> None:
    """Start and seconds of every step, which only now are known for the last ones."""
    run_id = results.registered.run_id
    times = {result.step: {"started": result.started, "seconds": result.seconds} for result in results}
    registry.client.log_dict(run_id, times, "steps.json")
    for result in results:
        registry.client.log_metric(run_id, f"seconds_{result.step}", result.seconds)


def _record(
    registry: Registry, run: Run, action: Training, reason: str, evidence: dict[str, Any], version: str | None = None
) -> None:
    settings = registry.settings
    change = Change(settings.who, action, reason, clock.now(settings), {"trigger": run.trigger, **evidence})
    registry.store.record(problem.NAME, change, to_version=version)


def _keep_reports(settings: Settings, run: Run) -> str:
    """Keep the pages of a run beyond its folder; returns the one to open first, relative to here if possible."""
    target = settings.home / "reports" / "level1" / problem.NAME / run.day
    target.mkdir(parents=True, exist_ok=True)
    kept = [name for name in ("checks.html", "model_card.md") if run.path(name).exists()]
    for name in kept:
        shutil.copyfile(run.path(name), target / name)
    return os.path.relpath(target / kept[-1]) if kept else "no report"
