"""The lines of the audit log, typed: one dataclass for each action.

No other module writes, reads or compares the text of an action; `audit_queries` answers questions about the log.
The stored lines are append-only: lines with the words of an earlier release stay as they are, and are read as the
same actions. The fields of an action are what code asks about later. Everything else that a change rests on is in
its `evidence`, for people to read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar
from uuid import uuid4

from level1_pipeline.store.routes import Route


@dataclass(frozen=True)
class Order:
    """A training that somebody or something asks for. JSON-ready: it lies in the audit log until it is done."""

    trigger: str
    reason: str
    as_of: str  # ISO time
    evidence: dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid4().hex)  # the line about its training names it

    def as_dict(self) -> dict[str, Any]:
        """For the audit log."""
        return asdict(self)


@dataclass(frozen=True)
class Action:
    """What was done. `text` is how the log names it; a field in braces is part of the text, not of the evidence."""

    text: ClassVar[str] = ""


@dataclass(frozen=True)
class Unrecognised(Action):
    """An action that this release does not know."""

    text: ClassVar[str] = "{name}"
    name: str = ""


@dataclass(frozen=True)
class Promoted(Action):
    """A version was made champion, or named challenger."""

    text: ClassVar[str] = "promote to {alias}"
    alias: str = ""


@dataclass(frozen=True)
class RolledBack(Action):
    """An earlier champion serves again."""

    text: ClassVar[str] = "roll back"


@dataclass(frozen=True)
class RouteSet(Action):
    """A person gave a challenger traffic, or took it back."""

    text: ClassVar[str] = "route: {mode}"
    mode: str = ""


@dataclass(frozen=True)
class Training(Action):
    """A training ended. The subclasses say how."""

    as_of: str | None = None  # ISO time
    seconds: float | None = None
    order: str | None = None  # id of the order that it carried out


@dataclass(frozen=True)
class TrainingJudged(Training):
    """It made a model, and the gate gave its verdict."""

    text: ClassVar[str] = "train: gate {status}"
    status: str = ""
    run_id: str | None = None


@dataclass(frozen=True)
class TrainingStopped(Training):
    """The data were not good enough to make a model."""

    text: ClassVar[str] = "train: stopped"


@dataclass(frozen=True)
class TrainingCrashed(Training):
    """The process ended without a verdict."""

    text: ClassVar[str] = "train: crashed"


@dataclass(frozen=True)
class TrainingAllowed(Action):
    """The retraining budget (or a person, who is not bound by it) allows an order."""

    text: ClassVar[str] = "retraining budget: allowed"
    order: Order | None = None


@dataclass(frozen=True)
class TrainingRefused(Action):
    """The retraining budget refuses an order."""

    text: ClassVar[str] = "retraining budget: refused"
    order: Order | None = None


@dataclass(frozen=True)
class BudgetReset(Action):
    """A person has looked: trainings and rollouts may start again by themselves."""

    text: ClassVar[str] = "retraining budget: reset"


@dataclass(frozen=True)
class Rollout(Action):
    """Something happened in the rollout of a candidate. The subclasses say what."""

    candidate: str = ""


@dataclass(frozen=True)
class RolloutStarted(Rollout):
    """It begins."""

    text: ClassVar[str] = "rollout: start"
    automatic: bool = False  # else a person began it


@dataclass(frozen=True)
class RolloutMoved(Rollout):
    """It goes to another step; `champion` and `rolled back` are the last ones."""

    text: ClassVar[str] = "rollout: {step}"
    step: str = ""


@dataclass(frozen=True)
class RolloutWaits(Rollout):
    """The next step needs a person."""

    text: ClassVar[str] = "rollout: waits for a person"


@dataclass(frozen=True)
class RolloutApproved(Rollout):
    """A person agrees to the step that waits."""

    text: ClassVar[str] = "rollout: approved"
    step: str = ""


@dataclass(frozen=True)
class RolloutStopped(Rollout):
    """A person keeps it in its step."""

    text: ClassVar[str] = "rollout: stop"


@dataclass(frozen=True)
class RolloutRejected(Rollout):
    """A person ends it."""

    text: ClassVar[str] = "rollout: rejected"


@dataclass(frozen=True)
class RolloutEndedByHand(Rollout):
    """A person changed the route, which ends it."""

    text: ClassVar[str] = "rollout: ended by hand"


@dataclass(frozen=True)
class DataQuarantined(Action):
    """The control loop sets apart rows with a data fault."""

    text: ClassVar[str] = "control loop: quarantine"


@dataclass(frozen=True)
class FindingNoted(Action):
    """The control loop takes note of a finding that needs nothing else."""

    text: ClassVar[str] = "control loop: note"


@dataclass(frozen=True)
class StepRefused(Action):
    """The control loop could not take a step, and leaves it to a person."""

    text: ClassVar[str] = "control loop: refused"
    candidate: str | None = None  # whose rollout could not start


@dataclass(frozen=True)
class QuarantineLifted(Action):
    """A person found no fault in rows that had been set apart."""

    text: ClassVar[str] = "lift quarantine"


@dataclass(frozen=True)
class EntityForgotten(Action):
    """Everything about one entity was deleted."""

    text: ClassVar[str] = "forget"
    entity_sha256: str = ""


@dataclass(frozen=True)
class OldRowsDeleted(Action):
    """Predictions and outcomes beyond their retention were deleted."""

    text: ClassVar[str] = "retain"


ACTIONS: dict[str, type[Action]] = {
    kind.text: kind
    for kind in (
        *(Promoted, RolledBack, RouteSet),
        *(TrainingJudged, TrainingStopped, TrainingCrashed),
        *(TrainingAllowed, TrainingRefused, BudgetReset),
        *(RolloutStarted, RolloutMoved, RolloutWaits, RolloutApproved),
        *(RolloutStopped, RolloutRejected, RolloutEndedByHand),
        *(DataQuarantined, FindingNoted, StepRefused),
        *(QuarantineLifted, EntityForgotten, OldRowsDeleted),
        Unrecognised,  # the last: it fits every text
    )
}
FORMER = {"governor: ": "retraining budget: ", "operate: ": "control loop: "}  # beginnings of texts in earlier releases


@dataclass(frozen=True)
class Change:
    """A line to be written: who did what, why, when on the clock of decisions, and what it rests on."""

    actor: str
    action: Action
    reason: str
    at: datetime
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line as it is stored."""

    id: int
    at: datetime  # on the clock of decisions
    recorded_at: datetime  # wall time
    actor: str
    action: Action
    text: str  # of the action, as stored
    reason: str
    from_version: str | None  # the champion before and after; `to_version` is also the version that a training made
    to_version: str | None
    evidence: dict[str, Any]

    @property
    def route(self) -> Route | None:
        """What was served from here on; None if the line is not about the route."""
        return Route(**self.evidence["route_after"]) if "route_after" in self.evidence else None


