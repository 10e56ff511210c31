"""The next action of the control loop: a pure function of the situation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from level1_pipeline.store.audit import Order
from level1_pipeline.store.audit_queries import answering, candidates_tried, open_order, was_answered
from level2_cicd.control_loop.situation import Situation
from level2_cicd.control_loop.triggers import BY_HAND
from monitoring.results import MonitoringRun

Kind = Literal["nothing", "advance", "train", "start", "ask", "roll back", "switch back", "quarantine", "note"]


@dataclass(frozen=True)
class NextAction:
    """One action, why, and what it is about."""

    kind: Kind
    reason: str = ""
    version: str | None = None  # to roll out, or to go back to
    order: Order | None = None  # to train for
    run: MonitoringRun | None = None  # that asks for a training, or to go back
    evidence: dict[str, Any] = field(default_factory=dict)


def next_action(now: Situation) -> NextAction:
    """The first line that applies: a bad release is taken back at once, which ends a rollout, too; then what
    was begun is finished before anything new begins."""
    order, challenger, run = open_order(now.log), now.route.challenger, _unanswered(now)
    if run and run.diagnosis.action == "roll back":
        return _answer(run)
    if now.rolling:
        return NextAction("advance")
    if order and (order.trigger in BY_HAND or not now.data_broken):
        return NextAction("train", order.reason, order=order)
    if challenger and not now.route.mode and challenger not in candidates_tried(now.log):
        return NextAction("start", f"version {challenger} passed the gate", challenger)
    return _answer(run) if run else NextAction("nothing")


def _unanswered(now: Situation) -> MonitoringRun | None:
    """The newest monitoring run, if it is about the champion that serves and nobody has acted on it."""
    run = now.newest
    if run is None or run.champion != now.route.champion or was_answered(now.log, run.window.end):
        return None
    return run


def _answer(run: MonitoringRun) -> NextAction:
    diagnosis, evidence = run.diagnosis, answering(run.window.end, run.diagnosis.cause)
    match diagnosis.action:
        case "retrain":
            return NextAction("ask", diagnosis.message, run=run, evidence=evidence)
        case "roll back" | "switch back" if diagnosis.version:
            return NextAction(diagnosis.action, diagnosis.message, diagnosis.version, run=run, evidence=evidence)
        case "quarantine" | "note":
            return NextAction(diagnosis.action, diagnosis.message, evidence=evidence)
    return NextAction("nothing")
