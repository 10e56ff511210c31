"""The scoreboard of a simulated year: what each policy achieved, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from level1_pipeline.evaluation.metrics import cost
from level1_pipeline.schema.task import task
from level2_cicd.simulation.policies import Played
from level2_cicd.simulation.world import World

HOUR_DOLLARS = 100.0  # of a person's work
TICKET_HOURS = 0.5
STEP_HOURS = 2.0  # of one step that a person does by hand
COMPUTE_DOLLARS = 0.05  # for a billion rows x iterations


@dataclass(frozen=True)
class Row:
    """One policy in figures."""

    played: Played
    loss: float  # the primary metric over all matured rows
    over_oracle: float  # the same, in units of the oracle's
    weekly: list[float]
    wrong: float | None  # dollars of wrong decisions; None without COSTS
    people_hours: float
    new_versions_dollars: float  # what the people of a new version, and its compute, cost

    @property
    def bad(self) -> int:
        """Bad promotions."""
        return sum(promotion.bad for promotion in self.played.promotions)

    @property
    def total(self) -> float:
        """All dollars."""
        return (self.wrong or 0.0) + self.new_versions_dollars + self.people_hours * HOUR_DOLLARS


@dataclass(frozen=True)
class Scoreboard:
    """All policies on the same traffic."""

    world: World
    rows: tuple[Row, ...]
    oracle: float
    oracle_weekly: list[float]
    silent: float | None  # dollars of wrong decisions if nobody ever acted
    training_dollars: float

    def row(self, name: str) -> Row | None:
        """The row of a policy."""
        return next((row for row in self.rows if row.played.name == name), None)

    @property
    def cheapest(self) -> Row:
        """The policy with the fewest dollars; of equal ones the first."""
        return min(self.rows, key=lambda row: row.total)


def score(world: World, played: list[Played], training_dollars: float) -> Scoreboard:
    """Hold all policies against the oracle: in hindsight the best for each week of the Mondays' models until then."""
    labelled = ~np.isnan(world.labels)
    y, week = world.labels[labelled], world.week[labelled]
    table = np.vstack([task().losses(y, world.scores(monday)[labelled]) for monday in world.mondays])
    weekly = pd.DataFrame(table.T).groupby(week).mean()
    best = [float(np.nanmin(weekly.loc[number, : int(number)])) for number in weekly.index]
    oracle = float(np.average(best, weights=np.bincount(week)))
    rows = tuple(_row(each, y, week, labelled, oracle, training_dollars) for each in played)
    return Scoreboard(world, rows, oracle, best, _dollars(y, np.zeros(len(y))), training_dollars)


def _row(played: Played, y: np.ndarray, week: np.ndarray, labelled: np.ndarray, oracle: float, training: float) -> Row:
    loss = task().losses(y, played.scores[labelled])
    return Row(
        played,
        float(loss.mean()),
        float(loss.mean()) / oracle,
        [float(value) for value in pd.Series(loss).groupby(week).mean()],
        _dollars(y, played.scores[labelled]),
        played.manual_steps * STEP_HOURS + played.tickets * TICKET_HOURS,
        played.trainings * training + played.compute / 1e9 * COMPUTE_DOLLARS,
    )


def _dollars(y: np.ndarray, p: np.ndarray) -> float | None:
    each = cost(y, p)
    return None if each is None else each * len(y)