def parse(text: str, evidence: dict[str, Any]) -> Action:
    """The action of a stored line. A field that an older line does not have keeps its default."""
    kind, inside = _kind(text)
    values = evidence | inside
    if isinstance(values.get("order"), dict):
        values["order"] = Order(**values["order"])
    return kind(**{part.name: values[part.name] for part in fields(kind) if part.name in values})


def read_line(problem: str, action: str, evidence: dict[str, Any], **columns: Any) -> Line:
    """A line from its columns in the store."""
    return Line(action=parse(action, evidence), text=action, evidence=evidence, **columns)


def _kind(text: str) -> tuple[type[Action], dict[str, str]]:
    """The kind of an action, and the field whose value is a part of the text."""
    for former, prefix in FORMER.items():
        if text.startswith(former):
            text = prefix + text.removeprefix(former)
    if text in ACTIONS:
        return ACTIONS[text], {}
    for kind in ACTIONS.values():
        prefix, brace, name = kind.text.rstrip("}").partition("{")
        if brace and text.startswith(prefix):
            break
    return kind, {name: text.removeprefix(prefix)}


def columns(change: Change) -> dict[str, Any]:
    """A change as it is stored: the inverse of `parse`."""
    values = asdict(change.action)
    text = change.action.text.format(**values)
    inside = {name: value for name, value in values.items() if f"{{{name}}}" not in change.action.text}
    evidence = change.evidence | {name: value for name, value in inside.items() if value is not None}
    return {"actor": change.actor, "action": text, "reason": change.reason, "at": change.at, "evidence": evidence}
