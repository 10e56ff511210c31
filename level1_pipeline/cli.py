"""What the commands do: one function each, ending with one line that says what came out and where."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from level1_pipeline import problem, schema
from level1_pipeline.errors import BundleRefused, LeaseHeld, LeaseLost, PromotionRefused, StepFileChanged
from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready
from level1_pipeline.orchestration.run import Request, day, run_training, today
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps.step import Facts
from level1_pipeline.store.audit import Line
from level1_pipeline.store.routes import Route

# Errors that say what to do by themselves: no traceback for them.
EXPECTED = (
    BundleRefused,
    LeaseHeld,
    LeaseLost,
    PromotionRefused,
    StepFileChanged,
    LookupError,
    FileNotFoundError,
    json.JSONDecodeError,
)

console = Console(highlight=False, soft_wrap=True)


def train(settings: Settings, asked: argparse.Namespace) -> int:
    """One training, with progress."""
    request = Request(
        as_of=day(asked.as_of) if asked.as_of else None,
        promote_to=asked.promote_to,
        experiment=asked.experiment,
        until=asked.until,
        tune=asked.tune,
        trigger=asked.trigger,
        reason=asked.reason,
        evidence=json.loads(asked.evidence),
        order=asked.order,
    )
    return _train(settings, request)


def _train(settings: Settings, request: Request) -> int:
    with console.status("starting Prefect and loading the libraries") as status:

        def done(name: str, facts: Facts) -> None:
            console.print(f"  [green]done[/] {name:<9} {facts['seconds']:6.2f}s  {_in_words(name, facts)}")
            status.update(f"after {name}")

        result = run_training(settings, request, done)
    console.print(result.line, markup=False)
    return result.code


def _in_words(step: str, facts: Facts) -> str:
    """What a step found, for the person who watches."""
    match step:
        case "extract":
            repaired = f", impossible readings made missing: {facts['repaired']}" if facts["repaired"] else ""
            return f"{facts['rows']:,} rows{repaired}"
        case "validate":
            skew = (facts["value_skew"] or {}).get("verdict", "no champion yet")
            return f"{facts['expectations']} expectations hold; value skew: {skew}"
        case "split":
            return f"{facts['train']:,} rows to train on, {facts['holdout']:,} newer ones to judge with"
        case "evaluate":
            return f"gate {facts['outcome']}"
        case "register":
            return " and ".join(f"version {v} ({kind})" for kind, v in facts["versions"].items()) or "no version"
    return ""


def watch(settings: Settings, asked: argparse.Namespace) -> int:
    """Look for a new month of labelled rows; train when there is one."""
    from level1_pipeline.orchestration.new_data import new_month

    while True:
        month = new_month(settings)
        if month:
            why = f"all of {month} has its outcomes"
            try:
                code = _train(settings, Request(trigger="new data", promote_to=asked.promote_to, reason=why))
            except EXPECTED as error:  # a rollout that goes on, say: the watcher outlives it
                code = 1
                console.print(f"level 1 | {problem.NAME} | not trained: {error}", markup=False)
        else:
            code = 0
            day_ = f"{today(settings).tz_convert(problem.TIMEZONE):%Y-%m-%d}"
            console.print(f"level 1 | {problem.NAME} | no new month of labelled rows as of {day_}")
        if asked.once:
            return code
        time.sleep(asked.every)


def schedule(settings: Settings, asked: argparse.Namespace) -> int:
    """Serve the scheduled deployment until it is stopped."""
    log = settings.home / "prefect" / "server.log"
    os.environ["MLOPS_HOME"] = str(settings.home)  # the trainings are child processes, wherever they start
    with prefect_server(log, complete=True) as api:
        wait_until_ready(api, log)
        from level1_pipeline.orchestration.flow import serve_schedule

        console.print(
            f"level 1 | {problem.NAME} | training on schedule '{asked.cron}' | Prefect {api.removesuffix('/api')} | stop with Ctrl-C"
        )
        serve_schedule(asked.cron, asked.promote_to)
    return 0


def score(settings: Settings, asked: argparse.Namespace) -> int:
    """Score records through the champion, as the service would."""
    registry = Registry(settings)
    version = registry.route().champion
    if version is None:
        raise LookupError("there is no champion yet; train one: python -m level1_pipeline train --as-of 2013-04-01")
    known = {}
    if asked.id:
        row = _row(settings, asked.id)
        records, known = schema.records(row), row.iloc[0].to_dict()
    else:
        records = _read_records(asked.json)
    try:
        checked = [problem.Record(**record).model_dump() for record in records]
    except ValidationError as error:
        raise LookupError(f"not a valid record: {error}") from error
    for p in registry.load(version).predict(checked):
        truth = (
            f" | what happened: {problem.TARGET} = {known[problem.TARGET]:g}"
            if pd.notna(known.get(problem.TARGET))
            else ""
        )
        console.print(
            f"score | {problem.NAME} | {asked.id or 'record'} | {p:.6f} -> {problem.choose_action(p)} | models:/{problem.NAME}/{version}{truth}"
        )
    return 0


def _row(settings: Settings, wanted: str) -> pd.DataFrame:
    rows = problem.load(pd.Timestamp.max.tz_localize("UTC").as_unit("us"), settings.source, settings.home / "cache")
    row = rows[rows[problem.ID] == wanted]
    if row.empty:
        raise LookupError(f"there is no row with {problem.ID} = {wanted!r}; an example: {rows[problem.ID].iloc[-1]}")
    return row


def _read_records(where: str) -> list[dict[str, Any]]:
    given = json.loads(sys.stdin.read() if where == "-" else Path(where).read_text())
    return given if isinstance(given, list) else [given]


def promote(settings: Settings, asked: argparse.Namespace) -> int:
    """Change what is served, by hand."""
    registry = Registry(settings)
    if not registry.bundle_folder(asked.version).exists():
        registry.publish(asked.version)
    route = registry.promote(asked.version, asked.to, asked.reason)
    console.print(
        f"promote | {problem.NAME} | champion {route.champion}, challenger {route.challenger}, previous {route.previous}"
    )
    return 0


def rollback(settings: Settings, asked: argparse.Namespace) -> int:
    """Serve the previous champion again."""
    registry = Registry(settings)
    before = registry.route()
    console.print(f"rollback | {problem.NAME} | {went_back(before, registry.rollback(asked.reason, asked.to))}")
    registry.reconcile()
    return 0


def went_back(before: Route, after: Route) -> str:
    """What a rollback did, in words: with no other version to go back to it ends the trial of the challenger."""
    if before.champion != after.champion:
        return f"champion {before.champion} -> {after.champion}"
    return f"champion {after.champion} stays, version {before.challenger} gets no more traffic"


def history(settings: Settings, asked: argparse.Namespace) -> int:
    """The audit log as a table, or one line of it whole: its evidence is what the change rests on."""
    registry = Registry(settings)
    lines = registry.store.audit_log(problem.NAME)
    if asked.show is not None:
        return _show(lines, asked.show)
    table = Table("id", "when", "who", "what", "from", "to", "why")
    for line in lines:
        versions = (line.from_version or "-", line.to_version or "-")
        after = line.route or Route()
        beside = f" (challenger {after.challenger}, {after.mode or 'no traffic'})" if after.challenger else ""
        table.add_row(
            str(line.id), f"{line.at:%Y-%m-%d %H:%M:%S}", line.actor, line.text + beside, *versions, line.reason
        )
    console.print(table)
    console.print("the evidence of a line: make history SHOW=id, or python -m level1_pipeline history --show id")
    route = registry.route()
    console.print(
        f"history | {problem.NAME} | {len(lines)} entries | champion {route.champion}, challenger {route.challenger}, previous {route.previous}"
    )
    return 0


def _show(lines: list[Line], wanted: int) -> int:
    line = next((line for line in lines if line.id == wanted), None)
    if line is None:
        raise LookupError(f"the history of {problem.NAME} has no line {wanted}; make history lists the ids")
    for name in ("id", "at", "recorded_at", "actor", "action", "from_version", "to_version", "reason"):
        console.print(f"{name:<12} {getattr(line, 'text' if name == 'action' else name)}", markup=False)
    console.print(f"evidence     {json.dumps(line.evidence, indent=2)}", markup=False)
    console.print(f"history | {problem.NAME} | line {wanted}")
    return 0
