"""python -m level2_cicd: operate, trigger, simulate, rollout, trace, rollback, reset."""

from __future__ import annotations

import argparse
import sys

from level1_pipeline.settings import Settings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m level2_cicd", description="Level 2: rollouts and what drives them.")
    commands = top.add_subparsers(dest="command", required=True)

    operate = commands.add_parser("operate", help="the control loop: outcomes, monitoring, decision, action")
    operate.add_argument("--once", action="store_true", help="one cycle, for a scheduler that calls it")
    trigger = commands.add_parser("trigger", help="order a training; the control loop carries it out")
    trigger.add_argument("kind", choices=("on demand", "release"), help="release: a new pipeline was deployed")
    simulate = commands.add_parser("simulate", help="the simulated year: the whole loop on past days, as a story")
    simulate.add_argument("--trained", metavar="DAY", help="as of which the first champion is (default: the first day)")
    simulate.add_argument("--from", dest="first", default="2013-04-29", metavar="DAY")
    simulate.add_argument("--until", dest="last", default="2013-07-26", metavar="DAY")
    simulate.add_argument("--fault", metavar="COLUMN", help="what the callers send in another unit for some days")
    simulate.add_argument("--fault-from", metavar="DAY")
    simulate.add_argument("--fault-days", type=int, default=3, metavar="N")

    rollout = commands.add_parser("rollout", help="bring a published version into service, step by step")
    steps = rollout.add_subparsers(dest="what", required=True)
    start = steps.add_parser("start", help="begin: blessings, then shadow")
    start.add_argument("version")
    steps.add_parser("status", help="where it is, and what was seen at the last look")
    steps.add_parser("advance", help="look at the evidence now, and take the step that follows from it")
    decisions = {
        "approve": "agree to the step that waits for a person",
        "reject": "end the rollout; the champion stays",
        "stop": "stay in this step until a person approves or rejects",
    }
    said = [start, *(steps.add_parser(name, help=message) for name, message in decisions.items())]

    trace = commands.add_parser("trace", help="from a served prediction back to request, model, code and data")
    trace.add_argument("prediction", help="its id")
    rollback = commands.add_parser("rollback", help="serve the previous champion again; ends a rollout; timed")
    rollback.add_argument("--to", metavar="VERSION", help="another version than the previous one")
    reset = commands.add_parser(
        "reset", help="let trainings and rollouts start by themselves again, after a person has looked"
    )
    for command in (*said, rollback, reset, trigger):
        command.add_argument("--reason", required=True, help="why, for the audit log")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 refused, 3 rolled back or not reproduced, 5 waits."""
    asked = parser().parse_args(arguments)
    settings = Settings().prepare()
    from level2_cicd import commands, loop

    try:
        return int(getattr(loop if hasattr(loop, asked.command) else commands, asked.command)(settings, asked))
    except commands.EXPECTED as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
