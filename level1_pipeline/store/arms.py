"""TODO docstring."""

from __future__ import annotations

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
