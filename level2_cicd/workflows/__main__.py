"""python -m level2_cicd.workflows: see `level2_cicd/workflows/cli.py`."""

from __future__ import annotations

import sys

from level1_pipeline.environment import start

if __name__ == "__main__":
    sys.exit(start("level2_cicd.workflows.cli"))
