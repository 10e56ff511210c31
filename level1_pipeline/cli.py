"""The command line of Level 1. Each command ends with one line that says what came out and where.

What a command needs is imported when it runs: `--help` must not wait for MLflow, Prefect and scikit-learn.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.command_line import new_app, open_settings, run
from level1_pipeline.errors import InputFileRefused, MLOpsError, NotFound

if TYPE_CHECKING:
    import pandas as pd

    from level1_pipeline.orchestration.run import Request
    from level1_pipeline.settings import Settings
    from level1_pipeline.steps.step import StepResult
    from level1_pipeline.store.audit import Line
    from level1_pipeline.store.routes import Route

app = new_app("The training pipeline of Level 1. To begin: python -m level1_pipeline train --as-of 2013-04-01")
console = Console(highlight=False, soft_wrap=True)

PromoteTo = Annotated[
    Literal["champion", "challenger", "none"], typer.Option(help="alias of the new version after the gate")
]
Reason = Annotated[str, typer.Option(help="why, for the audit log")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (docs/level1.md lists them)."""
    return run(app, "python -m level1_pipeline", arguments)


def local_day(text: str) -> str:
    """A day like 2013-04-01. Raises BadParameter for anything else."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no day; write for example 2013-04-01") from None


def json_object(text: str) -> str:
    """A JSON object, as text. Raises BadParameter for anything else."""
    try:
        if isinstance(json.loads(text), dict):
            return text
    except ValueError:
        pass
    raise typer.BadParameter(f"'{text}' is no JSON object") from None


def step_name(name: str | None) -> str | None:
    """One of the steps. Raises BadParameter for anything else."""
    if name is not None:
        from level1_pipeline.orchestration.pipeline import step_names

        if name not in step_names():
            raise typer.BadParameter(f"'{name}' is no step; the steps are {', '.join(step_names())}")
    return name


@app.command()
def train(
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="DAY",
            callback=lambda day: day and local_day(day),
            help="use only what was known at 00:00 local time of this day (default: today on the clock)",
        ),
    ] = None,
    promote_to: PromoteTo = "champion",
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="run under an experiment of this name; registers nothing, touches no alias"),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="STEP", callback=step_name, help="stop after this step, for example split, to look"),
    ] = None,
    tune: Annotated[
        int, typer.Option(metavar="N", help="first search N settings by time-ordered validation, and take the best")
    ] = 0,
    trigger: Annotated[str, typer.Option(help="what started it, for the run's tags and the audit log")] = "on demand",
    reason: Reason = "",
    order: Annotated[str | None, typer.Option(metavar="ID", help="of the control loop: it is carried out once")] = None,
    evidence: Annotated[
        str,
        typer.Option(metavar="JSON", callback=json_object, help="what the trigger rests on, for the run's tags"),
    ] = "{}",
) -> int:
    """Train, judge and, if the gate passes, register and promote.

    Example: python -m level1_pipeline train --as-of 2013-04-01 --promote-to none
    """
    from level1_pipeline.orchestration.run import Request, day

    settings = open_settings()
    request = Request(
        as_of=day(as_of) if as_of else None,
        promote_to=promote_to,
        experiment=experiment,
        until=until,
        tune=tune,
        trigger=trigger,
        reason=reason,
        evidence=json.loads(evidence),
        order=order,
    )
    return _train(settings, request)


def _train(settings: Settings, request: Request) -> int:
    """One training, with progress."""
    from level1_pipeline.orchestration.run import run_training

    with console.status("starting Prefect and loading the libraries") as status:

        def done(result: StepResult) -> None:
            console.print(f"  [green]done[/] {result.step:<9} {result.seconds:6.2f}s  {result.message}")
            status.update(f"after {result.step}")

        result = run_training(settings, request, done)
    console.print(result.line, markup=False)
    return result.code


@app.command()
def watch(
    once: Annotated[bool, typer.Option("--once", help="look once and end")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="pause between two looks")] = 3600.0,
    promote_to: PromoteTo = "champion",
) -> int:
    """Train when a new month of labelled rows has arrived on the clock.

    Example: python -m level1_pipeline watch --once
    """
    from level1_pipeline.orchestration.new_data import new_month
    from level1_pipeline.orchestration.run import Request, today

    settings = open_settings()
    while True:
        month, code = new_month(settings), 0
        if month:
            reason = f"all of {month} has its outcomes"
            try:
                code = _train(settings, Request(trigger="new data", promote_to=promote_to, reason=reason))
            except MLOpsError as error:  # a rollout that goes on, say: the watcher outlives it
                code = 1
                console.print(f"level 1 | {problem.NAME} | not trained: {error}", markup=False)
        else:
            day = f"{today(settings).tz_convert(problem.TIMEZONE):%Y-%m-%d}"
            console.print(f"level 1 | {problem.NAME} | no new month of labelled rows as of {day}")
        if once:
            return code
        time.sleep(every)


@app.command()
def schedule(
    cron: Annotated[str, typer.Option(help="when (default: Mondays at 06:00)")] = "0 6 * * 1",
    promote_to: PromoteTo = "champion",
) -> None:
    """Serve a Prefect deployment that trains on a schedule, until it is stopped.

    Example: python -m level1_pipeline schedule --cron "0 6 * * 1"
    """
    from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready

    settings = open_settings()
    log = settings.home / "prefect" / "server.log"
    os.environ["MLOPS_HOME"] = str(settings.home)  # the trainings are child processes, wherever they start
    with prefect_server(log, complete=True) as api:
        wait_until_ready(api, log)
        from level1_pipeline.orchestration.flow import serve_schedule

        address = api.removesuffix("/api")
        console.print(
            f"level 1 | {problem.NAME} | training on schedule '{cron}' | Prefect {address} | stop with Ctrl-C"
        )
        serve_schedule(cron, promote_to)


@app.command()
def score(
    id: Annotated[
        str | None, typer.Option(help=f"{problem.ID} of a row of the problem, as known at its decision time")
    ] = None,
    json_: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="a record, or a list of them ('-': standard input)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--as-json", help="answer as JSON, for a script")] = False,
) -> None:
    """Score records through the champion, as the service would.

    Example: python -m level1_pipeline score --id UA-1545-EWR-2013-03-04
    """
    if (id is None) == (json_ is None):
        raise typer.BadParameter("give one of --id and --json")
    from level1_pipeline import schema
    from level1_pipeline.registry import Registry

    settings = open_settings()
    registry = Registry(settings)
    version = registry.route().champion
    if version is None:
        raise NotFound("there is no champion yet; train one: python -m level1_pipeline train --as-of 2013-04-01")
    label = None
    if id:
        row = _row(settings, id)
        records, value = schema.records(row), row[problem.TARGET].iloc[0]
        label = float(value) if value == value else None
    else:
        records = _read_records(str(json_))
    answers = [
        {"id": id, "score": p, "action": problem.choose_action(p), "version": version, problem.TARGET: label}
        for p in registry.load(version).predict(records).tolist()
    ]
    if as_json:
        print(json.dumps(answers))
        return
    truth = f" | what happened: {problem.TARGET} = {label:g}" if label is not None else ""
    for answer in answers:
        outcome = f"{answer['score']:.6f} -> {answer['action']}"
        console.print(
            f"score | {problem.NAME} | {id or 'record'} | {outcome} | models:/{problem.NAME}/{version}{truth}"
        )


def _row(settings: Settings, prediction_id: str) -> pd.DataFrame:
    import pandas as pd

    rows = problem.load(pd.Timestamp.max.tz_localize("UTC").as_unit("us"), settings.source, settings.home / "cache")
    row = rows[rows[problem.ID] == prediction_id]
    if row.empty:
        example = rows[problem.ID].iloc[-1]
        raise NotFound(f"there is no row with {problem.ID} = {prediction_id!r}; an example: {example}")
    return row


def _read_records(file: str) -> list[dict[str, Any]]:
    """Records that the Record accepts, from a file or from standard input ('-')."""
    from pydantic import ValidationError

    try:
        given = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
        records = given if isinstance(given, list) else [given]
        return [problem.Record.model_validate(record).model_dump() for record in records]
    except ValidationError as error:
        raise InputFileRefused(f"not a valid record: {error}") from error
    except (OSError, ValueError) as error:
        raise InputFileRefused(f"{file} cannot be read as JSON: {error}") from error


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="a registered version that passed the gate")],
    reason: Reason,
    to: Annotated[Literal["champion", "challenger"], typer.Option(help="what it becomes")] = "champion",
) -> None:
    """Make a published version champion or challenger.

    Example: python -m level1_pipeline promote 2 --reason "the canary was fine"
    """
    from level1_pipeline.registry import Registry

    registry = Registry(open_settings())
    if not registry.bundle_folder(version).exists():
        registry.publish(version)
    route = registry.promote(version, to, reason)
    console.print(
        f"promote | {problem.NAME} | champion {route.champion}, challenger {route.challenger}, previous {route.previous}"
    )


@app.command()
def rollback(
    reason: Reason,
    to: Annotated[str | None, typer.Option(metavar="VERSION", help="another version than the previous one")] = None,
) -> None:
    """Serve the previous champion again.

    Example: python -m level1_pipeline rollback --reason "late warnings"
    """
    from level1_pipeline.registry import Registry

    registry = Registry(open_settings())
    before = registry.route()
    console.print(f"rollback | {problem.NAME} | {went_back(before, registry.rollback(reason, to))}")
    registry.reconcile()


def went_back(before: Route, after: Route) -> str:
    """What a rollback did, in words: with no other version to go back to it ends the trial of the challenger."""
    if before.champion != after.champion:
        return f"champion {before.champion} -> {after.champion}"
    return f"champion {after.champion} stays, version {before.challenger} gets no more traffic"


@app.command()
def history(
    show: Annotated[int | None, typer.Option(metavar="ID", help="one line of it whole, with its evidence")] = None,
    json_: Annotated[bool, typer.Option("--json", help="all lines as JSON, for a script")] = False,
) -> None:
    """Who changed what is served, when, why, from what, to what: the audit log.

    Example: python -m level1_pipeline history --show 3
    """
    from level1_pipeline.registry import Registry

    registry = Registry(open_settings())
    lines = registry.store.audit_log(problem.NAME)
    if show is not None:
        lines = [line for line in lines if line.id == show]
        if not lines:
            raise NotFound(f"the history of {problem.NAME} has no line {show}; make history lists the ids")
    if json_:
        print(json.dumps([_as_dict(line) for line in lines], default=str))
    elif show is not None:
        _print_line(lines[0])
    else:
        _print_table(lines, registry.route())


def _as_dict(line: Line) -> dict[str, Any]:
    names = ("id", "at", "recorded_at", "actor", "action", "from_version", "to_version", "reason", "evidence")
    return {name: line.text if name == "action" else getattr(line, name) for name in names}


def _print_line(line: Line) -> None:
    """One line whole: its evidence is what the change rests on."""
    values = _as_dict(line)
    values["evidence"] = json.dumps(line.evidence, indent=2)
    for name, value in values.items():
        console.print(f"{name:<12} {value}", markup=False)
    console.print(f"history | {problem.NAME} | line {line.id}")


def _print_table(lines: list[Line], route: Route) -> None:
    table = Table("id", "when", "who", "what", "from", "to", "why")
    for line in lines:
        after = line.route
        trial = f" (challenger {after.challenger}, {after.mode or 'no traffic'})" if after and after.challenger else ""
        versions = (line.from_version or "-", line.to_version or "-")
        when = f"{line.at:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(line.id), when, line.actor, line.text + trial, *versions, line.reason)
    console.print(table)
    console.print("the evidence of a line: make history SHOW=id, or python -m level1_pipeline history --show id")
    served = f"champion {route.champion}, challenger {route.challenger}, previous {route.previous}"
    console.print(f"history | {problem.NAME} | {len(lines)} entries | {served}")
