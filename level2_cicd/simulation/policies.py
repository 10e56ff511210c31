"""What a policy did with the year, and the policies that need no loop: nobody trains, a person does, or a calendar."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from level1_pipeline.evaluation.day_mean import DIFFERENCE_CORRELATION, day_mean
from level1_pipeline.schema.task import task
from level2_cicd.simulation.world import World

BAD_BY = 0.002  # in the primary metric: a promotion is bad if it is surely worse than its predecessor by so much
SURE = 0.975  # one-sided, of the 95 % interval by days
HANDED_OVER_DAYS = 7  # from a training by hand until somebody serves the file

ScoresOf = Callable[[str, np.ndarray], np.ndarray]  # of a version, for the rows that a mask names


@dataclass(frozen=True)
class Promotion:
    """A version that took over from another one, and how it did in its tenure beside it."""

    day: str  # local
    version: str
    predecessor: str
    days: int  # of its tenure, with outcomes
    worse_by: float  # mean daily difference in the primary metric; below 0 it is better
    low: float  # of the 95 % interval
    high: float

    @property
    def bad(self) -> bool:
        """Whether its predecessor would surely have done better."""
        return self.low > BAD_BY


@dataclass(frozen=True)
class Played:
    """One policy over the whole year."""

    name: str
    trainings: int  # after the first model
    promotions: tuple[Promotion, ...]
    rollbacks: int = 0
    tickets: int = 0  # that asked for a person
    manual_steps: int = 0
    compute: int = 0  # rows x iterations of all fits after the first model's
    seconds: float = 0.0  # wall time of the simulation; nothing depends on it
    notes: tuple[str, ...] = ()
    scores: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def save(self, folder: Path) -> None:
        """Keep it, whole or not at all: the second file says that both are there."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{self.name}.npy", self.scores)
        data = {name: value for name, value in asdict(self).items() if name != "scores"}
        partial = folder / f"{self.name}.partial"
        partial.write_text(json.dumps(data, indent=1))
        partial.replace(folder / f"{self.name}.json")

    @classmethod
    def load(cls, folder: Path, name: str) -> Played | None:
        """What was kept; None if nothing was."""
        file = folder / f"{name}.json"
        if not file.exists():
            return None
        data = json.loads(file.read_text())
        data["promotions"] = tuple(Promotion(**each) for each in data["promotions"])
        return cls(**data | {"notes": tuple(data["notes"])}, scores=np.load(folder / f"{name}.npy"))


def promotions(world: World, tenures: Sequence[tuple[str, str]], scores_of: ScoresOf) -> tuple[Promotion, ...]:
    """Each version after the first beside its predecessor, on the rows of its own tenure.

    Args:
        world: of the year.
        tenures: the local day from which on a version serves, and the version, in order.
        scores_of: what a version says about rows.
    """
    result = []
    ends = [day for day, _ in tenures[2:]] + [None]
    for (_, before), (day, version), end in zip(tenures, tenures[1:], ends, strict=False):
        served = world.since(day) & ~np.isnan(world.labels)
        served &= ~world.since(end) if end else True
        result.append(_compared(world, day, (before, version), served, scores_of))
    return tuple(result)


def _compared(world: World, day: str, versions: tuple[str, str], served: np.ndarray, scores_of: ScoresOf) -> Promotion:
    old, new = (task().losses(world.labels[served], scores_of(version, served)) for version in versions)
    daily = pd.Series(new - old).groupby(world.day[served]).mean()
    mean = day_mean(daily.to_numpy(), daily.index.to_numpy(), DIFFERENCE_CORRELATION)
    half = mean.half_width(SURE)
    return Promotion(day, versions[1], versions[0], len(daily), mean.value, mean.value - half, mean.value + half)


def calendar(world: World, name: str, mondays: Sequence[str], delay_days: int = 0, manual_steps: int = 0) -> Played:
    """Serve the model of each of these Mondays, so many days after it was trained, with no gate.

    Args:
        world: of the year.
        name: of the policy.
        mondays: on which it trains, the first one included.
        delay_days: from a training until its model serves.
        manual_steps: that a person takes for each training.
    """
    scores, tenures = world.scores(mondays[0]), [(mondays[0], mondays[0])]
    for monday in mondays[1:]:
        day = str((pd.Timestamp(monday) + pd.Timedelta(days=delay_days)).date())
        served = world.since(day)
        scores[served] = world.scores(monday)[served]
        tenures.append((day, monday))
    trainings = len(mondays) - 1
    return Played(
        name,
        trainings,
        promotions(world, tenures, lambda version, rows: world.scores(version)[rows]),
        manual_steps=manual_steps * trainings,
        compute=sum(world.compute(monday) for monday in mondays[1:]),
        scores=scores,
    )
