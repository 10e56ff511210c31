"""The command line of Level 1. Each command ends with one line that says what came out and where.

What a command needs is imported when it runs: `--help` must not wait for MLflow, Prefect and scikit-learn.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import BadParameter, Option

from level1_pipeline import problem
from level1_pipeline.command_line import REFUSED, Reason, console, exit_code, new_app, open_settings, print_result, run
from level1_pipeline.errors import InputFileRefused, MLOpsError, NotFound
from level1_pipeline.route_cli import clock, history, promote, repair, rollback
from level1_pipeline.worker_cli import PromoteTo, day, worker

if TYPE_CHECKING:
    import pandas as pd

    from level1_pipeline.orchestration.run import Request
    from level1_pipeline.settings import Settings
    from level1_pipeline.steps.step import StepResult

app = new_app("The training pipeline of Level 1. To begin: python -m level1_pipeline train --as-of demo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (docs/level1.md lists them)."""
    return run(app, "python -m level1_pipeline", arguments)


def _json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise BadParameter(f"this is no JSON ({error})") from None
    return text


def _step(name: str | None) -> str | None:
    if name is not None:
        from level1_pipeline.orchestration.pipeline import step_names

        if name not in step_names():
            raise BadParameter(f"'{name}' is no step; the steps are {', '.join(step_names())}")
    return name


DAY = Option(
    metavar="DAY",
    callback=day,
    help="Use only what was known at 00:00 of it (default: today on the clock; `demo`: that of make demo).",
)
DAY_OF_TRAINING = Option(metavar="DAY", callback=day, help="Ask whether a training as of it has enough rows, too.")
EXPERIMENT = Option(metavar="NAME", help="Run under an experiment of this name; registers nothing, touches no alias.")
TUNE = Option(metavar="N", help="First search N settings by time-ordered validation, and take the best.")
UNTIL = Option(metavar="STEP", callback=_step, help="Stop after this step, for example split, to look.")
TRIGGER = Option(help="What started it, for the run's tags and the audit log.")
ORDER = Option(metavar="ID", help="Of the control loop: it is carried out once.")
EVIDENCE = Option(metavar="JSON", callback=_json, help="What the trigger rests on, for the run's tags.")
FILE = Option("--json", metavar="FILE", help="A record, or a list of them ('-': standard input).")


@app.command()
def train(
    as_of: Annotated[str | None, DAY] = None,
    promote_to: PromoteTo = "champion",
    experiment: Annotated[str | None, EXPERIMENT] = None,
    until: Annotated[str | None, UNTIL] = None,
    tune: Annotated[int, TUNE] = 0,
    trigger: Annotated[str, TRIGGER] = "on demand",
    reason: Reason = "",
    order: Annotated[str | None, ORDER] = None,
    evidence: Annotated[str, EVIDENCE] = "{}",
) -> int:
    """Train, judge and, if the gate passes, register and promote.

    Example: python -m level1_pipeline train --as-of 2013-04-01 --promote-to none
    """
    from level1_pipeline.evaluation.contract import check
    from level1_pipeline.orchestration.run import Request

    settings, why = open_settings(), json.loads(evidence)
    start = check.time_of(settings, as_of) if as_of else None
    request = Request(start, promote_to, experiment, until, tune, trigger, reason, why, order)
    return _train(settings, request)


@app.command()
def check_problem(as_of: Annotated[str | None, DAY_OF_TRAINING] = None) -> int:
    """Look for every mistake in problem.py, and in the rows of its `load`.

    Example: python -m level1_pipeline check-problem --as-of 2013-04-01
    """
    from level1_pipeline.evaluation.contract import check

    settings = open_settings()
    mistakes = check.static() or check.mistakes(settings, check.time_of(settings, as_of) if as_of else None)
    for mistake in mistakes:
        console.print(f"  {mistake}")
    many = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    where = "level1_pipeline/problem.py"
    print_result(
        "check-problem", f"{many} in {where}; nothing was trained" if mistakes else f"nothing wrong in {where}"
    )
    return REFUSED if mistakes else 0


def _train(settings: Settings, request: Request) -> int:
    """One training, with progress."""
    from level1_pipeline.orchestration.run import run_training

    with console.status("starting Prefect and loading the libraries") as status:

        def done(result: StepResult) -> None:
            console.print(f"  done {result.step:<9} {result.seconds:6.2f}s  {result.message}")
            status.update(f"after {result.step}")

        result = run_training(settings, request, done)
    console.print(result.line)
    return result.code


