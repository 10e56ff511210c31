"""The figures of a planted fault: how soon it was seen, what it did, and how soon all was well, beside the clean run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.schema.task import task
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Line, RolloutMoved, Training, TrainingStopped
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from level1_pipeline.store.tables import monitoring_runs
from level2_cicd.control_loop.triggers import RELEASE
from level2_cicd.rollout.states import ROLLED_BACK
from level2_cicd.simulation.faults import spoiling
from level2_cicd.simulation.faults.table import Planted
from level2_cicd.simulation.policies import Played
from level2_cicd.simulation.world import World

TOLERANCE = 1.01  # of a loss beside that of the clean run
RECOVERED_DAYS = 14  # within which the loss must be as without the fault
LEAST_DAYS = 7  # on which a recovery must have lasted
QUIET = ("nothing", "covariate shift")  # diagnoses that call nobody


@dataclass(frozen=True)
class FaultFigures:
    """What a fault did, beside the same days without it. Days are local, counts of days begin with 0."""

    name: str
    what: str
    kind: str
    first: str
    days: int
    detected: int | None  # days from its beginning to the first alarm that the clean run does not have
    alarm: str  # what that was
    recovered: int | None  # days from its end (concept change: from its beginning, to a version that has seen it)
    other_actions: int  # answers in its days with another action than in the clean run
    caused: int  # trainings more than in the clean run, in all days; without that of the release itself
    trainings: tuple[str, ...]
    bad: int  # promotions
    ratio: float | None  # loss on the rows that it does not touch, over the clean run's; None: it touches all

    @property
    def misses(self) -> list[str]:
        """Which goals were missed, in words."""
        metric, back = problem.PRIMARY_METRIC, f"within {RECOVERED_DAYS} days after its end"
        late = self.recovered is None or self.recovered > RECOVERED_DAYS
        goals = {
            "no alarm named it.": self.detected is None and self.kind != "new value",
            f"it caused trainings ({self.caused} more than without it).": "fault" in self.kind and self.caused > 0,
            f"{self.bad} promotions were bad.": self.bad > 0,
            f"{metric} on the rows that it does not touch is {self.ratio or 0:.3f} times that without it (goal: at most "
            f"{TOLERANCE}).": (self.ratio or 0) > TOLERANCE,
            f"{metric} was not as without it {back}.": late and self.kind != "concept change",
        }
        return [f"{self.name}: {text}" for text, missed in goals.items() if missed]

    def save(self, folder: Path) -> None:
        """Keep them, whole or not at all."""
        partial = folder / f"fault {self.name}.partial"
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.replace(folder / f"fault {self.name}.json")

    @classmethod
    def load(cls, folder: Path, name: str) -> FaultFigures | None:
        """What was kept; None if nothing was."""
        file = folder / f"fault {name}.json"
        if not file.exists():
            return None
        data = json.loads(file.read_text())
        return cls(**data | {"trainings": tuple(data["trainings"])})


@dataclass(frozen=True)
class Log:
    """What a home remembers: its audit log, and the cause that each monitoring run named, by local day."""

    lines: list[Line]
    causes: dict[str, str]

    @classmethod
    def of(cls, settings: Settings) -> Log:
        """Of the home of these settings."""
        store, runs = Store(settings.operations), monitoring_runs.c
        query = sa.select(runs.window_end, runs.cause).where(runs.problem == problem.NAME)
        with store.engine.connect() as connection:
            causes = {str(date_of(row.window_end)): str(row.cause) for row in connection.execute(query)}
        log = cls(store.audit_log(problem.NAME), causes)
        store.close()
        return log

    def trainings(self, first: str, last: str) -> list[Line]:
        """The lines about trainings in these days, but for those of a release."""
        ended = [line for line in self.lines if isinstance(line.action, Training)]
        inside = [line for line in ended if first <= str(date_of(line.at)) <= last]
        return [line for line in inside if line.evidence.get("trigger") != RELEASE]


def figures(
    year: World, world: World, planted: Planted, lived: Played, before: Played, log: Log, clean: Log
) -> FaultFigures:
    """What the fault did to a run, beside the clean run `before`."""
    fault, first, n = planted.fault, planted.first, len(world.rows)
    spoilt = planted.spoil(year.rows).iloc[:n]
    labelled, old, new = ~np.isnan(world.labels), before.scores[:n], lived.scores
    untouched = ~spoiling.touched(year.rows.iloc[:n], spoilt) & labelled & world.since(first)
    during = world.since(first) & ~world.since(str(date_of(planted.end)))
    day, alarm = _alarm(first, log, clean)
    trainings = log.trainings(first, world.last)
    return FaultFigures(
        name=fault.name,
        what=fault.what,
        kind=fault.kind,
        first=first,
        days=fault.days,
        detected=_days(first, day) if day else None,
        alarm=alarm,
        recovered=_recovered(world, planted, lived, task().losses(world.labels, old), task().losses(world.labels, new)),
        other_actions=sum(map(_differs, old[during], new[during])),
        caused=max(0, _fitted(trainings) - _fitted(clean.trainings(first, world.last))),
        trainings=tuple(f"{date_of(line.at)} {line.evidence.get('trigger')}: {line.text}" for line in trainings),
        bad=sum(promotion.bad for promotion in lived.promotions if promotion.day >= first),
        ratio=_ratio(task().losses(world.labels, new)[untouched], task().losses(world.labels, old)[untouched]),
    )


def _fitted(trainings: list[Line]) -> int:
    """How many of them made a model; the others were stopped by the checks of the data."""
    return sum(not isinstance(line.action, TrainingStopped) for line in trainings)


def _ratio(new: np.ndarray, old: np.ndarray) -> float | None:
    return float(new.mean() / old.mean()) if len(new) else None


def _days(first: str, day: str) -> int:
    return (pd.Timestamp(day) - pd.Timestamp(first)).days


def _differs(old: Any, new: Any) -> bool:
    return problem.choose_action(old) != problem.choose_action(new)


def _alarm(first: str, log: Log, clean: Log) -> tuple[str | None, str]:
    """The first alarm from a day on that the clean run does not have: a diagnosis, a stopped training, a rollback."""
    alarms = [
        (day, cause)
        for day, cause in log.causes.items()
        if day > first and cause not in QUIET and clean.causes.get(day) != cause
    ]
    alarms += [
        (str(date_of(line.at)), line.text) for line in log.lines if str(date_of(line.at)) >= first and _is_alarm(line)
    ]
    return min(alarms, default=(None, ""))


def _is_alarm(line: Line) -> bool:
    action = line.action
    return isinstance(action, TrainingStopped) or (isinstance(action, RolloutMoved) and action.step == ROLLED_BACK)


def _recovered(world: World, planted: Planted, lived: Played, old: np.ndarray, new: np.ndarray) -> int | None:
    """Days from the end of the fault to the first one from which on the loss of all rows, to the end of the run, is
    that of the clean run; of a concept change from its beginning to the first new version that has learned from it."""
    if planted.fault.kind == "concept change":
        return next((_days(planted.first, each.day) for each in lived.promotions if each.day > planted.first), None)
    end, labelled = str(date_of(planted.end)), ~np.isnan(world.labels)
    for days in range(_days(end, world.last) + 2 - LEAST_DAYS):
        rest = labelled & world.since(str(date_of(planted.end) + timedelta(days=days)))
        if (_ratio(new[rest], old[rest]) or 0.0) <= TOLERANCE:
            return days
    return None
