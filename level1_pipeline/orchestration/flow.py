"""The orchestrated pipeline: Prefect runs each step as a task, and remembers which ones are done.

The only file that imports prefect. A run that failed or was killed resumes from the step it was in:
each step's result is cached under the run's key, which holds everything that could change it (as-of,
data, our source, the lock, the request), and the cache is cleared when the audit log says how it ended.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
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
from prefect.runtime import flow_run
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.states import Crashed
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker
from pydantic import TypeAdapter

from level1_pipeline import problem, webhook
from level1_pipeline.orchestration.pipeline import Result, TrainingResults, pipeline
from level1_pipeline.settings import Settings
from level1_pipeline.steps.step import Run, StepResult
from level1_pipeline.store import clock
from level1_pipeline.store.days import date_of

FLOW = f"train {problem.NAME}"
SCHEDULE, NEW_DATA = "schedule", "new data"  # triggers
GATE_NOT_PASSED = 3  # the exit code of a training whose model was refused: an answer, not a failure


class _StopAsRequested(Exception):
    """The step after which to stop is done."""


def _name_of_training() -> str:
    """'train as of 2013-04-01: schedule', since Prefect's own names say nothing."""
    run = Run(**flow_run.parameters["run"])
    return f"train as of {run.day}: {run.trigger}"


@flow(name=FLOW, flow_run_name=_name_of_training, validate_parameters=False, log_prints=False)
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
        task_run_name=step.__name__,
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


def run_worker(pool: str) -> None:
    """Run what is due in a work pool, each run in a process of its own, until this process is stopped."""
    read_environment()
    setup_signal_handlers_worker(os.getpid(), "the worker", lambda message: None)
    asyncio.run(ProcessWorker(work_pool_name=pool).start())


def _alert(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell the webhook that a run failed or crashed. Prefect calls it; of a killed run, the worker does."""
    url, title = Settings().webhook, f"the run '{flow_run.name}' of '{flow.name}' ended as {state.name}"
    if url:
        webhook.post(url, {"problem": problem.NAME, "event": "failed", "title": title, "body": state.message}, title)


def _name_by_trigger() -> str:
    return f"retrain on {date_of(clock.now(Settings()))}: {flow_run.parameters['trigger']}"


def _name_by_day() -> str:
    return f"score files on {date_of(clock.now(Settings()))}"


@flow(name=f"retrain {problem.NAME}", flow_run_name=_name_by_trigger, on_failure=[_alert], on_crashed=[_alert])
def retrain(trigger: str, promote_to: str) -> str:
    """What a deployment starts: the command that a person would type, as of today on the clock.

    A replay clock moves on by a week after each scheduled run, as the weeks of the real one would.
    """
    how = ["--promote-to", promote_to]
    by_trigger = ["watch", "--once", *how] if trigger == NEW_DATA else ["train", "--trigger", trigger, *how]
    try:
        code = _command("level1_pipeline", *by_trigger, allowed=(0, GATE_NOT_PASSED))
    finally:
        if trigger == SCHEDULE:
            clock.replay_moves_on(Settings(), timedelta(days=7))
    return "gate not passed" if code else "done"


@flow(name=f"score {problem.NAME}", flow_run_name=_name_by_day, on_failure=[_alert], on_crashed=[_alert])
def score_folder(inbox: str, scores: str) -> str:
    """Score each file or folder in `inbox` once, into a folder of its name in `scores`, and log the predictions.

    A name that begins with . or _ is not read: write a file under such a name, and rename it when it is whole.
    """
    Path(inbox).mkdir(parents=True, exist_ok=True)
    sources, failed = [path for path in sorted(Path(inbox).iterdir()) if _is_new(path, Path(scores))], list[str]()
    for source in sources:
        try:
            into = Path(scores) / source.name
            _command("serving", "batch", "--input", str(source), "--output", str(into), "--log", allowed=(0,))
        except RuntimeError as error:
            failed.append(f"{source.name}: {error}")
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(sources)} inputs were not scored: {'; '.join(failed)}")
    return f"{len(sources)} inputs scored"


def _is_new(source: Path, scores: Path) -> bool:
    """Not scored yet, or changed since (which is refused, in words, when it is scored)."""
    done = scores / source.name / "scored.json"
    return source.name[0] not in "._" and not (done.exists() and done.stat().st_mtime >= source.stat().st_mtime)


def _command(module: str, *arguments: str, allowed: tuple[int, ...]) -> int:
    done = subprocess.run([sys.executable, "-m", module, *arguments], stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode not in allowed:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(f"{module} {arguments[0]} ended with exit code {done.returncode}: {reason}")
    return done.returncode
