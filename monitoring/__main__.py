"""python -m monitoring: see `monitoring/cli.py`."""

from __future__ import annotations

import sys

from level1_pipeline.environment import start

if __name__ == "__main__":
    sys.exit(start("monitoring.cli"))
