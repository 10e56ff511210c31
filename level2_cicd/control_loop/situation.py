"""TODO docstring."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from level1_pipeline.store.routes import Route
from monitoring.results import MonitoringRun

if TYPE_CHECKING:
    from monitoring.results import MonitoringRun


@dataclass(frozen=True)
class Situation:
    """Everything that the next step depends on."""

    route: Route
    rolling: bool  # a rollout is going on
    history: list[dict[str, Any]]  # the audit log, oldest first
    newest: MonitoringRun | None  # of the monitoring


BY_HAND = ("on demand", "release")
BLOCKING = "data fault"


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
