"""python -m serving: run, route, key, score, batch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from level1_pipeline.environment import start


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 with the reason on standard error."""
    from level1_pipeline import command_line
    from serving.cli import app

    return command_line.run(app, "python -m serving", arguments)


if __name__ == "__main__":
    sys.exit(start("serving.__main__"))
