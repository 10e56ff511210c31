"""What a person may say about the rollout that is going on: approve, reject, stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from level1_pipeline.errors import NoRollout
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.audit import RolloutApproved, RolloutRejected, RolloutStopped
from level2_cicd.rollout.advance import look_again
from level2_cicd.rollout.record import Writer
from level2_cicd.rollout.state_machine import STOPPED, Decision
from level2_cicd.rollout.states import ROLLED_BACK, Step


@contextmanager
def _writer(settings: Settings, now: datetime) -> Iterator[Writer]:
    """A person waits for nobody: the lease is taken over from a process that hangs."""
    registry = Registry(settings)
    with registry.promotion(urgent=True) as lease:
        yield Writer(registry, lease, now)


def approve(settings: Settings, version: str, step: str, reason: str, now: datetime | None = None) -> Decision | None:
    """A person agrees to the step that waits (or lets a stopped rollout go on); alarms still count.

    Returns None when the approval is recorded and another process acts on the rollout: the loop takes the step.

    Args:
        settings: of the home.
        version: the candidate that the person means: meanwhile another one may wait.
        step: that the person agrees to, as `rollout status` prints it; spaces do not count.
        reason: for the audit log.
        now: on the clock of decisions.

    Raises:
        NoRollout: nothing waits for a person, or something else does; nothing was approved.
    """
    now = now or clock.now(settings)
    with _writer(settings, now) as writer:
        rollout = writer.current()
        if not rollout.waiting:
            raise NoRollout(f"version {rollout.version} ({rollout.step.state}) waits for nobody; see: rollout status")
        if (version, _without_spaces(step)) != (rollout.version, _without_spaces(rollout.waiting)):
            raise NoRollout(
                f"what waits is version {rollout.version}, step '{rollout.waiting}', and not version {version}, step "
                f"'{step}', so nothing was approved; see: rollout status"
            )
        step = rollout.waiting
        approved = (*rollout.approved, *(() if step == STOPPED else (step,)))
        action = RolloutApproved(rollout.version, step)
        writer.write(replace(rollout, waiting=None, approved=approved), action, reason)
    return look_again(settings, now)


def _without_spaces(step: str) -> str:
    return "".join(step.split())


def reject(settings: Settings, reason: str, now: datetime | None = None) -> Decision:
    """A person ends the rollout. Raises NoRollout when there is none."""
    decision = Decision("roll back", Step(ROLLED_BACK), "fail", reason)
    with _writer(settings, now or clock.now(settings)) as writer:
        rollout = writer.current()
        writer.move(rollout, decision, RolloutRejected(rollout.version))
    return decision


def stop(settings: Settings, reason: str, now: datetime | None = None) -> None:
    """Keep the rollout where it is until a person approves or rejects; alarms go on. Raises NoRollout."""
    with _writer(settings, now or clock.now(settings)) as writer:
        rollout = writer.current()
        writer.write(replace(rollout, waiting=STOPPED), RolloutStopped(rollout.version), reason)
