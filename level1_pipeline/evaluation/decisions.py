"""What decisions cost and what they save, in the unit of `problem.COSTS`, from exact counts that can be added up.

Counts of days can be kept and summed after their rows are deleted; a mean or a sample cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from level1_pipeline import problem
from level1_pipeline.schema.task import task


@dataclass(frozen=True)
class Decisions:
    """Counts of decisions whose label is known. The prices are those of today's `problem.COSTS`."""

    rows: int = 0
    positives: int = 0  # rows with the label 1
    misses: int = 0  # of these, how many no action was taken for
    needless: int = 0  # actions where the label is 0

    def __add__(self, other: Decisions) -> Decisions:
        """The counts of both together."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Decisions(*(own + more for own, more in pairs))

    @property
    def lost(self) -> float:
        """What the wrong decisions cost."""
        miss, needless = prices() or (0.0, 0.0)
        return self.misses * miss + self.needless * needless

    @property
    def saved(self) -> float:
        """How much less that is than the best constant decision costs on the same rows; below 0 if it is more."""
        return min(self._constant().values()) - self.lost

    @property
    def best_constant(self) -> str:
        """Which constant decision is the cheaper: what a person could do without any model."""
        costs = self._constant()
        return min(costs, key=costs.__getitem__)

    def _constant(self) -> dict[str, float]:
        miss, needless = prices() or (0.0, 0.0)
        return {"always act": (self.rows - self.positives) * needless, "never act": self.positives * miss}


@dataclass(frozen=True)
class SincePromotion:
    """The decisions of a champion since it was promoted, with times in aware UTC. JSON-ready with pydantic."""

    since: datetime  # its promotion
    until: datetime  # up to which the labels have matured, excluded
    total: Decisions
    settled_until: datetime  # older rows are not counted again
    settled: Decisions  # these, as part of `total`

    @property
    def days(self) -> float:
        """How long that is."""
        return (self.until - self.since) / timedelta(days=1)


def prices() -> tuple[float, float] | None:
    """The price of a miss and of a needless action, which `problem.COSTS` names in this order; None without them, and
    for a regression."""
    named = list(getattr(problem, "COSTS", {}).values())
    return (named[0], named[1]) if task().has_event and len(named) > 1 else None


def acted(p: np.ndarray) -> np.ndarray:
    """For which scores the problem acts; shape (n,), bool. What it does for a score of 0 is no action."""
    nothing = problem.choose_action(0.0)
    return np.array([problem.choose_action(score) != nothing for score in p], dtype=bool)


def count(y: np.ndarray, p: np.ndarray) -> Decisions | None:
    """Count the decisions about rows with labels `y` and scores `p`, both of shape (n,); None without prices."""
    if prices() is None:
        return None
    positive, acts = y == 1, acted(p)
    return Decisions(len(y), int(positive.sum()), int((positive & ~acts).sum()), int((~positive & acts).sum()))
