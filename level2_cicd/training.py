"""Starts the training pipeline for an order, as a process of its own, and says what speaks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from level1_pipeline import bundle, problem
from level1_pipeline.launch import DATA_FAULT, NOT_PASSED, PASSED
from level1_pipeline.settings import Settings
from level1_pipeline.store import Store
from level1_pipeline.tables import outcomes, predictions
from level2_cicd import governor
from level2_cicd.governor import Need
from level2_cicd.triggers import Order
from monitoring.findings import Window
from monitoring.performance import known
from monitoring.window import last_days, read

ANSWERS = (PASSED, NOT_PASSED, DATA_FAULT)  # exit codes after which the audit log says how it ended
SPAN = 28  # days for which a drop would go on costing


def run(settings: Settings, order: Order) -> int:
    """The same command that a person would type; returns its exit code."""
    command = [sys.executable, "-m", "level1_pipeline", "train", "--promote-to", "challenger"]
    command += ["--as-of", f"{pd.Timestamp(order.as_of).tz_convert(problem.TIMEZONE):%Y-%m-%d}"]
    command += ["--trigger", order.trigger, "--reason", order.reason, "--evidence", json.dumps(order.evidence)]
    log(settings).parent.mkdir(parents=True, exist_ok=True)
    with log(settings).open("a") as written:
        done = subprocess.run(command, env=environment(settings), stdout=written, stderr=subprocess.STDOUT)
    return done.returncode


def log(settings: Settings) -> Path:
    """Where trainings that were started here leave their output."""
    return settings.home / "reports" / "level2" / problem.NAME / "trainings.log"


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a child process that shall have the same settings."""
    given = {
        f"MLOPS_{name.upper()}": str(value)
        for name, value in settings.model_dump(mode="json").items()
        if value not in (None, "")
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")} | given


def need(settings: Settings, store: Store, order: Order) -> Need:
    """What the governor weighs: new outcomes since the champion's data end, the drop, and what it costs."""
    since = _trained_until(settings, store)
    drop = order.evidence.get("drop")
    lost = None if drop is None else _dollars(settings, store)
    return Need(order.evidence["cause"], _new_outcomes(store, since), drop, lost)


def _trained_until(settings: Settings, store: Store) -> pd.Timestamp:
    champion = store.route(problem.NAME).champion or ""
    manifest = bundle.verify(settings.home / "bundles" / problem.NAME / champion)
    return pd.Timestamp(manifest["trained_until"])


def _new_outcomes(store: Store, since: pd.Timestamp) -> int:
    mine = (predictions.c.problem == problem.NAME) & (predictions.c.at > since.to_pydatetime())
    same = (predictions.c.problem == outcomes.c.problem) & (predictions.c.id == outcomes.c.id)
    count = sa.select(sa.func.count(sa.distinct(predictions.c.id))).join(outcomes, same).where(mine)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return int(connection.scalar(count) or 0)


def _dollars(settings: Settings, store: Store) -> float | None:
    """What the window's decisions cost beyond what the scores promised, carried on over `SPAN` days."""
    window: Window = last_days(settings.now(), 7)
    rows = known(read(store, window, settings.now(), ()).rows)
    each = governor.dollars_lost(rows[problem.TARGET].to_numpy(), rows["score"].to_numpy())
    days = (window.end - window.start).total_seconds() / 86400
    return None if each is None else each * len(rows) / days * SPAN
