"""What the commands do: one function each, ending with one line that says what came out and where."""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.cli import went_back
from level1_pipeline.errors import BundleRefused, LeaseHeld, LeaseLost, NoRollout, PromotionRefused
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.database import Store
from level2_cicd.control_loop import retraining_budget
from level2_cicd.rollout import advance, by_hand, record
from level2_cicd.rollout.state_machine import Decision
from level2_cicd.rollout.states import CHAMPION, ROLLED_BACK
from monitoring.alerting import tickets

# Errors that say what to do by themselves: no traceback for them.
EXPECTED = (BundleRefused, LeaseHeld, LeaseLost, PromotionRefused, NoRollout, LookupError, ValueError)
NOT_PASSED = 3  # the candidate was rolled back, or a number could not be reproduced
WAITS = 5  # inconclusive, or for a person

console = Console(highlight=False, soft_wrap=True)


def rollout(settings: Settings, asked: argparse.Namespace) -> int:
    """Start, look at, advance, stop or decide a rollout."""
    match asked.what:
        case "start":
            registry = Registry(settings)
            if not registry.bundle_folder(asked.version).exists():
                registry.publish(asked.version)
            return _said(settings, advance.start(settings, asked.version, asked.reason))
        case "advance":
            return _said(settings, advance.advance(settings))
        case "approve":
            return _approved(settings, by_hand.approve(settings, asked.reason))
        case "reject":
            _said(settings, by_hand.reject(settings, asked.reason))
            return 0
        case "stop":
            by_hand.stop(settings, asked.reason)
    return _status(settings)


def _said(settings: Settings, decision: Decision | None) -> int:
    if decision is None:
        console.print(f"rollout | {problem.NAME} | none is going on | champion {Registry(settings).route().champion}")
        return 0
    _show(decision)
    registry = Registry(settings)
    route = registry.route()
    served = f"champion {route.champion}, challenger {route.challenger}, share {route.share:g}"
    message = f"{decision.kind}: {decision.step} | {decision.verdict.upper()} | {served}"
    console.print(f"rollout | {problem.NAME} | {message}", markup=False)
    if decision.step.state in (CHAMPION, ROLLED_BACK) and decision.kind != "wait":
        registry.reconcile()
    if decision.kind == "advance":
        return 0
    return NOT_PASSED if decision.kind == "roll back" else WAITS


def _approved(settings: Settings, decision: Decision | None) -> int:
    if decision:
        return _said(settings, decision)
    going_on = Store(settings.operations).rollout(problem.NAME)
    message = "the loop takes the step" if going_on else "but the rollout was ended meanwhile; see: make history"
    console.print(f"rollout | {problem.NAME} | approved; {message}", markup=False)
    return 0


def _show(decision: Decision) -> None:
    table = Table("check", "verdict", "what was seen")
    for check in decision.checks:
        table.add_row(check.name, check.status, check.message)
    console.print(table)
    for note in decision.notes:
        console.print(f"  {note}", markup=False)
    console.print(f"  {decision.kind}: {decision.reason}", markup=False)


def _status(settings: Settings) -> int:
    rollout = record.current(Store(settings.operations))
    if rollout is None:
        return _said(settings, None)
    for check in rollout.decision.checks if rollout.decision else ():
        console.print(f"  {check.status:<12} {check.name}: {check.message}", markup=False)
    waits = f" | waits for a person: {rollout.waiting} (make approve, make reject)" if rollout.waiting else ""
    since = f"since {rollout.since:%Y-%m-%d %H:%M} UTC"
    message = f"version {rollout.version} in {rollout.step} {since}, champion {rollout.champion}{waits}"
    console.print(f"rollout | {problem.NAME} | {message}", markup=False)
    return WAITS if rollout.waiting else 0


def trace(settings: Settings, asked: argparse.Namespace) -> int:
    """One prediction, from the answer back to the rows it was learned from."""
    from level2_cicd.lineage import trace as follow

    found = follow(settings, asked.prediction)
    for one in found:
        for name, value in one.lines:
            console.print(f"  {name:<16} {value}", markup=False)
    served = found[0]
    console.print(f"trace | {problem.NAME} | {served.id} | version {served.version} | {served.check}", markup=False)
    return 0 if served.reproduced else NOT_PASSED


def rollback(settings: Settings, asked: argparse.Namespace) -> int:
    """Serve the previous champion again, and say how long it took until the route had changed."""
    registry, started = Registry(settings), time.perf_counter()
    before, running = registry.route(), registry.store.rollout(problem.NAME)
    after = registry.rollback(asked.reason, asked.to)
    seconds = time.perf_counter() - started
    ended = f" | the rollout of {running['version']} is {ROLLED_BACK}" if running else ""
    console.print(f"rollback | {problem.NAME} | {went_back(before, after)} in {seconds:.1f}s{ended}", markup=False)
    registry.reconcile()
    return 0


def reset(settings: Settings, asked: argparse.Namespace) -> int:
    """Let trainings and rollouts start by themselves again, after a person has looked."""
    retraining_budget.reset(settings, asked.reason)
    tickets.person_answered(Store(settings.operations), asked.reason, clock.now(settings))
    console.print(f"governor | {problem.NAME} | rejections and rollbacks are forgotten: {asked.reason}", markup=False)
    return 0
