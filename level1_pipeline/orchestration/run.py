"""Start a training: who may, under which identity, and with which orchestrator."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.contract import misread_labels
from level1_pipeline.bundle.load import verify_bundle
from level1_pipeline.errors import (
    BundleRefused,
    DataCheckFailed,
    LeaseHeld,
    MLOpsError,
    NoAnswer,
    NotEnoughData,
    ProblemRefused,
    PromotionRefused,
)
from level1_pipeline.evaluation.contract import check
from level1_pipeline.evaluation.labels import trusted_set
from level1_pipeline.inputs import source
from level1_pipeline.orchestration import conclusion, lineage
from level1_pipeline.orchestration.conclusion import PASSED, Result
from level1_pipeline.orchestration.pipeline import TrainingResults, pipeline
from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready
from level1_pipeline.registry import CHAMPION, Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps.step import Run, StepResult
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit_queries import was_carried_out
from level1_pipeline.store.days import date_of, start_of


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


def today(settings: Settings) -> pd.Timestamp:
    """The beginning of the current local day on the clock."""
    return start_of(date_of(clock.now(settings)))


def run_training(
    settings: Settings,
    request: Request,
    done: Callable[[StepResult], None] | None = None,
    orchestrated: bool = True,
) -> Result:
    """Train as asked, unless another training is going on, which is not an error but said.

    Args:
        settings: of the home.
        request: what is asked for.
        done: is told the result of each step.
        orchestrated: by Prefect; without it a training that is killed cannot be resumed, and a simulation saves seconds.
    """
    registry, watch = Registry(settings), time.perf_counter()
    clock.now(settings)  # another clock than that of the home is refused now, not after minutes
    as_of = request.as_of if request.as_of is not None else today(settings)
    check.refuse(settings if orchestrated else None, as_of)
    trusted_set.trusted_span()
    rollout = registry.route()
    if request.promote_to == CHAMPION and rollout.mode:
        raise PromotionRefused(
            f"version {rollout.challenger} is in {rollout.mode}: Level 1 does not change the champion during a rollout; train with --promote-to none"
        )
    _refuse_misread_labels(registry, rollout.champion)
    run = new_run(settings, request, rollout.champion)
    with ExitStack() as stack:
        try:
            stack.enter_context(leases.hold(registry.store, f"train {problem.NAME}", settings.lease_seconds))
        except LeaseHeld as held:
            return Result(PASSED, f"level 1 | {problem.NAME} | skipped: another training is going on ({held})")
        if request.order and was_carried_out(registry.store.audit_log(problem.NAME), request.order):
            return Result(PASSED, f"level 1 | {problem.NAME} | skipped: this order was carried out")
        return _train(registry, run, request, watch, done, orchestrated)


def _refuse_misread_labels(registry: Registry, champion: str | None) -> None:
    """Earlier labels keep their meaning; what a damaged champion was trained for is told by whoever loads it."""
    with suppress(BundleRefused):
        if champion and (wrong := misread_labels(verify_bundle(registry.bundle_folder(champion)))):
            raise ProblemRefused(f"problem.py: {wrong}")


def _train(
    registry: Registry,
    run: Run,
    request: Request,
    watch: float,
    done: Callable[[StepResult], None] | None,
    orchestrated: bool,
) -> Result:
    try:
        results = _orchestrate(registry.settings, run, request.until, done) if orchestrated else pipeline(run)
    except (DataCheckFailed, NotEnoughData) as fault:
        return conclusion.stopped(registry, run, request.order, fault, time.perf_counter() - watch)
    if results is None:
        line = f"level 1 | {problem.NAME} | stopped after {request.until}, as asked: look into {run.folder}"
        return Result(PASSED, line)
    result = conclusion.conclude(registry, run, request.order, results, time.perf_counter() - watch)
    if orchestrated:
        from level1_pipeline.orchestration import flow

        flow.forget(run)  # and not earlier: killed before its line is written, it must not train again
    return result


def new_run(settings: Settings, request: Request, champion: str | None = None) -> Run:
    """The run of a request. Its key holds everything that could change a result."""
    as_of = (request.as_of if request.as_of is not None else today(settings)).isoformat()
    who = lineage.identity()
    details = (as_of, request.promote_to, request.experiment or "", str(request.tune), champion or "")
    key = lineage.key(problem.NAME, source.fingerprint(settings), who["source_digest"], who["lock_digest"], *details)
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
        settings=settings.model_dump(
            mode="json", include={"home", "source", "clock", "lease_seconds", "actor", "keep_training_data"}
        ),
    )


def _orchestrate(
    settings: Settings, run: Run, until: str | None, done: Callable[[StepResult], None] | None
) -> TrainingResults | None:
    log = settings.home / "prefect" / "server.log"
    with prefect_server(log, settings.prefect_api_url) as api:
        # The heavy imports take as long as the server's start, so they happen meanwhile.
        import great_expectations  # noqa: F401
        import mlflow.sklearn  # noqa: F401
        import sklearn.ensemble  # noqa: F401

        from level1_pipeline.orchestration import flow

        registry = Registry(settings)
        _open_mlflow(registry)
        if registry.route().champion:
            registry.reconcile()
        wait_until_ready(api, log)
        flow.read_environment()
        flow.end_killed_runs(settings.home)
        return flow.training(asdict(run), until, done)


def _open_mlflow(registry: Registry) -> None:
    """MLflow migrates a new database: seconds, so it happens while the Prefect server starts.

    Raises:
        NoAnswer: its server or database cannot be used; nothing was trained.
    """
    try:
        registry.experiment(problem.NAME)
    except MLOpsError:
        raise
    except Exception as error:  # of the network, of the database, or of MLflow
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NoAnswer(f"MLflow cannot be used, so nothing was trained; look at MLOPS_TRACKING_URI: {cause}") from error
