"""Start a training: who may, under which identity, with which orchestrator, and what came out."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.errors import DataCheckFailed, LeaseHeld, NotEnoughData, PromotionRefused
from level1_pipeline.orchestration import lineage
from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready
from level1_pipeline.registry import CHAMPION, Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps.step import Facts, Run
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, Training, TrainingJudged, TrainingStopped
from level1_pipeline.store.audit_queries import was_carried_out

PASSED, NOT_PASSED, DATA_FAULT = 0, 3, 4  # exit codes, see docs/level1.md


@dataclass(frozen=True)
class Request:
    """What somebody or something asks for."""

    as_of: pd.Timestamp | None = None  # default: today on the clock
    promote_to: str = CHAMPION
    experiment: str | None = None
    until: str | None = None
    tune: int = 0
    trigger: str = "on demand"
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)  # what the trigger rests on, for the run's tags
    order: str | None = None  # the id of the order that it carries out: once, whoever tries it again


@dataclass(frozen=True)
class Result:
    """How a request ended: the exit code, and the one line that says what came out and where it is."""

    code: int
    line: str
    facts: dict[str, Facts]


def day(text: str) -> pd.Timestamp:
    """The beginning of a local day, `2013-04-01`, as aware UTC: what "as of" means."""
    return pd.Timestamp(text).tz_localize(problem.TIMEZONE).tz_convert("UTC")


def today(settings: Settings) -> pd.Timestamp:
    """The beginning of the current local day on the clock."""
    return pd.Timestamp(clock.now(settings)).tz_convert(problem.TIMEZONE).normalize().tz_convert("UTC")


def run_training(settings: Settings, request: Request, done: Callable[[str, Facts], None] | None = None) -> Result:
    """Train as asked, unless another training is going on, which is not an error but said."""
    registry, watch = Registry(settings), time.perf_counter()
    rollout = registry.route()
    if request.promote_to == CHAMPION and rollout.mode:
        raise PromotionRefused(
            f"version {rollout.challenger} is in {rollout.mode}: Level 1 does not change the champion during a rollout; train with --promote-to none"
        )
    run = _run(settings, request, rollout.champion)
    with ExitStack() as stack:
        try:
            stack.enter_context(leases.hold(registry.store, f"train {problem.NAME}", settings.lease_seconds))
        except LeaseHeld as held:
            return Result(PASSED, f"level 1 | {problem.NAME} | skipped: another training is going on ({held})", {})
        if request.order and was_carried_out(registry.store.audit_log(problem.NAME), request.order):
            return Result(PASSED, f"level 1 | {problem.NAME} | skipped: this order was carried out", {})
        return _train(registry, run, request, done, watch)


def _train(
    registry: Registry, run: Run, request: Request, done: Callable[[str, Facts], None] | None, watch: float
) -> Result:
    try:
        facts = _orchestrate(registry.settings, run, request.until, done)
        result = _conclude(registry, run, request, facts, time.perf_counter() - watch)
        if "publish" in facts:  # and not earlier: killed before its line is written, it must not train again
            from level1_pipeline.orchestration import flow

            flow.forget(run)
        return result
    except (DataCheckFailed, NotEnoughData) as fault:
        seconds = round(time.perf_counter() - watch, 1)
        _record(registry, run, TrainingStopped(run.as_of, seconds, request.order), str(fault))
        page = _keep_reports(registry.settings, run)
        return Result(
            DATA_FAULT,
            f"{fault}\nlevel 1 | {problem.NAME} | STOPPED before training: {type(fault).__name__} | {page}",
            {},
        )


def _run(settings: Settings, request: Request, champion: str | None = None) -> Run:
    as_of = (request.as_of if request.as_of is not None else today(settings)).isoformat()
    who = lineage.identity()
    asked = (as_of, request.promote_to, request.experiment or "", str(request.tune), champion or "")
    key = lineage.key(
        problem.NAME, problem.fingerprint(settings.source), who["source_digest"], who["lock_digest"], *asked
    )
    return Run(
        key=key,
        folder=str(settings.home / "runs" / problem.NAME / key),
        as_of=as_of,
        promote_to=request.promote_to,
        experiment=request.experiment,
        tune=request.tune,
        trigger=request.trigger,
        reason=request.reason,
        evidence=request.evidence,
        identity=who,
        # Prefect shows a flow's parameters to everybody: addresses with passwords, and keys, stay in the environment.
        settings=settings.model_dump(mode="json", include={"home", "source", "clock", "lease_seconds", "actor"}),
    )


def _orchestrate(
    settings: Settings, run: Run, until: str | None, done: Callable[[str, Facts], None] | None
) -> dict[str, Facts]:
    log = settings.home / "prefect" / "server.log"
    with prefect_server(log) as api:
        # The heavy imports take as long as the server's start, so they happen meanwhile.
        import great_expectations  # noqa: F401
        import mlflow.sklearn  # noqa: F401
        import sklearn.ensemble  # noqa: F401

        from level1_pipeline.orchestration import flow

        registry = Registry(settings)
        registry.experiment(problem.NAME)  # MLflow migrates a new database: seconds, also meanwhile
        if registry.route().champion:
            registry.reconcile()
        wait_until_ready(api, log)
        flow.end_killed_runs(settings.home)
        return flow.training(asdict(run), until, done)


def _conclude(registry: Registry, run: Run, request: Request, facts: dict[str, Facts], seconds: float) -> Result:
    head = f"level 1 | {problem.NAME} | "
    if request.until and "publish" not in facts:
        return Result(PASSED, f"{head}stopped after {request.until}, as asked: look into {run.folder}", facts)
    register, metrics = facts["register"], facts["evaluate"]["metrics"]
    version, outcome = register["versions"].get("refitted"), register["outcome"]
    if not run.experiment:
        judged = TrainingJudged(run.as_of, round(seconds, 1), request.order, outcome, register["run_id"])
        evidence = {"metrics": metrics, "reasons": register["reasons"]}
        why = "; ".join(register["reasons"]) or run.reason or run.trigger
        _record(registry, run, judged, why, evidence, version)
    _log_times(registry, register["run_id"], facts)
    before = "".join(f"  {reason}\n" for reason in register["reasons"])
    before += f"  model card: {_keep_reports(registry.settings, run)}\n"
    shutil.rmtree(run.folder)
    where = f"MLflow run {register['run_id'][:8]}, no version"
    if version:
        where = f"models:/{problem.NAME}/{version} -> {facts['publish']['alias'] or 'no alias'}"
    # The first three metrics fit on a line; all of them stand in the card.
    scores = " ".join(f"{name}={value:.4f}" for name, value in list(metrics.items())[:3])
    line = f"{before}{head}{scores} | gate {outcome.upper()} | {where} | {seconds:.0f}s"
    return Result(PASSED if outcome == "pass" else NOT_PASSED, line, facts)


def _log_times(registry: Registry, run_id: str, facts: dict[str, Facts]) -> None:
    """Start and seconds of every step, which only now are known for the last ones."""
    times = {name: {"started": done["started"], "seconds": done["seconds"]} for name, done in facts.items()}
    registry.client.log_dict(run_id, times, "steps.json")
    for name, timed in times.items():
        registry.client.log_metric(run_id, f"seconds_{name}", timed["seconds"])


def _record(
    registry: Registry,
    run: Run,
    action: Training,
    reason: str,
    evidence: dict[str, Any] | None = None,
    version: str | None = None,
) -> None:
    settings = registry.settings
    change = Change(settings.who, action, reason, clock.now(settings), {"trigger": run.trigger, **(evidence or {})})
    registry.store.record(problem.NAME, change, to_version=version)


def _keep_reports(settings: Settings, run: Run) -> str:
    """Keep the pages of a run beyond its folder; returns the one to open first, relative to here if possible."""
    target = settings.home / "reports" / "level1" / problem.NAME / run.day
    target.mkdir(parents=True, exist_ok=True)
    kept = [name for name in ("checks.html", "model_card.md") if run.path(name).exists()]
    for name in kept:
        shutil.copyfile(run.path(name), target / name)
    return os.path.relpath(target / kept[-1]) if kept else "no report"
