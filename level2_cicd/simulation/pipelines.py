"""The policies that run the real pipeline: Level 1 by the calendar, with its gate, and Level 2, the managed one, whose
control loop monitors, diagnoses, trains and rolls out. Each lives in a home of its own, on its own replay clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.load import load_bundle, version_folder
from level1_pipeline.errors import TrainingStopped
from level1_pipeline.orchestration.conclusion import PASSED
from level1_pipeline.orchestration.run import Request, run_training
from level1_pipeline.schema.scores import shape, stacked
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import shared_fits
from level1_pipeline.store.audit import Line, Order, RolledBack, Rollout, RolloutMoved
from level1_pipeline.store.audit_queries import releases, trainings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of, start_of
from level1_pipeline.store.routes import SHADOW
from level1_pipeline.store.tables import leases, predictions, tickets
from level2_cicd.control_loop.operate import Operator, Publisher
from level2_cicd.control_loop.triggers import RELEASE
from level2_cicd.rollout.queries import whole_score
from level2_cicd.rollout.states import ROLLED_BACK
from level2_cicd.simulation import replay
from level2_cicd.simulation.faults.table import Planted, bad_release
from level2_cicd.simulation.in_process import DirectTraffic, service
from level2_cicd.simulation.policies import Played, promotions
from level2_cicd.simulation.processes import Tell
from level2_cicd.simulation.world import World

# What depends on the machine's speed has no say in the year: latency, and the price of a second.
UNTIMED: dict[str, Any] = {"max_slowdown": 1e9, "training_dollars_per_hour": 0.0, "max_compute_seconds": 1e9}
COMPUTE = "compute"  # folder of a policy: a file for each training
Keep = Callable[[str], None]  # of a local day that begins, when the night's work is done


def train(settings: Settings, as_of: datetime | str, promote_to: str, **request: Any) -> int:
    """A training of the real pipeline in this process, without its orchestrator; returns its exit code.

    Its fits are shared with the other policies of the year, whose home is above this one; what they would have cost is
    kept for each day, so that a training that was killed counts once.
    """
    day = as_of if isinstance(as_of, str) else str(date_of(as_of))
    with shared_fits(settings.home.parent / "fits") as fits:
        code = run_training(settings, Request(start_of(day), promote_to, **request), orchestrated=False).code
    (settings.home / COMPUTE).mkdir(exist_ok=True)
    (settings.home / COMPUTE / day).write_text(str(fits.rows_times_iterations))
    return code


def _compute(settings: Settings, first: str) -> int:
    """Rows x iterations of all fits after those of the first champion."""
    return sum(int(file.read_text()) for file in (settings.home / COMPUTE).iterdir() if file.name != first)


def first_champion(settings: Settings, trained: str) -> None:
    """Make the first champion, unless there is one. Raises TrainingStopped when the gate does not pass it."""
    store = Store(settings.operations)
    with store.engine.begin() as connection:
        connection.execute(leases.delete())  # nobody else lives in this home: who held one was killed
    if store.route(problem.NAME).champion is None:
        store.set_replay_time(start_of(trained).to_pydatetime())
        if train(settings, trained, "champion") != PASSED:
            raise TrainingStopped(f"Level 1 made no champion as of {trained}; look into {settings.home / 'reports'}")
    store.close()


def level1(world: World, settings: Settings, every_weeks: int, tell: Tell) -> Played:
    """Level 1: every few weeks a training, promoted at once if its gate passes."""
    watch, store, mondays = time.perf_counter(), Store(settings.operations), world.mondays
    first_champion(settings, mondays[0])
    for monday in mondays[every_weeks::every_weeks]:
        tell(monday, mondays.index(monday) / len(mondays))
        if not (settings.home / COMPUTE / monday).exists():
            store.set_replay_time(start_of(monday).to_pydatetime())
            train(settings, monday, "champion")
    tenures = _tenures(store, world)
    scores = np.full(shape(len(world.rows)), np.nan)
    for day, version in tenures:
        served = world.since(day)
        scores[served] = _scores_of(settings, world)(version, served)
    return _played("level 1", world, settings, store, tenures, scores, watch)


def managed(world: World, settings: Settings, tell: Tell, keep: Keep = lambda day: None) -> Played:
    """Level 2: the service answers, and the control loop looks at each midnight."""
    watch = time.perf_counter()
    first_champion(settings, world.first)
    live(world, settings, tell, None, keep)
    return played(world, settings, watch)


def live(
    world: World,
    settings: Settings,
    tell: Tell,
    fault: Planted | None,
    keep: Keep = lambda day: None,
    publish: Publisher = lambda *_: None,  # nobody reads the 39 reports of a year
) -> None:
    """Live through the days of a world, or go on where the clock of this home stands.

    Args:
        world: the days.
        settings: of the home, which has a champion.
        tell: is told about each day.
        fault: what goes wrong.
        keep: is called at each midnight with the day that begins.
        publish: writes the report of a monitoring run.
    """
    store = Store(settings.operations)
    with service(settings) as traffic:
        operator = Operator(settings, train_order, publish)
        first = str(date_of(store.replay_time()))
        if first > world.first:  # it was killed: what was begun at this midnight is finished first
            _night(operator, traffic)
            keep(first)
        for now in replay.live(settings, traffic, max(first, world.first), world.last, fault, world.first):
            tell(f"{date_of(now)}", min(1.0, (now - start_of(world.first)).days / (world.day[-1] + 1)))
            _night(operator, traffic)
            keep(str(date_of(now)))
    store.close()
    if traffic.failed:
        raise TrainingStopped(f"the simulated service failed: {traffic.reasons[0]}")


def played(world: World, settings: Settings, watch: float) -> Played:
    """What Level 2 did in a home; `watch` is the machine's time at which it began."""
    store = Store(settings.operations)
    return _played("level 2", world, settings, store, _tenures(store, world), _logged(store, world), watch)