@app.command()
def watch(
    once: Annotated[bool, Option("--once", help="Look once and end.")] = False,
    every: Annotated[float, Option(metavar="SECONDS", help="Pause between two looks.")] = 3600.0,
    promote_to: PromoteTo = "champion",
) -> int:
    """Train when a new month of labelled rows has arrived on the clock.

    Example: python -m level1_pipeline watch --once
    """
    from level1_pipeline.store import clock

    settings = open_settings()
    clock.now(settings)  # who watches by another clock than that of the home would look in vain for ever
    while True:
        code = _look(settings, promote_to)
        if once:
            return code
        time.sleep(every)


def _look(settings: Settings, promote_to: PromoteTo) -> int:
    """One look of the watcher, which outlives what is refused: data that cannot be read, or a rollout that goes on."""
    from level1_pipeline.orchestration.new_data import new_month
    from level1_pipeline.orchestration.run import Request, today
    from level1_pipeline.store.days import date_of

    try:
        month = new_month(settings)
        if not month:
            print_result("level 1", f"no new month of labelled rows as of {date_of(today(settings))}")
            return 0
        reason = f"all of {month} has its outcomes"
        return _train(settings, Request(trigger="new data", promote_to=promote_to, reason=reason))
    except MLOpsError as error:
        print_result("level 1", f"not trained: {error}")
        return exit_code(error)


@app.command()
def score(
    id: Annotated[
        str | None,
        Option(
            help=f"{getattr(problem, 'ID', 'ID')} of a row, as known at its decision time (default: that of the demo)."
        ),
    ] = None,
    file: Annotated[str | None, FILE] = None,
    as_json: Annotated[bool, Option("--as-json", help="Answer as JSON, for a script.")] = False,
) -> None:
    """Score records through the champion, as the service would.

    Example: python -m level1_pipeline score --id UA-1545-EWR-2013-03-04
    """
    if id and file:
        raise BadParameter("give one of --id and --json")
    from level1_pipeline import schema
    from level1_pipeline.inputs import demo
    from level1_pipeline.registry import Registry
    from level1_pipeline.schema.scores import as_answer, told
    from level1_pipeline.schema.several_classes import classes
    from level1_pipeline.schema.task import task

    settings = open_settings()
    registry = Registry(settings)
    version = registry.route().champion
    if version is None:
        raise NotFound("there is no champion yet; train one: python -m level1_pipeline train --as-of demo")
    label = None
    if file is None:
        id = id or demo.row(settings)
        row = _row(settings, id)
        records, value = schema.records(row), row[problem.TARGET].iloc[0]
        label = (task().as_json(value) if classes() else float(value)) if value == value else None
    else:
        records = _read_records(file)
    answers = [
        {"id": id, "score": as_answer(p), "action": problem.choose_action(p), "version": version, problem.TARGET: label}
        for p in registry.load(version).predict(records).tolist()
    ]
    if as_json:
        print(json.dumps(answers))
        return
    happened = f"{label:g}" if isinstance(label, float) else str(label)
    truth = f" | what happened: {problem.TARGET} = {happened}" if label is not None else ""
    for answer in answers:
        outcome = f"{told(answer['score'])} -> {answer['action']}"
        print_result("score", f"{id or 'record'} | {outcome} | models:/{problem.NAME}/{version}{truth}")


def _row(settings: Settings, prediction_id: str) -> pd.DataFrame:
    from level1_pipeline.inputs import source

    rows = source.load(settings)
    row = rows[rows[problem.ID] == prediction_id]
    if row.empty:
        example = rows[problem.ID].iloc[-1]
        raise NotFound(f"there is no row with {problem.ID} = {prediction_id!r}; an example: {example}")
    return row


def _read_records(file: str) -> list[dict[str, Any]]:
    """Records that the Record accepts, from a file or from standard input ('-')."""
    from pydantic import ValidationError

    try:
        given = json.loads(sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes())
        records = given if isinstance(given, list) else [given]
        return [problem.Record.model_validate_json(json.dumps(record)).model_dump(mode="json") for record in records]
    except ValidationError as error:
        raise InputFileRefused(f"not a valid record: {error}") from error
    except (OSError, ValueError) as error:
        raise InputFileRefused(f"{file} cannot be read as JSON: {error}") from error


for command in (worker, promote, rollback, repair, history, clock):
    app.command()(command)
