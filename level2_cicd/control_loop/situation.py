"""The situation of the control loop: everything that its next action depends on, as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from level1_pipeline import problem
from level1_pipeline.store.audit import Line
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from monitoring import history
from monitoring.results import FAULTS, MonitoringRun


@dataclass(frozen=True)
class Situation:
    """What is served, what was begun, what was done, and what the monitoring says."""

    route: Route
    rolling: bool  # a rollout is going on
    log: list[Line]  # the audit log, oldest first
    newest: MonitoringRun | None

    @property
    def data_broken(self) -> bool:
        """Whether the newest monitoring run says that inputs or labels are at fault: nothing may be learned from them."""
        return self.newest is not None and self.newest.diagnosis.cause in FAULTS


def read(store: Store, now: datetime) -> Situation:
    """The situation at `now`, on the clock of decisions."""
    rolling = store.rollout(problem.NAME) is not None
    return Situation(store.route(problem.NAME), rolling, store.audit_log(problem.NAME), history.newest(store, now))
