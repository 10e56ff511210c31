"""The retraining budget: may a training start by itself?  Cooldown, caps, and expected gain against cost.

A lasting drift, or a lasting fault of the data, costs at most the budget of each period. Every answer has a reason,
and its figures go to the audit log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from level1_pipeline import problem
from level1_pipeline.orchestration.run import today
from level1_pipeline.policies import RetrainingPolicy
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import BudgetReset, Change, Line, Order, TrainingAllowed, TrainingRefused
from level1_pipeline.store.audit_queries import (
    allowed_trainings,
    between,
    last_training,
    rejected_in_a_row,
    trainings,
    was_ordered,
)
from level1_pipeline.store.database import Store
from level2_cicd.control_loop import expected_gain
from level2_cicd.control_loop.ageing import ageing
from level2_cicd.control_loop.expected_gain import Need
from level2_cicd.control_loop.situation import Situation
from level2_cicd.control_loop.triggers import STALENESS, may_order
from monitoring.results import FAULTS

GAVE_UP = "rejected in a row"
NOT_YET = ("cooldown", "new outcomes", "dollars")  # rules that wait for time to pass


@dataclass(frozen=True)
class Permission:
    """The answer: its reason, and the figures that it rests on."""

    reason: str
    figures: dict[str, float | None] = field(default_factory=dict)
    refused_by: str = ""  # the rule that forbids it

    @property
    def allowed(self) -> bool:
        """Whether no rule forbids it."""
        return not self.refused_by

    @property
    def needs_a_person(self) -> bool:
        """Whether so many candidates were rejected that a person must look."""
        return self.refused_by == GAVE_UP


def may_train(log: Sequence[Line], need: Need, policy: RetrainingPolicy, now: datetime) -> Permission:
    """Whether an automatic training may start. Pure: the audit log (oldest first) is all that it remembers."""
    recent = between(log, now - timedelta(days=policy.period_days), now)
    seconds = [policy.training_seconds if run.seconds is None else run.seconds for run in trainings(recent)]
    each = float(np.mean(seconds)) if seconds else policy.training_seconds
    # A permission counts like a training: of two loops that ask at once only the first may train.
    last = last_training([line for line in log if line.at <= now], or_permission=True)
    figures = {
        "trainings": float(max(len(seconds), allowed_trainings(recent))),  # one may have crashed
        "compute_seconds": sum(seconds),
        "rejected_in_a_row": float(rejected_in_a_row(recent)),
        "days_since_last": (now - last).total_seconds() / 86400 if last else None,
        "new_outcomes": float(need.new_outcomes),
        "drop": need.drop,
        "dollars": need.dollars,
        "training_dollars": policy.training_dollars + each / 3600 * policy.training_dollars_per_hour,
    }
    for rule, reason in _refusals(need, policy, figures, each):
        return Permission(reason, figures, rule)
    return Permission(_in_favour(need, figures), figures)


def _refusals(
    need: Need, policy: RetrainingPolicy, figures: dict[str, float | None], seconds: float
) -> Iterator[tuple[str, str]]:
    """Every rule that forbids it, with the reason; `seconds` is what one training takes."""
    number = {name: value or 0.0 for name, value in figures.items()}
    count, rejected, spent = number["trainings"], number["rejected_in_a_row"], number["compute_seconds"]
    idle, cost = figures["days_since_last"], number["training_dollars"]
    period, person = f"within {policy.period_days:g} days", "a person must look, and then"
    if need.cause in FAULTS:
        yield need.cause, f"a {need.cause} never triggers a training: mend or quarantine the data first"
    if rejected >= policy.max_rejected:
        gave_up = f"gave up: {rejected:g} candidates in a row were rejected {period}"
        yield GAVE_UP, f"{gave_up}; {person}: python -m level2_cicd reset --reason …"
    if idle is not None and idle < policy.cooldown_days:
        ago = f"the last training was {idle:.1f} days ago"
        yield "cooldown", f"cooling down: {ago} (needed: {policy.cooldown_days:g})"
    if count >= policy.max_trainings:
        yield "trainings", f"{count:g} trainings {period}, which is the budget"
    if spent + seconds > policy.max_compute_seconds:
        more = f"about {seconds:.0f} s more would exceed {policy.max_compute_seconds:g} s"
        yield "compute", f"{spent:.0f} s of compute {period}, and {more}"
    if need.new_outcomes < policy.min_new_outcomes:
        have = f"only {need.new_outcomes:,} new outcomes (needed: {policy.min_new_outcomes:,})"
        yield "new outcomes", f"{have}: there is too little to learn from"
    if need.dollars is not None and need.dollars < cost:
        yield "dollars", f"a training is worth {need.dollars:,.0f} dollars and costs {cost:,.0f}: it does not pay"


def _in_favour(need: Need, figures: dict[str, float | None]) -> str:
    drop = f"; {problem.PRIMARY_METRIC} is {need.drop:+.4f} worse" if need.drop is not None else ""
    worth = f" is worth {need.dollars:,.0f} dollars and" if need.dollars is not None else ""
    return f"{need.cause}{drop}; a training{worth} costs {figures['training_dollars']:,.0f} dollars"


def due_to_age(settings: Settings, registry: Registry, now: Situation) -> Order | None:
    """The training for which the champion is old enough. While it is not, nobody is asked and nothing written."""
    at = clock.now(settings)
    if STALENESS not in settings.loop.triggers or not may_order(now):
        return None
    age, day = ageing(registry, at), today(settings).isoformat()
    if age is None or was_ordered(now.log, STALENESS, day):
        return None
    order = Order(STALENESS, age.message, day, {"cause": STALENESS, **asdict(age)})
    answer = may_train(now.log, expected_gain.need(registry, order), settings.retraining, at)
    return None if answer.refused_by in NOT_YET else order


def ask(settings: Settings, need: Need, now: datetime | None = None, order: Order | None = None) -> Permission:
    """Decide under a fenced lease, and write the answer with its figures and the order into the audit log.

    Raises:
        LeaseHeld, LeaseLost: another process decides at this moment.
    """
    store, now = Store(settings.operations), now or clock.now(settings)
    with leases.hold(store, f"retraining budget {problem.NAME}", settings.lease_seconds) as lease:
        answer = may_train(store.audit_log(problem.NAME), need, settings.retraining, now)
        evidence: dict[str, Any] = {"cause": need.cause, "figures": answer.figures, "refused_by": answer.refused_by}
        if order:  # this line answers the monitoring run that the order rests on
            evidence["window_end"] = order.evidence.get("window_end")
        action = TrainingAllowed(order) if answer.allowed else TrainingRefused(order)
        store.record(problem.NAME, Change(settings.who, action, answer.reason, now, evidence), lease=lease)
    store.close()
    return answer


def overrule(settings: Settings, order: Order) -> None:
    """A person orders a training: no rule forbids it, but it counts against the budget of the automatic ones."""
    store = Store(settings.operations)
    evidence = {"cause": order.trigger}
    change = Change(settings.who, TrainingAllowed(order), order.reason, clock.now(settings), evidence)
    store.record(problem.NAME, change)
    store.close()


def reset(settings: Settings, reason: str) -> None:
    """A person has looked at what was rejected or rolled back: trainings and rollouts may start again by themselves."""
    store = Store(settings.operations)
    store.record(problem.NAME, Change(settings.who, BudgetReset(), reason, clock.now(settings)))
    store.close()
