"""May a training start by itself?  Every answer has words, and its figures go to the audit log.

A lasting drift, or a lasting fault of the data, costs at most the budget of each period.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from level1_pipeline import problem
from level1_pipeline.settings import RetrainingPolicy, Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import ALLOWED, REFUSED, RESET, Change
from level1_pipeline.store.database import Store

GAVE_UP = "rejected in a row"
REJECTED = (
    "train: gate fail",
    "train: gate inconclusive",
    "train: gate error",
    "train: stopped",
    "rollout: rolled back",
)
SUCCESS = ("rollout: champion", RESET)


@dataclass(frozen=True)
class Need:
    """What speaks for a training now."""

    cause: str  # of the diagnosis, or `schedule`
    new_outcomes: int  # matured since the last training that was judged
    drop: float | None = None  # how much worse the loss is than expected; None if that is not what speaks for it
    dollars: float | None = None  # what waiting costs until the next occasion; None if unknown or not applicable


@dataclass(frozen=True)
class Permission:
    """The answer in words, with the figures it rests on."""

    reason: str
    figures: dict[str, float | None] = field(default_factory=dict)
    refused_by: str = ""  # the rule that forbids it

    @property
    def allowed(self) -> bool:
        """Whether no rule forbids it."""
        return not self.refused_by

    @property
    def ticket(self) -> bool:
        """Whether the governor has given up, so that a person is needed."""
        return self.refused_by == GAVE_UP


def may_train(history: list[dict[str, Any]], need: Need, policy: RetrainingPolicy, now: datetime) -> Permission:
    """Whether an automatic training may start. Pure: the audit log (oldest first) is all that it remembers."""
    recent = [line for line in history if now - timedelta(days=policy.period_days) < line["at"] <= now]
    trained = [line for line in recent if line["action"].startswith("train: ")]
    seconds = [float(line["evidence"].get("seconds", policy.training_seconds)) for line in trained]
    each = float(np.mean(seconds)) if seconds else policy.training_seconds
    cost = policy.training_dollars + each / 3600 * policy.training_dollars_per_hour
    last, rejected = _last(history, now), _rejected(recent)
    idle = (now - last).total_seconds() / 86400 if last else None
    figures = {
        "trainings": float(
            max(len(trained), sum(line["action"] == ALLOWED for line in recent))
        ),  # one may have crashed
        "compute_seconds": sum(seconds),
        "rejected_in_a_row": float(rejected),
        "days_since_last": idle,
        "new_outcomes": float(need.new_outcomes),
        "drop": need.drop,
        "dollars": need.dollars,
        "training_dollars": cost,
    }
    rule, message = _refusal(need, policy, figures, cost, each) or ("", _in_favour(need, cost))
    return Permission(message, figures, rule)


def _refusal(
    need: Need, policy: RetrainingPolicy, figures: dict[str, float | None], cost: float, seconds: float
) -> tuple[str, str] | None:
    """The first rule that forbids it: its name, and words with numbers."""
    spent, trained, rejected = (figures[name] or 0.0 for name in ("compute_seconds", "trainings", "rejected_in_a_row"))
    idle, period = figures["days_since_last"], f"within {policy.period_days:g} days"
    rules = (
        (
            "data fault",
            need.cause == "data fault",
            "a data fault never triggers a training: mend or quarantine the data first",
        ),
        (
            GAVE_UP,
            rejected >= policy.max_rejected,
            f"gave up: {rejected:g} candidates in a row were rejected {period}; a person must look, and then: python -m level2_cicd reset --reason …",
        ),
        (
            "cooldown",
            idle is not None and idle < policy.cooldown_days,
            f"cooling down: the last training was {idle or 0.0:.1f} days ago (needed: {policy.cooldown_days:g})",
        ),
        ("trainings", trained >= policy.max_trainings, f"{trained:g} trainings {period}, which is the budget"),
        (
            "compute",
            spent + seconds > policy.max_compute_seconds,
            f"{spent:.0f} s of compute {period}, and about {seconds:.0f} s more would exceed {policy.max_compute_seconds:g} s",
        ),
        (
            "new outcomes",
            need.new_outcomes < policy.min_new_outcomes,
            f"only {need.new_outcomes:,} new outcomes (needed: {policy.min_new_outcomes:,}): there is too little to learn from",
        ),
        (
            "dollars",
            need.dollars is not None and need.dollars < cost,
            f"waiting costs {need.dollars or 0.0:,.0f} dollars and a training {cost:,.0f}: it does not pay",
        ),
    )
    return next(((rule, message) for rule, applies, message in rules if applies), None)


def _in_favour(need: Need, cost: float) -> str:
    drop = f"; {problem.PRIMARY_METRIC} is {need.drop:+.4f} worse" if need.drop is not None else ""
    loss = f"; waiting costs {need.dollars:,.0f} dollars" if need.dollars is not None else ""
    return f"{need.cause}{drop}{loss}; a training costs {cost:,.0f} dollars"


def _last(history: list[dict[str, Any]], now: datetime) -> datetime | None:
    """When a training last ended or was allowed: two loops that ask at once must not both get it."""
    trained = [line for line in history if line["action"].startswith("train: ") or line["action"] == ALLOWED]
    return max((line["at"] for line in trained if line["at"] <= now), default=None)


def _rejected(recent: list[dict[str, Any]]) -> int:
    """Candidates in a row that no gate or rollout let through, since a success or a person's reset."""
    count = 0
    for line in recent:
        count = 0 if line["action"] in SUCCESS else count + (line["action"] in REJECTED)
    return count


