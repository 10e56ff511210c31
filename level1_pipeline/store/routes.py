"""What is served: the versions of a route by arm, and the share of the traffic that the challenger answers."""

from __future__ import annotations

from dataclasses import dataclass

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"  # arms: who answered, as the prediction log says


@dataclass(frozen=True)
class Route:
    """The only truth about what is served: one row in the store for each problem."""

    champion: str | None = None
    challenger: str | None = None
    mode: str | None = None  # of the challenger: shadow or canary
    share: float = 0.0
    previous: str | None = None  # where a rollback leads
