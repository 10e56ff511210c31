"""python -m level1_pipeline: train, watch, schedule, score, promote, rollback, history."""

from __future__ import annotations

import sys

from level1_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
