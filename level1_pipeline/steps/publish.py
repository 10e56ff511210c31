"""Step 8: the bundle is put where the service finds it and, if asked for, the route changes (`Registry`)."""

from __future__ import annotations

from dataclasses import dataclass

from level1_pipeline.steps.evaluate import Evaluated
from level1_pipeline.steps.register import Registered
from level1_pipeline.steps.step import Run, StepResult, step


@dataclass(frozen=True, kw_only=True)
class Published(StepResult):
    """Under which alias the version is served."""

    alias: str | None

    @property
    def message(self) -> str:
        """The alias."""
        return self.alias or "no alias"


@step
def publish(run: Run, evaluated: Evaluated, registered: Registered) -> Published:
    """Publish the version that was registered, if there is one, and promote it as the run was asked to."""
    registry, version = run.registry, registered.version
    if version is None:
        return Published(alias=None)
    registry.publish(version)
    if run.promote_to == "none":
        return Published(alias=None)
    evidence = {"run_id": registered.run_id, "metrics": evaluated.metrics}
    reason = run.reason or f"{run.trigger}: passed the gate as of {run.day}"
    registry.promote(version, run.promote_to, reason, evidence, judged_against=evaluated.champion)
    return Published(alias=run.promote_to)
