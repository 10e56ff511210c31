"""What comes next?  One pure function from what is stored to the one step that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from level1_pipeline.store import Route
from level2_cicd.governor import ALLOWED
from level2_cicd.triggers import Order
from monitoring.findings import Pass

Kind = Literal["nothing", "advance", "train", "start", "ask", "roll back", "switch back", "quarantine", "note"]
STARTED = "rollout: start"


@dataclass(frozen=True)
class Situation:
    """Everything that the next step depends on."""

    route: Route
    rolling: bool  # a rollout is going on
    history: list[dict[str, Any]]  # the audit log, oldest first
    newest: Pass | None  # of the monitoring


@dataclass(frozen=True)
class Next:
    """One step, why, and what it is about."""

    kind: Kind
    reason: str = ""
    version: str | None = None
    order: Order | None = None
    found: Pass | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def next_step(now: Situation) -> Next:
    """The first line that applies: what was begun is finished before anything new begins."""
    order, named, found = unfinished(now.history), now.route.challenger, now.newest
    if now.rolling:
        return Next("advance")
    if order:
        return Next("train", order.reason, order=order)
    if named and named not in _tried(now.history):
        return Next("start", f"version {named} passed the gate", named)
    if found is None or found.champion != now.route.champion or _answered(now.history, found):
        return Next("nothing")
    return _for(found)


def _for(found: Pass) -> Next:
    said, evidence = found.diagnosis, about(found)
    match said.action:
        case "retrain":
            return Next("ask", said.words, found=found, evidence=evidence)
        case "roll back" | "switch back" if said.version:
            return Next(said.action, said.words, said.version, evidence=evidence)
        case "quarantine" | "note":
            return Next(said.action, said.words, evidence=evidence)
    return Next("nothing")


def about(found: Pass) -> dict[str, Any]:
    """What an audit line says about the pass that led to it."""
    return {"window_end": found.window.end.isoformat(), "cause": found.diagnosis.cause}


def unfinished(history: list[dict[str, Any]]) -> Order | None:
    """A training that was allowed and has left no line about its end: it was killed, or has not begun."""
    order = None
    for line in history:
        if line["action"] == ALLOWED and line["evidence"].get("order"):
            order = Order(**line["evidence"]["order"])
        elif line["action"].startswith("train: "):
            order = None
    return order


def _tried(history: list[dict[str, Any]]) -> set[str]:
    return {line["evidence"]["candidate"] for line in history if line["action"] == STARTED}


def _answered(history: list[dict[str, Any]], found: Pass) -> bool:
    end = found.window.end.isoformat()
    return any(line["evidence"].get("window_end") == end for line in history)
