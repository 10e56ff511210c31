"""The rules of a rollout, built once from Settings: shares, minimum samples, alarms, and who must agree."""

from __future__ import annotations

from dataclasses import dataclass

from level1_pipeline.settings import APPROVALS, Settings, growing, words

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


@dataclass(frozen=True)
class RolloutPolicy:
    """What a rollout demands. The defaults are those of Settings (docs/rollout.md says why)."""

    shares: tuple[float, ...] = (0.05, 0.25, 0.5)
    canary_hours: float = 24.0
    canary_max_days: float = 7.0
    shadow_days: int = 3
    shadow_max_days: float = 14.0
    min_requests: int = 500
    step_requests: int = 100
    min_outcomes: int = 100
    max_error_rate: float = 0.001
    max_slowdown: float = 3.0
    max_shift: float = 1.0
    approvals: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> RolloutPolicy:
        """The policy that the settings describe."""
        same = {name: getattr(settings, name) for name in cls.__dataclass_fields__ if hasattr(settings, name)}
        asked = words(settings.approvals, APPROVALS)
        steps = set(APPROVALS) - {"all"} if "all" in asked else asked
        return cls(**{**same, "shares": growing(settings.canary_shares), "approvals": frozenset(steps)})

    def after(self, step: Step) -> Step:
        """The step that follows. Raises ValueError when the canary's share is none of the policy's."""
        if step.state == CANARY:
            bigger = [share for share in self.shares if share > step.share]
            return Step(CANARY, bigger[0]) if bigger else Step(BAKE, step.share)
        following = {
            REGISTERED: Step(BLESSED),
            BLESSED: Step(SHADOW),
            SHADOW: Step(CANARY, self.shares[0]),
            BAKE: Step(CHAMPION),
        }
        return following[step.state]
