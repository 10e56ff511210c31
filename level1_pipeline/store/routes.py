"""What is served: the versions of a route by arm, and the share of the traffic that the challenger answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Arms: who answered, as the prediction log says. Of files, `batch`.
CHAMPION, CANARY, SHADOW, BATCH = "champion", "canary", "shadow", "batch"


@dataclass(frozen=True)
class Route:
    """What is to be served: one row in the store for each problem, with the checksum of each version in it."""

    champion: str | None = None
    challenger: str | None = None
    mode: str | None = None  # of the challenger: shadow or canary
    share: float = 0.0
    previous: str | None = None  # where a rollback leads
    checksums: Mapping[str, str] = field(default_factory=dict, compare=False)  # of these versions: what they are

    @property
    def versions(self) -> set[str]:
        """All that it names."""
        return {version for version in (self.champion, self.challenger, self.previous) if version}
