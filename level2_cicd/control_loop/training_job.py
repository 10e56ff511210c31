"""Starts the training pipeline for an order, as a process of its own, and says what speaks for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.orchestration.run import DATA_FAULT, NOT_PASSED, PASSED
from level1_pipeline.settings import Settings
from level1_pipeline.steps.split import maturity_cutoff
from level1_pipeline.store import clock, quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import outcomes, predictions
from level2_cicd.control_loop import retraining_budget
from level2_cicd.control_loop.retraining_budget import Need
from level2_cicd.control_loop.situation import Order
from level2_cicd.control_loop.triggers import BY_MONITORING
from monitoring.data.prediction_window import last_days, read
from monitoring.detectors.performance import known
from monitoring.results import Window

ANSWERS = (PASSED, NOT_PASSED, DATA_FAULT)  # exit codes after which the audit log says how it ended
TIMED_OUT = 124  # as of the command `timeout`
SPAN = 28  # days for which a drop would go on costing


def run(settings: Settings, order: Order) -> int:
    """The same command that a person would type; returns its exit code."""
    command = [sys.executable, "-m", "level1_pipeline", "train", "--promote-to", "challenger"]
    command += ["--as-of", f"{pd.Timestamp(order.as_of).tz_convert(problem.TIMEZONE):%Y-%m-%d}"]
    command += ["--order", order.id, "--trigger", order.trigger]
    command += ["--reason", order.reason, "--evidence", json.dumps(order.evidence)]
    log(settings).parent.mkdir(parents=True, exist_ok=True)
    with log(settings).open("a") as written:
        child = subprocess.Popen(command, env=environment(settings), stdout=written, stderr=subprocess.STDOUT)
        try:
            return child.wait(
                settings.retraining.max_compute_seconds
            )  # what all trainings of a period may take together
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return TIMED_OUT


def log(settings: Settings) -> Path:
    """Where trainings that were started here leave their output."""
    return settings.home / "reports" / "level2" / problem.NAME / "trainings.log"


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a child process that shall have the same settings, whatever a `.env` file says: what is
    empty is said, too."""
    foreign = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    return foreign | settings.environment()


def need(settings: Settings, store: Store, order: Order) -> Need:
    """What the governor weighs: new outcomes and, of what the monitoring found, the drop and what it costs."""
    lost = _dollars(settings, store) if order.trigger in BY_MONITORING else None
    return Need(order.evidence["cause"], _new_outcomes(settings, store), order.evidence.get("drop"), lost)


def _trained_until(store: Store) -> pd.Timestamp | None:
    """The newest EVENT_TIME that a training could have: a rejected candidate would only be made of the same rows again."""
    judged = [line for line in store.history(problem.NAME) if line["action"].startswith("train: gate")]
    days = [pd.Timestamp(line["evidence"].get("as_of", line["at"])) for line in judged]
    return maturity_cutoff(max(days)) if days else None


def _new_outcomes(settings: Settings, store: Store) -> int:
    since, until = _trained_until(store), maturity_cutoff(pd.Timestamp(clock.now(settings)))
    mine = (predictions.c.problem == problem.NAME) & (predictions.c.at <= until.to_pydatetime())
    if since is not None:
        mine &= predictions.c.at > since.to_pydatetime()
    same = (predictions.c.problem == outcomes.c.problem) & (predictions.c.id == outcomes.c.id)
    count = sa.select(sa.func.count(sa.distinct(predictions.c.id))).join(outcomes, same).where(mine)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return int(connection.scalar(count) or 0)


def _dollars(settings: Settings, store: Store) -> float | None:
    """What the window's decisions cost beyond what the scores promised, carried on over `SPAN` days."""
    window: Window = last_days(clock.now(settings), 7)
    log = read(store, window, clock.now(settings), quarantine.spans(store))
    rows = known(log.rows)
    if not len(rows):
        return None
    each = retraining_budget.dollars_lost(rows[problem.TARGET].to_numpy(), rows["score"].to_numpy())
    days = (window.end - window.start).total_seconds() / 86400
    return None if each is None else each * log.coverage.matured / days * SPAN  # the rows may be a sample
