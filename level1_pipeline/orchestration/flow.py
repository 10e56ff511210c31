"""The orchestrated pipeline: Prefect runs each step as a task, and remembers which ones are done.

The only file that imports prefect. A run that failed or was killed resumes from the step it was in:
each step's result is cached under the run's key, which holds everything that could change it (as-of,
data, our source, the lock, the request), and the cache is cleared when the audit log says how it ended.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.context import refresh_global_settings_context
from prefect.schedules import Cron
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.states import Crashed
from pydantic import TypeAdapter

from level1_pipeline import problem
from level1_pipeline.orchestration.pipeline import Result, TrainingResults, pipeline
from level1_pipeline.steps.step import Run, StepResult

FLOW = f"train {problem.NAME}"
GATE_NOT_PASSED = 3  # the exit code of a training whose model was refused: an answer, not a failure


class _StopAsRequested(Exception):
    """The step after which to stop is done."""


@flow(name=FLOW, validate_parameters=False, log_prints=False)
def training(
    run: dict[str, Any], until: str | None = None, done: Callable[[StepResult], None] | None = None
) -> TrainingResults | None:
    """Run the steps up to `until` (or all), telling `done` about each. Returns None when it stopped before the last."""
    request, last = Run(**run), ""
    if not Path(request.folder).exists():
        forget(request)  # results without their files lead nowhere

    def do(step: Callable[..., Result], run: Run, *inputs: StepResult) -> Result:
        nonlocal last
        if until and last == until:
            raise _StopAsRequested
        result = _as_task(step, run)(run, *inputs)
        last = step.__name__
        if done:
            done(result)
        return result

    try:
        return pipeline(request, do)
    except _StopAsRequested:
        return None


def _as_task(step: Callable[..., Result], run: Run) -> Callable[..., Result]:
    """A step whose result Prefect keeps, as JSON."""
    adapter: TypeAdapter[Result] = TypeAdapter(get_type_hints(step)["return"])

    def as_json(run: Run, *inputs: StepResult) -> Any:
        return adapter.dump_python(step(run, *inputs), mode="json")

    kept = task(
        as_json,
        name=step.__name__,
        persist_result=True,
        result_serializer="json",
        cache_key_fn=lambda context, parameters: f"{run.key}-{step.__name__}",
    )
    return lambda *parameters: adapter.validate_python(kept(*parameters))


def forget(run: Run) -> None:
    """Clear what Prefect remembers of a run, once the audit log says how it ended."""
    for result in Path(PREFECT_LOCAL_STORAGE_PATH.value()).glob(f"{run.key}-*"):
        result.unlink()


def read_environment() -> None:
    """Prefect read its environment when it was imported. A process that trains twice has another server each time."""
    refresh_global_settings_context()


def end_killed_runs(home: Path) -> int:
    """Runs that were killed stay RUNNING in Prefect; whoever holds the training lease of a home knows that
    those of this home are dead and says so. Returns how many there were."""
    with get_client(sync_client=True) as client:
        running = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Running"])))
        left = client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[FLOW])), flow_run_filter=running)
        left = [run for run in left if Path(run.parameters["run"]["folder"]).is_relative_to(home)]
        for run in left:
            client.set_flow_run_state(run.id, Crashed(message="the process was killed"), force=True)
    return len(left)


@flow(name=f"retrain {problem.NAME}")
def retrain(promote_to: str) -> str:
    """What a schedule starts: the command that a person would type, as of today on the clock."""
    command = [sys.executable, "-m", "level1_pipeline", "train", "--trigger", "schedule", "--promote-to", promote_to]
    done = subprocess.run(command)
    if done.returncode not in (0, GATE_NOT_PASSED):
        raise RuntimeError(f"the training ended with exit code {done.returncode}; it says why above")
    return "gate not passed" if done.returncode else "done"


def serve_schedule(cron: str, promote_to: str) -> None:
    """Serve a Prefect deployment that trains on a schedule. Blocks until it is stopped."""
    when = Cron(cron, timezone=problem.TIMEZONE)
    retrain.serve(name="schedule", schedule=when, parameters={"promote_to": promote_to}, print_starting_message=False)
