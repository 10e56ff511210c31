"""python -m monitoring: run, outcomes, tickets, quarantine, forget, retain, ui."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from monitoring.thresholds import WINDOW_DAYS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m monitoring", description="What is going on, and what to do.")
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="one pass over the last window: report, tickets, figures for Prometheus")
    message = f"length of the window in whole days (default: {WINDOW_DAYS}); another one is a look, which leaves only its report"
    run.add_argument("--days", type=_number, default=WINDOW_DAYS, metavar="N", help=message)
    run.add_argument("--no-snapshot", action="store_true", help="leave out Evidently's view of the columns (seconds)")

    outcomes = commands.add_parser("outcomes", help="take in what really happened, from a file")
    outcomes.add_argument("file", type=Path, help=".csv or .parquet with id, value and, if wanted, known_at")

    tickets = commands.add_parser("tickets", help="the open tickets, or one of them in full")
    tickets.add_argument("number", type=int, nargs="?", help="of the ticket to read")

    quarantine = commands.add_parser("quarantine", help="the rows that data faults set apart, and how to lift that")
    quarantine.add_argument("--lift", type=_number, metavar="NUMBER", help="of the span whose rows shall count again")
    quarantine.add_argument("--reason", help="why it was no fault, for the audit log")

    forget = commands.add_parser("forget", help="delete every row of one entity, everywhere")
    forget.add_argument("--entity", required=True, help=f"its {problem.ENTITY}, as in the requests")
    commands.add_parser("retain", help="delete what is older than MLOPS_RETENTION_DAYS (each pass does it, too)")
    commands.add_parser("ui", help="the dashboards of Evidently, MLflow and Prefect on 127.0.0.1, until Ctrl-C")
    return top


def _number(text: str) -> int:
    """A whole number from 1 on; argparse says what is wrong with others."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a whole number from 1 on")
    return number


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (docs/monitoring-operations.md lists them)."""
    line = parser()
    asked = line.parse_args(arguments)
    if asked.command == "quarantine" and (asked.lift is None) != (not asked.reason):
        line.error("--lift NUMBER and --reason go together: who lifts a span says why")
    settings = Settings().prepare()
    from monitoring import cli as commands

    try:
        return getattr(commands, asked.command)(settings, asked)
    except (KeyError, IndexError):  # a LookupError that nobody meant is a fault of ours: with its traceback
        raise
    except commands.EXPECTED as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
