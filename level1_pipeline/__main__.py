"""python -m level1_pipeline: train, watch, schedule, score, promote, rollback, history."""

from __future__ import annotations

import argparse
import sys
from datetime import date

from level1_pipeline import problem
from level1_pipeline.settings import Settings

STEPS = ("extract", "validate", "split", "train", "evaluate", "refit", "register", "publish")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m level1_pipeline", description="The training pipeline of Level 1.")
    commands = top.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train, judge and, if the gate passes, register and promote")
    train.add_argument(
        "--as-of",
        metavar="DAY",
        type=local_day,
        help="use only what was known at 00:00 local time of this day (default: today on the clock)",
    )
    train.add_argument(
        "--promote-to",
        choices=("champion", "challenger", "none"),
        default="champion",
        help="alias of the new version after the gate",
    )
    train.add_argument(
        "--experiment",
        metavar="NAME",
        help="run everything under an experiment of this name; registers nothing, touches no alias",
    )
    train.add_argument("--until", choices=STEPS, help="stop after this step, for a person to look")
    train.add_argument(
        "--tune", type=int, default=0, metavar="N", help="first search N settings by time-ordered validation"
    )
    train.add_argument("--trigger", default="on demand", help="what started it, for the run's tags and the audit log")
    train.add_argument("--reason", default="", help="why, for the audit log")
    train.add_argument("--order", metavar="ID", help="of the control loop: it is carried out once")
    train.add_argument("--evidence", default="{}", metavar="JSON", help="what the trigger rests on, for the run's tags")

    watch = commands.add_parser("watch", help="train when a new month of labelled rows has arrived on the clock")
    watch.add_argument("--once", action="store_true", help="look once and end")
    watch.add_argument("--every", type=float, default=3600.0, metavar="SECONDS", help="pause between two looks")

    schedule = commands.add_parser("schedule", help="serve a Prefect deployment that trains on a schedule")
    schedule.add_argument("--cron", default="0 6 * * 1", help="when (default: Mondays at 06:00)")
    for command in (watch, schedule):
        command.add_argument("--promote-to", choices=("champion", "challenger", "none"), default="champion")

    score = commands.add_parser("score", help="score records through the champion")
    which = score.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", help=f"{problem.ID} of a row of the problem, as known at its decision time")
    which.add_argument("--json", metavar="FILE", help="a record, or a list of them ('-': standard input)")

    promote = commands.add_parser("promote", help="make a published version champion or challenger")
    promote.add_argument("version")
    promote.add_argument("--to", choices=("champion", "challenger"), default="champion")
    rollback = commands.add_parser("rollback", help="serve the previous champion again")
    rollback.add_argument("--to", metavar="VERSION", help="another version than the previous one")
    for command in (promote, rollback):
        command.add_argument("--reason", required=True, help="why, for the audit log")
    history = commands.add_parser("history", help="who changed what is served, when, why, from what, to what")
    history.add_argument("--show", type=int, metavar="ID", help="one line of it whole, with its evidence")
    return top


def local_day(text: str) -> str:
    """A day like 2013-04-01. Raises ArgumentTypeError for anything else."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no day; write for example 2013-04-01") from None


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (docs/level1.md lists them)."""
    asked = parser().parse_args(arguments)
    settings = Settings().prepare()
    from level1_pipeline import cli as commands

    try:
        return getattr(commands, asked.command)(settings, asked)
    except commands.EXPECTED as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
