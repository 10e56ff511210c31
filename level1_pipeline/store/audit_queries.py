"""One query for each question that is asked of the audit log. All are pure: they take its lines, oldest first.

`Store.audit_log` reads the lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from level1_pipeline.store.audit import (
    BudgetReset,
    EntityForgotten,
    Line,
    Order,
    Recalibrated,
    RolledBack,
    RolloutMoved,
    RolloutStarted,
    StepRefused,
    Training,
    TrainingAllowed,
    TrainingJudged,
    TrainingRefused,
    TrainingStopped,
    TrustedSetFrozen,
)


def answering(window_end: datetime, cause: str) -> dict[str, Any]:
    """The evidence of a change that answers the monitoring run of a window, so that nobody answers it again."""
    return {"window_end": window_end.isoformat(), "cause": cause}


def was_answered(log: Iterable[Line], window_end: datetime) -> bool:
    """Whether somebody has acted on the monitoring run of this window."""
    return any(line.evidence.get("window_end") == window_end.isoformat() for line in log)


def between(log: Iterable[Line], start: datetime, end: datetime) -> list[Line]:
    """The lines after `start`, until `end`, on the clock of decisions."""
    return [line for line in log if start < line.at <= end]


def trainings(log: Iterable[Line]) -> list[Training]:
    """Trainings that ended, in whatever way."""
    return [line.action for line in log if isinstance(line.action, Training)]


def allowed_trainings(log: Iterable[Line]) -> int:
    """How many orders were allowed; one whose process was killed has no line about its end."""
    return sum(isinstance(line.action, TrainingAllowed) for line in log)


def last_training(log: Iterable[Line], *, or_permission: bool = False) -> datetime | None:
    """When a training last ended (or, with `or_permission`, was allowed), on the clock of decisions."""
    kinds = (Training, TrainingAllowed) if or_permission else Training
    return max((line.at for line in log if isinstance(line.action, kinds)), default=None)


def last_recalibration(log: Iterable[Line]) -> datetime | None:
    """When an offset was last fitted for a champion, whatever the gate said of it."""
    return max((line.at for line in log if isinstance(line.action, Recalibrated)), default=None)


def last_judged_as_of(log: Iterable[Line], now: datetime) -> datetime | None:
    """The newest "as of" until `now` among the trainings that the gate judged; later ones knew a wrong clock."""
    judged = (line for line in log if isinstance(line.action, TrainingJudged))
    times = (datetime.fromisoformat(line.action.as_of) if line.action.as_of else line.at for line in judged)  # type: ignore[attr-defined]
    return max((time for time in times if time <= now), default=None)


def trained_as_of(log: Iterable[Line], version: str | None) -> datetime | None:
    """How new the rows are that a version was made of; None if no training in the log made it."""
    made = (line for line in log if isinstance(line.action, TrainingJudged) and version and line.to_version == version)
    times = [datetime.fromisoformat(line.action.as_of) if line.action.as_of else line.at for line in made]  # type: ignore[attr-defined]
    return times[-1] if times else None


def newest_staleness(log: Iterable[Line]) -> dict[str, Any] | None:
    """What the newest training that measured it says about the price of age, whether its model passed or not."""
    judged = (line.evidence for line in log if isinstance(line.action, TrainingJudged))
    return next((measured for evidence in reversed([*judged]) if (measured := evidence.get("staleness"))), None)


def frozen_trusted_set(log: Iterable[Line], span: str, labels: str) -> TrustedSetFrozen | None:
    """The first trusted set of these days that was frozen, with this digest of labels if one is named."""
    frozen = (line.action for line in log if isinstance(line.action, TrustedSetFrozen))
    return next((action for action in frozen if action.span == span and labels in ("", action.labels)), None)


def was_carried_out(log: Iterable[Line], order_id: str) -> bool:
    """Whether a training for this order has ended."""
    return any(training.order == order_id for training in trainings(log))


def open_order(log: Iterable[Line]) -> Order | None:
    """The oldest order that was allowed and has left no line about its end: it was killed, or has not begun."""
    waiting: dict[str, Order] = {}
    for line in log:
        if isinstance(line.action, TrainingAllowed) and line.action.order:
            waiting[line.action.order.id] = line.action.order
        elif isinstance(line.action, Training) and line.action.order:
            waiting.pop(line.action.order, None)
    return next(iter(waiting.values()), None)


def was_ordered(log: Iterable[Line], trigger: str, as_of: str) -> bool:
    """Whether the budget has answered an order of this trigger "as of" this time (ISO) already."""
    orders = [line.action.order for line in log if isinstance(line.action, TrainingAllowed | TrainingRefused)]
    return any(order and (order.trigger, order.as_of) == (trigger, as_of) for order in orders)


def rejected_in_a_row(log: Iterable[Line]) -> int:
    """Candidates that no gate or rollout let through, since one became champion or a person reset the budget."""
    count = 0
    for line in log:
        match line.action:
            case BudgetReset() | RolloutMoved(step="champion"):
                count = 0
            case TrainingStopped() | RolloutMoved(step="rolled back"):
                count += 1
            case TrainingJudged(status=status) if status != "pass":
                count += 1
    return count


def rolled_back_in_a_row(log: Iterable[Line]) -> int:
    """Rollouts that failed, since one succeeded, or since a person began one by hand or reset the budget."""
    count = 0
    for line in log:
        match line.action:
            case BudgetReset() | RolloutMoved(step="champion") | RolloutStarted(automatic=False):
                count = 0
            case RolloutMoved(step="rolled back"):
                count += 1
    return count


def candidates_tried(log: Iterable[Line]) -> set[str]:
    """Versions whose rollout was started, or could not be since a person last reset the budget."""
    started, refused = set[str](), set[str]()
    for line in log:
        match line.action:
            case BudgetReset():
                refused.clear()
            case RolloutStarted(candidate=candidate):
                started.add(candidate)
            case StepRefused(candidate=str(candidate)):
                refused.add(candidate)
    return started | refused


def champions(log: Iterable[Line]) -> list[str]:
    """Every version that has served as champion and was not rolled back since, the newest first."""
    good: dict[str, None] = {}
    for line in releases(log):
        if isinstance(line.action, RolledBack):
            good.pop(line.from_version or "", None)
        version = str(line.to_version)
        good.pop(version, None)
        good[version] = None
    return [*reversed(good)]


def releases(log: Iterable[Line]) -> list[Line]:
    """The lines with which another version became champion, oldest first."""
    return [line for line in log if line.route and line.to_version and line.to_version != line.from_version]


def route_change_before(log: Iterable[Line], at: datetime) -> Line | None:
    """The last line about the route until then."""
    return next((line for line in reversed([*log]) if line.at <= at and line.route), None)


def was_forgotten(log: Iterable[Line], entity_sha256: str) -> bool:
    """Whether everything about this entity was deleted before."""
    return any(line.action == EntityForgotten(entity_sha256) for line in log)
