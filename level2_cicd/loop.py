"""The commands around the control loop: run it, order a training, or let it live through past days."""

from __future__ import annotations

import argparse
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console

from level1_pipeline import problem
from level1_pipeline.orchestration.run import day
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level2_cicd.control_loop import operate as control
from level2_cicd.control_loop import retraining_budget, triggers
from level2_cicd.simulation import story as summer
from level2_cicd.simulation.replay import Fault

console = Console(highlight=False, soft_wrap=True)
FAILED_REQUESTS = 1
REASONS = 3  # are shown; more of them mostly say the same


def operate(settings: Settings, asked: argparse.Namespace) -> int:
    """Cycles until stopped, or one."""
    if asked.once:
        _tell(clock.now(settings), control.Operator(settings).cycle())
    else:
        with suppress(KeyboardInterrupt):
            control.run(settings, _tell)
    route = Registry(settings).route()
    rolling = f"version {route.challenger} in {route.mode}" if route.mode else "no rollout"
    console.print(
        f"operate | {problem.NAME} | champion {route.champion} | {rolling} | details: make history", markup=False
    )
    return 0


def _tell(now: datetime, did: list[str]) -> None:
    local = now.astimezone(ZoneInfo(problem.TIMEZONE))
    for message in did or ["nothing to do"]:
        console.print(f"  {local:%Y-%m-%d %H:%M} {message}", markup=False)


def trigger(settings: Settings, asked: argparse.Namespace) -> int:
    """A person orders a training."""
    order = triggers.by_hand(settings, asked.kind, asked.reason)
    retraining_budget.overrule(settings, order.as_dict())
    console.print(
        f"trigger | {problem.NAME} | {asked.kind} | ordered; the control loop trains: make operate", markup=False
    )
    return 0


def simulate(settings: Settings, asked: argparse.Namespace) -> int:
    """Live through past days."""
    fault = None
    if asked.fault:
        start = day(asked.fault_from or asked.first)
        fault = Fault(asked.fault, start, start + pd.DateOffset(days=asked.fault_days))
    story = summer.run(settings, asked.trained or asked.first, asked.first, asked.last, fault, console)
    summer.tell(story, console)
    counts = {
        "faults quarantined": story.count("operate: quarantine"),
        "retrainings": story.count("train: ") - 1,  # the first champion's is none
        "rollbacks": story.count("rollout: rolled back") + story.count("roll back"),
    }
    message = " | ".join(f"{count} {name}" for name, count in counts.items())
    sent, home = story.traffic, summer.apart(settings).home
    if sent.reasons:
        console.print(f"  what failed first (the service's log: {home / 'service.log'}):", markup=False)
    for reason in sent.reasons[:REASONS]:
        console.print(f"  {reason}", markup=False)
    failed = f"failed requests {sent.failed} of {sent.asked:,} | failed outcomes {sent.untold} of {sent.told:,}"
    console.print(f"level 2 | {problem.NAME} | {message} | champion {story.champion} | {failed} | {home}", markup=False)
    return FAILED_REQUESTS if sent.failed or sent.untold else 0
