"""The lines of the audit log, typed: one dataclass for each action, whose fields are what code asks about later.

No other module writes or compares its text. Lines are append-only; those of an earlier release count as the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
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


ACTIONS: dict[str, type[Action]] = {}  # every kind by its text


@dataclass(frozen=True)
class Action:
    """What was done. `text` is how the log names it; a field in braces is part of the text, not of the evidence."""

    text: ClassVar[str] = ""

    def __init_subclass__(cls, text: str = "") -> None:
        """Enter the kind into ACTIONS, unless it only has what several kinds share."""
        cls.text = text
        if text:
            ACTIONS[text] = cls


@dataclass(frozen=True)
class Promoted(Action, text="promote to {alias}"):
    """A version was made champion, or named challenger."""

    alias: str = ""


class RolledBack(Action, text="roll back"):
    """An earlier champion serves again."""


@dataclass(frozen=True)
class ClockSet(Action, text="clock: {kind}"):
    """A person let the home live by another clock."""

    kind: str = ""


class BundleRepaired(Action, text="repair bundle"):
    """A damaged bundle was brought back from a copy with the same content."""


@dataclass(frozen=True)
class TrustedSetFrozen(Action, text="trusted set: frozen"):
    """Labels that a person has confirmed were written apart from the source, for good."""

    span: str = ""  # of days
    labels: str = ""  # their digest
    sha256: str = ""  # of the file


@dataclass(frozen=True)
class RouteSet(Action, text="route: {mode}"):
    """A person gave a challenger traffic, or took it back."""

    mode: str = ""


@dataclass(frozen=True)
class Training(Action):
    """A training ended. The subclasses say how."""

    as_of: str | None = None  # ISO time
    seconds: float | None = None
    order: str | None = None  # id of the order that it carried out


@dataclass(frozen=True)
class TrainingJudged(Training, text="train: gate {status}"):
    """It made a model, and the gate gave its verdict."""

    status: str = ""
    run_id: str | None = None


class TrainingStopped(Training, text="train: stopped"):
    """The data were not good enough to make a model."""


class TrainingCrashed(Training, text="train: crashed"):
    """The process ended without a verdict."""


@dataclass(frozen=True)
class TrainingAllowed(Action, text="retraining budget: allowed"):
    """The retraining budget (or a person, who is not bound by it) allows an order."""

    order: Order | None = None


@dataclass(frozen=True)
class TrainingRefused(Action, text="retraining budget: refused"):
    """The retraining budget refuses an order."""

    order: Order | None = None


@dataclass(frozen=True)
class Recalibrated(Action, text="recalibrate: gate {status}"):
    """An offset was fitted for the scores of the champion, and the gate gave its verdict."""

    status: str = ""
    parent: str | None = None  # the version whose scores it moves


class BudgetReset(Action, text="retraining budget: reset"):
    """A person has looked: trainings and rollouts may start again by themselves."""


@dataclass(frozen=True)
class Rollout(Action):
    """Something happened in the rollout of a candidate. The subclasses say what."""

    candidate: str = ""


@dataclass(frozen=True)
class RolloutStarted(Rollout, text="rollout: start"):
    """It begins."""

    automatic: bool = False  # else a person began it


@dataclass(frozen=True)
class RolloutMoved(Rollout, text="rollout: {step}"):
    """It goes to another step; `champion` and `rolled back` are the last ones."""

    step: str = ""


class RolloutWaits(Rollout, text="rollout: waits for a person"):
    """The next step needs a person."""


@dataclass(frozen=True)
class RolloutApproved(Rollout, text="rollout: approved"):
    """A person agrees to the step that waits."""

    step: str = ""


class RolloutStopped(Rollout, text="rollout: stop"):
    """A person keeps it in its step."""


class RolloutRejected(Rollout, text="rollout: rejected"):
    """A person ends it."""


class RolloutEndedByHand(Rollout, text="rollout: ended by hand"):
    """A person changed the route, which ends it."""


class DataQuarantined(Action, text="control loop: quarantine"):
    """The control loop sets apart rows, or labels, with a fault."""


class FindingNoted(Action, text="control loop: note"):
    """The control loop takes note of a finding that needs nothing else."""


@dataclass(frozen=True)
class StepRefused(Action, text="control loop: refused"):
    """The control loop could not take a step, and leaves it to a person."""

    candidate: str | None = None  # whose rollout could not start


class QuarantineLifted(Action, text="lift quarantine"):
    """A person found no fault in rows, or labels, that had been set apart."""


@dataclass(frozen=True)
class EntityForgotten(Action, text="forget"):
    """Everything about one entity was deleted."""

    entity_sha256: str = ""


class OldRowsDeleted(Action, text="retain"):
    """Predictions and outcomes beyond their retention were deleted."""


class HomeMaintained(Action, text="maintain home"):
    """It was pruned, or restored from the `archive` in the evidence: lines that came after that are gone."""


@dataclass(frozen=True)
class Unrecognised(Action, text="{name}"):
    """An action that this release does not know. It fits every text, so it is the last entry of ACTIONS."""

    name: str = ""


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
