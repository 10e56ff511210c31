"""What comes next?  One pure function from what is stored to the one step that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from level1_pipeline.store.audit import ALLOWED, RESET
from level2_cicd.control_loop.situation import BLOCKING, BY_HAND, Order, Situation
from monitoring.results import MonitoringRun

Kind = Literal["nothing", "advance", "train", "start", "ask", "roll back", "switch back", "quarantine", "note"]
STARTED, REFUSED = "rollout: start", "operate: refused"


@dataclass(frozen=True)
class NextAction:
    """One step, why, and what it is about."""

    kind: Kind
    reason: str = ""
    version: str | None = None
    order: Order | None = None
    found: MonitoringRun | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def next_action(now: Situation) -> NextAction:
    """The first line that applies: a bad release is taken back at once, which ends a rollout, too; then what
    was begun is finished before anything new begins."""
    order, named, found = unfinished(now.history), now.route.challenger, _unanswered(now)
    if found and found.diagnosis.action == "roll back":
        return _for(found)
    if now.rolling:
        return NextAction("advance")
    if order and (order.trigger in BY_HAND or not _broken(now.newest)):
        return NextAction("train", order.reason, order=order)
    if named and not now.route.mode and named not in _tried(now.history):
        return NextAction("start", f"version {named} passed the gate", named, evidence={"candidate": named})
    return _for(found) if found else NextAction("nothing")


def _unanswered(now: Situation) -> MonitoringRun | None:
    """The newest pass, if it is about the champion that serves and nobody has acted on it."""
    found = now.newest
    if found is None or found.champion != now.route.champion or _answered(now.history, found):
        return None
    return found


def _broken(found: MonitoringRun | None) -> bool:
    return found is not None and found.diagnosis.cause == BLOCKING


def _for(found: MonitoringRun) -> NextAction:
    said, evidence = found.diagnosis, about(found)
    match said.action:
        case "retrain":
            return NextAction("ask", said.message, found=found, evidence=evidence)
        case "roll back" | "switch back" if said.version:
            return NextAction(said.action, said.message, said.version, evidence=evidence)
        case "quarantine" | "note":
            return NextAction(said.action, said.message, evidence=evidence)
    return NextAction("nothing")


def about(found: MonitoringRun) -> dict[str, Any]:
    """What an audit line says about the pass that led to it."""
    return {"window_end": found.window.end.isoformat(), "cause": found.diagnosis.cause}


def unfinished(history: list[dict[str, Any]]) -> Order | None:
    """The oldest order that was allowed and has left no line about its end: it was killed, or has not begun."""
    waiting: dict[str, Order] = {}
    for line in history:
        said = line["evidence"].get("order")
        if line["action"] == ALLOWED and said:
            waiting[said["id"]] = Order(**said)
        elif line["action"].startswith("train: ") and said:
            waiting.pop(said, None)
    return next(iter(waiting.values()), None)


def champions(history: list[dict[str, Any]]) -> list[str]:
    """Every version that has served as champion, the newest first."""
    served = [line["evidence"]["route_after"]["champion"] for line in history if "route_after" in line["evidence"]]
    return list(dict.fromkeys(version for version in reversed(served) if version))


def _tried(history: list[dict[str, Any]]) -> set[str]:
    """Candidates whose rollout was started, or could not be since a person last looked."""
    started, refused = set[str](), set[str]()
    for line in history:
        if line["action"] == RESET:
            refused.clear()
        elif line["action"] in (STARTED, REFUSED) and "candidate" in line["evidence"]:
            (started if line["action"] == STARTED else refused).add(line["evidence"]["candidate"])
    return started | refused


def _answered(history: list[dict[str, Any]], found: MonitoringRun) -> bool:
    end = found.window.end.isoformat()
    return any(line["evidence"].get("window_end") == end for line in history)
