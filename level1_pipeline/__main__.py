"""python -m level1_pipeline: check-problem, train, watch, schedule, score, promote, rollback, history."""

from __future__ import annotations

import sys

from level1_pipeline.environment import start

if __name__ == "__main__":
    sys.exit(start("level1_pipeline.cli"))
