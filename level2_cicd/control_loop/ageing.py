"""The trigger `staleness`: what age has cost since the last training, as the trainings measured it, and another
training when that is as much as one costs.

A model that is k weeks old costs k times as much a week as one that is a week old, as long as the measured slope
holds. With a fixed price for each training, the sum of both is smallest when a training starts as soon as age has cost
as much as one (the economic order quantity: Harris, How Many Parts to Make at Once, 1913).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.registry import Registry
from level1_pipeline.store.audit_queries import last_judged_as_of, newest_staleness
from level1_pipeline.store.routes import SHADOW
from level1_pipeline.store.tables import predictions

TRAFFIC_DAYS = 28  # before now, whose requests say how many will come
WEEK = timedelta(weeks=1)


@dataclass(frozen=True)
class Ageing:
    """What age costs since the newest training that the gate judged: if it rejected the candidate, the champion was still
    as good as a new model."""

    weeks: float  # since then
    predictions_a_week: float
    dollars_of_age: float  # one prediction, for each week of age: the lower bound of what was measured

    @property
    def dollars(self) -> float:
        """The sum until now: in each week its age in weeks, times the price of a week of age."""
        return self.dollars_of_age * self.predictions_a_week * self.weeks**2 / 2

    @property
    def message(self) -> str:
        """The same in words."""
        price = f"{1000 * self.dollars_of_age:,.0f} dollars for 1,000 predictions and each week of age"
        return f"{self.weeks:.1f} weeks since the last training have cost {self.dollars:,.0f} dollars ({price})"


def ageing(registry: Registry, now: datetime) -> Ageing | None:
    """What age costs; None where that was not measured, or where it is not sure to cost anything."""
    log = registry.store.audit_log(problem.NAME)
    measured, last = (newest_staleness(log) or {}).get("dollars"), last_judged_as_of(log, now)
    if not measured or last is None or measured["low"] <= 0:
        return None
    return Ageing((now - last) / WEEK, _predictions_a_week(registry, now), measured["low"])


def _predictions_a_week(registry: Registry, now: datetime) -> float:
    """Answers of the last weeks, since there are any."""
    p, start = predictions.c, now - timedelta(days=TRAFFIC_DAYS)
    answers = (p.problem == problem.NAME) & (p.arm != SHADOW) & (p.at >= start) & (p.at < now)
    with registry.store.engine.connect().execution_options(reads_only=True) as connection:
        count, first = connection.execute(
            sa.select(sa.func.count(sa.distinct(p.id)), sa.func.min(p.at)).where(answers)
        ).one()
    return count * WEEK / max(now - first, timedelta(days=1)) if count else 0.0
