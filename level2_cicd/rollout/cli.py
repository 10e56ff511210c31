"""The commands `python -m level2_cicd rollout …`: start, status, advance; and what a person may say."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic_core import to_json
from rich.table import Table

from level1_pipeline.command_line import Reason, console, new_app, open_settings, print_result
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import local
from level2_cicd.rollout import advance, by_hand, record
from level2_cicd.rollout.state_machine import Decision
from level2_cicd.rollout.states import CHAMPION, ROLLED_BACK

NOT_PASSED = 3  # exit code: the candidate was rolled back, or a number could not be reproduced
WAITS = 5  # exit code: inconclusive, or for a person

commands = new_app(
    "Bring a published version into service: shadow, canary, bake, champion.\n\n"
    'Example: python -m level2_cicd rollout start 4 --reason "trained on July"'
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")]


def _print(message: str) -> None:
    """The last line of a command: what came out."""
    print_result("rollout", message)


@commands.command("start")
def _start(version: Annotated[str, typer.Argument(help="A registered version.")], reason: Reason) -> int:
    """Begin: the two blessings, then the shadow."""
    settings = open_settings()
    registry = Registry(settings)
    if not registry.bundle_folder(version).exists():
        registry.publish(version)
    return _print_decision(settings, advance.start(settings, version, reason))


@commands.command("status")
def _status(as_json: AsJson = False) -> int:
    """Show where it is, and what was seen at the last look."""
    return _print_status(open_settings(), as_json)


@commands.command("advance")
def _advance() -> int:
    """Look at the evidence now, and take the step that follows from it."""
    settings = open_settings()
    return _print_decision(settings, advance.advance(settings))


@commands.command("approve")
def _approve(
    version: Annotated[str, typer.Argument(help="The candidate that waits.")],
    step: Annotated[str, typer.Argument(help="The step that it waits for, as status prints it: 'canary 5 %'.")],
    reason: Reason,
) -> int:
    """Agree to the step that waits for a person; anything else than what waits is refused.

    Example: python -m level2_cicd rollout approve 3 "canary 5 %" --reason "the shadow is fine"
    """
    settings = open_settings()
    decision = by_hand.approve(settings, version, step, reason)
    if decision:
        return _print_decision(settings, decision)
    going_on = record.current(Store(settings.operations))
    message = "the loop takes the step" if going_on else "but the rollout was ended meanwhile; see: make history"
    _print(f"approved; {message}")
    return 0


@commands.command("reject")
def _reject(reason: Reason) -> int:
    """End the rollout; the champion stays."""
    settings = open_settings()
    _print_decision(settings, by_hand.reject(settings, reason))
    return 0


@commands.command("stop")
def _stop(reason: Reason) -> int:
    """Stay in this step until a person approves or rejects."""
    settings = open_settings()
    by_hand.stop(settings, reason)
    return _print_status(settings)


def _print_decision(settings: Settings, decision: Decision | None) -> int:
    registry = Registry(settings)
    route = registry.route()
    if decision is None:
        _print(f"none is going on | champion {route.champion}")
        return 0
    table = Table("check", "verdict", "what was seen")
    for check in decision.checks:
        table.add_row(check.name, check.status, check.message)
    console.print(table)
    for line in (*decision.notes, f"{decision.kind}: {decision.reason}"):
        console.print(f"  {line}")
    served = f"champion {route.champion}, challenger {route.challenger}, share {route.share:g}"
    _print(f"{decision.kind}: {decision.step} | {decision.verdict.upper()} | {served}")
    if decision.step.state in (CHAMPION, ROLLED_BACK) and decision.kind != "wait":
        registry.reconcile()
    return {"advance": 0, "roll back": NOT_PASSED}.get(decision.kind, WAITS)


def _print_status(settings: Settings, as_json: bool = False) -> int:
    rollout = record.current(Store(settings.operations))
    waits = rollout is not None and rollout.waiting is not None
    if as_json:
        print(to_json(rollout).decode())
    elif rollout is None:
        _print_decision(settings, None)
    else:
        for check in rollout.decision.checks if rollout.decision else ():
            console.print(f"  {check.status:<12} {check.name}: {check.message}")
        approve = f'make approve VERSION={rollout.version} STEP="{rollout.waiting}", or make reject'
        person = f" | waits for a person: {rollout.waiting} ({approve})" if waits else ""
        since = f"since {local(rollout.since)}"
        _print(f"version {rollout.version} in {rollout.step} {since}, champion {rollout.champion}{person}")
    return WAITS if waits else 0
