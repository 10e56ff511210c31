"""python -m serving: run, route, key, score, batch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.settings import Settings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m serving", description="The prediction service.")
    commands = top.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="serve until it is stopped")
    run.add_argument("--workers", type=int, default=1, metavar="N", help="processes that answer (default: 1)")

    route = commands.add_parser("route", help="give a challenger copies (shadow) or a share (canary) of the traffic")
    route.add_argument("--mode", choices=("shadow", "canary", "none"), required=True)
    route.add_argument("--challenger", metavar="VERSION", help="a published version (default: the named challenger)")
    route.add_argument("--share", type=float, metavar="0.25", help="of the entities; for the canary")
    route.add_argument("--reason", required=True, help="why, for the audit log")

    commands.add_parser("key", help="make an API key, and print the hash to configure")

    score = commands.add_parser("score", help="score a row of the problem over HTTP")
    score.add_argument("--id", required=True, help=f"{problem.ID} of the row, as known at its decision time")
    score.add_argument("--url", help="of a running service (default: one is started for the occasion)")
    score.add_argument("--key", default="", help="API key, when the service wants one")

    batch = commands.add_parser("batch", help="score files; the same command goes on where a killed one stopped")
    batch.add_argument("--input", type=Path, required=True, metavar="PATH", help="Parquet or CSV, a file or a folder")
    batch.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for scores, bad rows and facts")
    batch.add_argument("--version", metavar="VERSION", help="a published version (default: the champion)")
    batch.add_argument("--threads", type=int, metavar="N", help="that score (default: one for each core)")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 with the reason on standard error."""
    asked = parser().parse_args(arguments)
    settings = Settings().prepare()
    from serving import cli as commands

    try:
        return int(getattr(commands, asked.command)(settings, asked))
    except commands.EXPECTED as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
