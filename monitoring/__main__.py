"""python -m monitoring: run, outcomes, tickets, forget, retain, ui."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.settings import Settings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m monitoring", description="What is going on, and what to do.")
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="one pass over the last window: report, tickets, figures for Prometheus")
    run.add_argument("--days", type=int, default=7, metavar="N", help="length of the window in whole days (default: 7)")
    run.add_argument("--no-snapshot", action="store_true", help="leave out Evidently's view of the columns (seconds)")

    outcomes = commands.add_parser("outcomes", help="take in what really happened, from a file")
    outcomes.add_argument("file", type=Path, help=".csv or .parquet with id, value and, if wanted, known_at")

    tickets = commands.add_parser("tickets", help="the open tickets, or one of them in full")
    tickets.add_argument("number", type=int, nargs="?", help="of the ticket to read")

    forget = commands.add_parser("forget", help="delete every row of one entity, everywhere")
    forget.add_argument("--entity", required=True, help=f"its {problem.ENTITY}, as in the requests")
    commands.add_parser("retain", help="delete what is older than MLOPS_RETENTION_DAYS (each pass does it, too)")
    commands.add_parser("ui", help="the dashboards of Evidently, MLflow and Prefect on 127.0.0.1, until Ctrl-C")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (docs/monitoring-operations.md lists them)."""
    asked = parser().parse_args(arguments)
    settings = Settings().prepare()
    from monitoring import commands

    try:
        return getattr(commands, asked.command)(settings, asked)
    except (KeyError, IndexError):  # a LookupError that nobody meant is a fault of ours: with its traceback
        raise
    except commands.EXPECTED as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