def _night(operator: Operator, traffic: DirectTraffic) -> None:
    traffic.settle()
    operator.cycle()
    traffic.settle()


def train_order(settings: Settings, order: Order) -> int:
    """The trainer of the control loop in a simulation: as `training_job.run`, in this process."""
    about = {"trigger": order.trigger, "reason": order.reason, "evidence": order.evidence, "order": order.id}
    with bad_release() if order.trigger == RELEASE else nullcontext():  # nobody releases a good one in a simulation
        return train(settings, datetime.fromisoformat(order.as_of), "challenger", **about)


def _logged(store: Store, world: World) -> np.ndarray:
    """The scores that callers got; see `schema.scores.shape`."""
    p = predictions.c
    query = sa.select(p.id, whole_score()).where(p.problem == problem.NAME, p.arm != SHADOW)
    with store.engine.connect() as connection:
        answers = pd.DataFrame(connection.execute(query).all(), columns=["id", "score"])
    by_id = answers.drop_duplicates("id", keep="last").set_index("id")["score"]
    return stacked(by_id.reindex(world.rows[problem.ID]).tolist())


def _tenures(store: Store, world: World) -> list[tuple[str, str]]:
    """From which local day on each champion served."""
    return [
        (max(str(date_of(line.at)), world.first), str(line.to_version))
        for line in releases(store.audit_log(problem.NAME))
    ]


def _scores_of(settings: Settings, world: World) -> Callable[[str, np.ndarray], np.ndarray]:
    def scores(version: str, rows: np.ndarray) -> np.ndarray:
        return load_bundle(version_folder(settings.bundles, version)).predict_frame(world.rows[rows])

    return scores


def _played(
    name: str,
    world: World,
    settings: Settings,
    store: Store,
    tenures: list[tuple[str, str]],
    scores: np.ndarray,
    watch: float,
) -> Played:
    log = store.audit_log(problem.NAME)
    ended = [line.action for line in log if isinstance(line.action, RolloutMoved | RolledBack)]
    back = [action for action in ended if isinstance(action, RolledBack) or action.step == ROLLED_BACK]
    with store.engine.connect() as connection:
        opened = connection.scalar(
            sa.select(sa.func.count()).select_from(tickets).where(tickets.c.problem == problem.NAME)
        )
    return Played(
        name,
        len(trainings(log)) - 1,
        promotions(world, tenures, _scores_of(settings, world)),
        rollbacks=len(back),
        tickets=int(opened or 0),
        compute=_compute(settings, world.first),
        seconds=time.perf_counter() - watch,
        notes=tuple(map(_note, log)),
        scores=scores,
    )


def _note(line: Line) -> str:
    """A line of the audit log. The reasons of a rollout's steps are left out: they name measured latencies."""
    what = f"{date_of(line.at)} {line.text} {line.to_version or ''}".strip()
    return what if isinstance(line.action, Rollout) else f"{what}: {line.reason}"
