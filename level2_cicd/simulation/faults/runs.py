"""The simulated year with a planted fault: Level 2 lives from a copy of the clean run's home on the day of the fault to
some weeks after its end."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit_queries import was_ordered
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from level2_cicd.control_loop import retraining_budget, triggers
from level2_cicd.simulation import pipelines
from level2_cicd.simulation.checkpoint import keep_checkpoint
from level2_cicd.simulation.faults.figures import FaultFigures, Log, figures
from level2_cicd.simulation.faults.table import Planted
from level2_cicd.simulation.policies import Played
from level2_cicd.simulation.processes import Tell
from level2_cicd.simulation.world import World


def live_through(
    year: World, clean: Settings, home: Settings, planted: Planted, checkpoint: Path, tell: Tell
) -> FaultFigures:
    """Live through a fault, or go on where a killed run stopped.

    Args:
        year: the world of the clean run.
        clean: the settings of its Level 2.
        home: where this one lives.
        planted: the fault.
        checkpoint: the clean run's home on the first day of the fault.
        tell: is told about each day.
    """
    watch, lasting = time.perf_counter(), planted.fault.kind == "concept change"
    after = date_of(planted.end) + timedelta(days=0 if lasting else planted.fault.after_days)
    last = min(year.last, str(after - timedelta(days=1)))
    world = replace(year, last=last, change=planted.spoil if planted.fault.is_real else None)
    assert len(world.day) == len(world.labels)  # the real rows are read before the source is spoilt
    if not (home.home / "operations.db").exists():
        shutil.rmtree(home.home, ignore_errors=True)
        keep_checkpoint(checkpoint, home.home)
    with planted.world():
        if planted.fault.kind == "bad release":
            _release(home, planted)
        pipelines.live(world, home, tell, planted)
    lived = pipelines.played(world, home, watch)
    before = Played.load(year.settings.home, "level 2")
    assert before
    return figures(year, world, planted, lived, before, Log.of(home), Log.of(clean))


def _release(home: Settings, planted: Planted) -> None:
    store = Store(home.operations)
    order = triggers.by_hand(home, triggers.RELEASE, planted.fault.what)
    if not was_ordered(store.audit_log(problem.NAME), triggers.RELEASE, order.as_of):
        retraining_budget.overrule(home, order)
    store.close()
