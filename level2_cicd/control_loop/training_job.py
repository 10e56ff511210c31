"""Starts the training pipeline for an order, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.orchestration.conclusion import DATA_FAULT, NOT_PASSED, PASSED
from level1_pipeline.processes import child_process, environment
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Order
from level1_pipeline.store.days import date_of

ANSWERS = (PASSED, NOT_PASSED, DATA_FAULT)  # exit codes after which the audit log says how it ended
TIMED_OUT = 124  # as of the command `timeout`


def run(settings: Settings, order: Order) -> int:
    """The same command that a person would type; returns its exit code."""
    command = [sys.executable, "-m", "level1_pipeline", "train", "--promote-to", "challenger"]
    command += ["--as-of", str(date_of(datetime.fromisoformat(order.as_of)))]
    command += ["--order", order.id, "--trigger", order.trigger]
    command += ["--reason", order.reason, "--evidence", json.dumps(order.evidence)]
    with child_process(command, log(settings), environment(settings)) as child:
        try:
            return child.wait(settings.retraining.max_compute_seconds)  # of all trainings of a period together
        except subprocess.TimeoutExpired:
            return TIMED_OUT


def log(settings: Settings) -> Path:
    """Where trainings that were started here leave their output."""
    return settings.home / "reports" / "level2" / problem.NAME / "trainings.log"
