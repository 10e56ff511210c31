"""The command line of Level 2: operate, trigger, simulate, rollout, delivery, trace, rollback, reset, and
backup, restore, prune.

Exit codes: 0 done, 1 refused or failed, 2 not understood, 3 rolled back or not reproduced, 5 waits for data or for a person.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic_core import to_json

from level1_pipeline.command_line import Reason, console, new_app, open_settings, print_result, run
from level1_pipeline.inputs import demo
from level1_pipeline.processes import sigterm_like_ctrl_c
from level1_pipeline.registry import Registry
from level1_pipeline.route_cli import went_back
from level1_pipeline.store import clock
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import local
from level2_cicd.control_loop import operate as control_loop
from level2_cicd.control_loop import retraining_budget, triggers
from level2_cicd.delivery.cli import commands as delivery_commands
from level2_cicd.maintenance.cli import commands as maintenance_commands
from level2_cicd.rollout import record
from level2_cicd.rollout.cli import NOT_PASSED, AsJson
from level2_cicd.rollout.cli import commands as rollout_commands
from level2_cicd.rollout.states import ROLLED_BACK
from monitoring.alerting import tickets

if TYPE_CHECKING:
    from level2_cicd.simulation.faults.table import PlantedFault

FAILED_REQUESTS = 1  # of a simulation
PHASE_FAILED = 1  # of a cycle of the control loop: it went on with the others

app = new_app(
    "Level 2: brings new versions into service step by step, and runs the control loop that drives it all.\n\n"
    "Begin with: python -m level2_cicd simulate"
)
app.add_typer(rollout_commands, name="rollout")
app.add_typer(delivery_commands, name="delivery")
app.add_typer(maintenance_commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run(app, "python -m level2_cicd", arguments)


@app.command()
def operate(
    once: Annotated[bool, typer.Option("--once", help="One cycle, for a scheduler that calls it.")] = False,
) -> int:
    """Run the control loop: take in outcomes, monitor, decide the next action, carry it out.

    Example: python -m level2_cicd operate --once
    """
    settings, failed = open_settings(), ""
    if once:
        operator = control_loop.Operator(settings)
        _print_cycle(clock.now(settings), operator.cycle())
        failed = ", ".join(operator.failed)
    else:
        with suppress(KeyboardInterrupt), sigterm_like_ctrl_c():
            control_loop.run(settings, _print_cycle)
    route = Registry(settings).route()
    rolling = f"version {route.challenger} in {route.mode}" if route.mode else "no rollout"
    outcome = f"FAILED: {failed} | " if failed else ""
    print_result("operate", f"{outcome}champion {route.champion} | {rolling} | details: make history")
    return PHASE_FAILED if failed else 0


def _print_cycle(now: datetime, messages: list[str]) -> None:
    for message in messages or ["nothing to do"]:
        console.print(f"  {local(now)} {message}")


@app.command()
def trigger(kind: Literal["on demand", "release"], reason: Reason) -> int:
    """Order a training, which the control loop carries out. "release": a new pipeline was deployed.

    Example: python -m level2_cicd trigger "on demand" --reason "new airline in the data"
    """
    settings = open_settings()
    retraining_budget.overrule(settings, triggers.by_hand(settings, kind, reason))
    print_result("trigger", f"{kind} | ordered; the control loop trains: make operate")
    return 0


def _local_day(text: str) -> str:
    date.fromisoformat(text)
    return text


def _day_option(name: str, meaning: str) -> Any:
    return typer.Option(name, metavar="DAY", parser=_local_day, help=meaning)


@app.command()
def simulate(
    trained: Annotated[
        str | None, _day_option("--trained", "When the first champion was made; default: --from.")
    ] = None,
    first: Annotated[str | None, _day_option("--from", "The first day.")] = None,
    last: Annotated[str | None, _day_option("--until", "The last day.")] = None,
    fault: Annotated[str | None, typer.Option(metavar="COLUMN", help="What callers send in another unit.")] = None,
    fault_from: Annotated[str | None, _day_option("--fault-from", "When that begins; default: --from.")] = None,
    fault_days: Annotated[int | None, typer.Option(metavar="N", help="How long that lasts.")] = None,
) -> int:
    """Simulate a summer: the whole loop on past days, in a home of its own, told as a story.

    Without an option it has the days and the fault of `problem.DEMO`, which follow from the data where it says nothing.

    Example: python -m level2_cicd simulate --until 2013-06-09 --fault temp --fault-from 2013-05-28
    """
    from level2_cicd.simulation import story
    from level2_cicd.simulation.faults.table import Planted, in_another_unit

    settings = open_settings()
    usual = demo.simulation(settings)
    if not (trained or first or last or fault):
        trained, fault, fault_from = usual.trained, usual.fault, fault_from or usual.fault_from
    first, last = first or usual.first, last or usual.last
    spoilt = Planted(in_another_unit(fault, fault_days or usual.fault_days), fault_from or first) if fault else None
    summer = story.run(settings, trained or first, first, last, spoilt, console)
    story.tell(summer, console)
    return FAILED_REQUESTS if summer.traffic.failed else 0


@app.command()
def year(
    first: Annotated[str | None, _day_option("--from", "The first day, a Monday (default: of the demo).")] = None,
    last: Annotated[str | None, _day_option("--until", "The last day (default: of the demo).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed year stopped.")] = False,
    faults: Annotated[str, typer.Option(metavar="NAMES", help="Plant faults, `celsius,stuck` or `all`.")] = "",
) -> int:
    """Simulate a year: every policy on the same traffic, and the scoreboard of what each costs.

    A year that is lived is not lived again for its faults.

    Example: python -m level2_cicd year --until 2013-06-30 --faults celsius,flipped
    """
    from level2_cicd.simulation import year as simulated

    settings = open_settings()
    usual = demo.year(settings)
    lived = simulated.of(settings, first or usual[0], last or usual[1])
    planted = _faults(faults, lived.faults_begin) if faults else ()
    board = simulated.scored(lived) if planted and lived.is_lived() else simulated.run(lived, console, resume)
    figures = simulated.run_faults(lived, planted, console, resume) if planted else ()
    print_result("year", simulated.tell(board, lived, console, figures))
    return 0


def _faults(names: str, begin: str | None) -> tuple[PlantedFault, ...]:
    from level2_cicd.simulation.faults.table import named

    try:
        planted = named(names)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--faults") from error
    if begin is None:
        raise typer.BadParameter("the year ends before its tenth week, in which they begin", param_hint="--faults")
    return planted


@app.command()
def trace(prediction: Annotated[str, typer.Argument(help="Its id.")], as_json: AsJson = False) -> int:
    """Follow a served prediction back to its request, model, rollout, code and data, and score it again.

    Example: python -m level2_cicd trace UA-1545-EWR-2013-06-01
    """
    from level2_cicd.lineage import trace as follow

    answers = follow(open_settings(), prediction)
    served = answers[0]
    if as_json:
        print(to_json(answers).decode())
        return 0 if served.reproduced else NOT_PASSED
    for name, value in (line for answer in answers for line in answer.lines):
        console.print(f"  {name:<16} {value}")
    print_result("trace", f"{served.id} | version {served.version} | {served.check}")
    return 0 if served.reproduced else NOT_PASSED


@app.command()
def rollback(
    reason: Reason,
    to: Annotated[str | None, typer.Option(metavar="VERSION", help="Another version than the previous one.")] = None,
) -> int:
    """Serve the previous champion again; ends a rollout, and says how long it took until the route had changed.

    Example: python -m level2_cicd rollback --reason "complaints since noon"
    """
    registry, started = Registry(open_settings()), time.perf_counter()
    before, running = registry.route(), record.current(registry.store)
    after = registry.rollback(reason, to)
    seconds = time.perf_counter() - started
    ended = f" | the rollout of {running.version} is {ROLLED_BACK}" if running else ""
    print_result("rollback", f"{went_back(before, after)} in {seconds:.1f}s{ended}")
    registry.reconcile()
    return 0


@app.command()
def reset(reason: Reason) -> int:
    """Let trainings and rollouts start by themselves again, after a person has looked.

    Example: python -m level2_cicd reset --reason "the feed is mended"
    """
    settings = open_settings()
    retraining_budget.reset(settings, reason)
    tickets.person_answered(Store(settings.operations), reason, clock.now(settings))
    print_result("retraining budget", f"rejections and rollbacks are forgotten: {reason}")
    return 0
