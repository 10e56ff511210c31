"""TODO docstring."""

from __future__ import annotations

RESET = "governor: reset"
ALLOWED, REFUSED = "governor: allowed", "governor: refused"