def ask(settings: Settings, need: Need, now: datetime | None = None, order: dict[str, Any] | None = None) -> Permission:
    """Decide under a fenced lease, and write the answer with its figures and the order into the audit log.

    Raises:
        LeaseHeld, LeaseLost: another process decides at this moment.
    """
    store, now = Store(settings.operations), now or clock.now(settings)
    with leases.hold(store, f"govern {problem.NAME}", settings.lease_seconds) as lease:
        answer = may_train(store.history(problem.NAME), need, settings.retraining, now)
        facts = {"cause": need.cause, "figures": answer.figures, "refused_by": answer.refused_by}
        if order:  # the pass that it rests on is answered by this line
            facts |= {"order": order, "window_end": order["evidence"].get("window_end")}
        change = Change(settings.who, ALLOWED if answer.allowed else REFUSED, answer.reason, now, facts)
        store.record(problem.NAME, change, lease=lease)
    store.close()
    return answer


def overrule(settings: Settings, order: dict[str, Any]) -> None:
    """A person orders a training: no rule forbids it, but it counts against the budget of the automatic ones."""
    store = Store(settings.operations)
    facts = {"cause": order["trigger"], "order": order}
    store.record(problem.NAME, Change(settings.who, ALLOWED, order["reason"], clock.now(settings), facts))
    store.close()


def reset(settings: Settings, reason: str) -> None:
    """A person has looked at what was rejected or rolled back: trainings and rollouts may start again by themselves."""
    store = Store(settings.operations)
    store.record(problem.NAME, Change(settings.who, RESET, reason, clock.now(settings), {}))
    store.close()


def dollars_lost(y: np.ndarray, p: np.ndarray) -> float | None:
    """Dollars a prediction that the decisions cost beyond what the scores promised; None for a regression.

    `problem.COSTS` names first the price of a miss, then that of a needless action. Scores that were right
    on average would cost exactly what they promise, so the excess is what a better model can win back.
    """
    if problem.TASK != "classification" or not len(y):
        return None
    miss, needless = list(problem.COSTS.values())[:2]
    acts = np.array([problem.choose_action(score) != problem.choose_action(0.0) for score in p])
    promised = np.where(acts, (1 - p) * needless, p * miss)
    paid = np.where(acts, (1 - y) * needless, y * miss)
    return float((paid - promised).mean())
