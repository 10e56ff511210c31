"""The states of a rollout and their order. Its rules are the group `rollout` of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.store.routes import CANARY, CHAMPION, SHADOW

REGISTERED, BLESSED, BAKE, ROLLED_BACK = "registered", "blessed", "bake", "rolled back"


@dataclass(frozen=True)
class Step:
    """One state of a rollout, with the share of the traffic that the candidate answers in it."""

    state: str
    share: float = 0.0

    def __str__(self) -> str:
        """As people say it: `canary 25 %`."""
        return f"{self.state} {self.share:.0%}".replace("%", " %") if self.state in (CANARY, BAKE) else self.state


def following(step: Step, policy: RolloutPolicy) -> Step:
    """The step that comes after `step`."""
    if step.state == CANARY:
        larger = [share for share in policy.canary_shares if share > step.share]
        return Step(CANARY, larger[0]) if larger else Step(BAKE, step.share)
    return {
        REGISTERED: Step(BLESSED),
        BLESSED: Step(SHADOW),
        SHADOW: Step(CANARY, policy.canary_shares[0]),
        BAKE: Step(CHAMPION),
    }[step.state]


__all__ = ["BAKE", "BLESSED", "CANARY", "CHAMPION", "REGISTERED", "ROLLED_BACK", "SHADOW", "Step", "following"]
