"""python -m level2_cicd: see `level2_cicd/cli.py`."""

from __future__ import annotations

import sys

from level2_cicd.cli import main

if __name__ == "__main__":
    sys.exit(main())
