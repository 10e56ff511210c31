"""The states of a rollout and their order. Its rules are the group `rollout` of the settings."""

from __future__ import annotations

from dataclasses import dataclass

from level1_pipeline.settings import RolloutPolicy

REGISTERED, BLESSED, SHADOW, CANARY, BAKE, CHAMPION, ROLLED_BACK = (
    "registered",
    "blessed",
    "shadow",
    "canary",
    "bake",
    "champion",
    "rolled back",
)
ALARMS = ("errors", "latency", "distribution", "harm")  # all of them watch every canary


@dataclass(frozen=True)
class Step:
    """One state of a rollout, with the share of the traffic that the candidate answers in it."""

    state: str
    share: float = 0.0

    def __str__(self) -> str:
        """As people say it: `canary 25 %`."""
        return f"{self.state} {self.share:.0%}".replace("%", " %") if self.state in (CANARY, BAKE) else self.state


def following(step: Step, policy: RolloutPolicy) -> Step:
    """The step that comes after one."""
    if step.state == CANARY:
        bigger = [share for share in policy.canary_shares if share > step.share]
        return Step(CANARY, bigger[0]) if bigger else Step(BAKE, step.share)
    after = {
        REGISTERED: Step(BLESSED),
        BLESSED: Step(SHADOW),
        SHADOW: Step(CANARY, policy.canary_shares[0]),
        BAKE: Step(CHAMPION),
    }
    return after[step.state]
