"""python -m level2_cicd.workflows: see `level2_cicd/workflows/cli.py`."""

from __future__ import annotations

import sys

from level2_cicd.workflows.cli import main

if __name__ == "__main__":
    sys.exit(main())
