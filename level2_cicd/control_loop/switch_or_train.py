"""A recurring concept: back to the past champion, or a training?  Both are compared on what they would gain.

The monitoring compares a past champion with the champion of today. If that one is old, a past champion may be better
than it and still worse than a model made now. Nobody knows the loss of a model that is not made yet, but each training
measures what a week of age costs: a new model is expected to have the champion's loss on the window, less that price
for each week of the champion's age. The champion's loss stands on both sides, so only the two gains are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from level1_pipeline import problem
from level1_pipeline.registry import Registry
from level1_pipeline.store import clock
from level1_pipeline.store.audit import Line, Order
from level1_pipeline.store.audit_queries import newest_staleness, trained_as_of
from level2_cicd.control_loop import expected_gain, retraining_budget
from level2_cicd.control_loop.ageing import WEEK
from level2_cicd.control_loop.triggers import MONITORING, order_for
from monitoring.results import MonitoringRun


@dataclass(frozen=True)
class Gains:
    """How much lower than the champion's the loss would be."""

    switch: float  # of the past champion, measured over the last windows
    training: float  # of a new model, at least
    weeks: float  # of the champion's age that count

    @property
    def training_is_better(self) -> bool:
        """A switch costs nothing and a training has a price, so a tie goes to the switch."""
        return self.training > self.switch

    @property
    def message(self) -> str:
        """The same in words."""
        age = f"the champion's {self.weeks:.1f} weeks of age cost at least {self.training:.4f} {problem.PRIMARY_METRIC}"
        return f"a training is better than going back: {age}, and the past champion is {self.switch:.4f} better"


def gains(log: Sequence[Line], run: MonitoringRun, now: datetime) -> Gains | None:
    """What the switch and a training would gain; None where one of them was not measured.

    The lower bound of the price of age counts, as for the trigger `staleness`. Beyond the oldest age that the backtest
    compared nothing is known, so older champions count as that old.
    """
    measured, made = newest_staleness(log), trained_as_of(log, run.champion)
    switch = run.figures.get("past_champion_gain")
    if switch is None or made is None or not measured:
        return None
    oldest = max(age for age, _ in measured["curve"])
    weeks = min((now - made) / WEEK, oldest)
    return Gains(switch, measured["loss"]["low"] * weeks, weeks)


def order_instead(registry: Registry, run: MonitoringRun) -> Order | None:
    """The training to order instead of a switch; None where the switch is better, or where the settings or the budget
    do not allow a training."""
    settings, now = registry.settings, clock.now(registry.settings)
    log = registry.store.audit_log(problem.NAME)
    expected = gains(log, run, now)
    if MONITORING not in settings.loop.triggers or expected is None or not expected.training_is_better:
        return None
    order = replace(order_for(settings, run), reason=expected.message)
    answer = retraining_budget.may_train(log, expected_gain.need(registry, order), settings.retraining, now)
    return order if answer.allowed else None
