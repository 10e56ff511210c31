"""The commands `python -m level2_cicd.workflows …`: restore-home, replay-week, issues, keep-home, pr-report.

They are no part of `python -m level2_cicd`, because most of them need none of what the control loop loads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

import typer

from level1_pipeline.command_line import console, new_app, open_settings, print_result, run
from level1_pipeline.inputs import demo
from level1_pipeline.store.database import Store
from level2_cicd.maintenance.archive import Kept
from level2_cicd.workflows import github, kept_home, release_assets

app = new_app(
    "What the GitHub workflows call: a loop that lives from one run to the next.\n\n"
    "Example: python -m level2_cicd.workflows replay-week"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run(app, "python -m level2_cicd.workflows", arguments)


def _local_day(text: str) -> str:
    if text != demo.DEMO:
        date.fromisoformat(text)
    return text


def _day_option(name: str, meaning: str) -> Any:
    return typer.Option(name, metavar="DAY", parser=_local_day, help=meaning)


@app.command("restore-home")
def _restore() -> int:
    """Bring back the home that the last run kept, after a look at its checksums and its audit log."""
    settings = kept_home.loop(open_settings())
    kept = release_assets.restore(settings)
    what = _facts(kept) if kept else "none was kept yet, so the loop begins with an empty one"
    print_result("home", f"{what} | {settings.home}")
    return 0


@app.command("replay-week")
def _replay(
    start: Annotated[str, _day_option("--from", "Of an empty home: when its first champion is trained.")] = demo.DEMO,
    days: Annotated[int, typer.Option(min=1, metavar="N", help="How many.")] = 7,
    fault: Annotated[str | None, typer.Option(metavar="COLUMN", help="What callers send in another unit.")] = None,
    fault_from: Annotated[str | None, _day_option("--fault-from", "When that begins; default: --from.")] = None,
    fault_days: Annotated[int, typer.Option(metavar="N", help="How long that lasts.")] = 3,
) -> int:
    """Replay the next week of real rows: the service answers, outcomes arrive, the control loop acts at each midnight.

    Example: python -m level2_cicd.workflows replay-week --from 2013-04-01
    """
    from level2_cicd.simulation import week
    from level2_cicd.simulation.faults.table import Planted, in_another_unit
    from level2_cicd.workflows import report

    settings = open_settings()
    settings = week.of(settings, kept_home.loop(settings).home)
    start = demo.day(settings, start)
    spoilt = Planted(in_another_unit(fault, fault_days), fault_from or start) if fault else None
    lived = week.replay(settings, start, days, spoilt, lambda message, _: console.print(f"  {message}"))
    if lived is None:
        github.add_to_summary("The data end here: nothing was replayed. To begin again, delete the kept home.")
        print_result("replay", f"the data end before these {days} days do: nothing was replayed | {settings.home}")
        return 0
    store = Store(settings.operations)
    github.add_to_summary(report.page(lived, store))
    store.close()
    version, step = lived.waiting or ("", "")
    github.set_output("version", version)
    github.set_output("step", step)
    waits = f"version {version} waits for a person: {step}" if step else f"{len(lived.log)} lines in the audit log"
    print_result("replay", f"{lived.first} to {lived.last} | champion {lived.champion} | {waits} | {settings.home}")
    return 0


@app.command("issues")
def _issues() -> int:
    """Open, update and close one GitHub issue for each ticket."""
    from level2_cicd.workflows import issues

    store = Store(kept_home.loop(open_settings()).operations)
    messages = issues.follow(store)
    store.close()
    for message in messages:
        console.print(f"  {message}")
    print_result("issues", f"{len(messages)} changes" if messages else "they are as the tickets are")
    return 0


@app.command("keep-home")
def _keep() -> int:
    """Keep the home for the next run; refused if another run was quicker, or the audit log is broken."""
    kept = release_assets.keep(kept_home.loop(open_settings()))
    print_result("home", f"{_facts(kept)} | kept in the release {release_assets.RELEASE}")
    return 0


@app.command("pr-report")
def _pr_report(
    base: Annotated[str, typer.Option(metavar="COMMIT", help="That the change is based on.")],
    as_of: Annotated[str, _day_option("--as-of", "Of both trainings.")] = demo.DEMO,
) -> int:
    """Train as the base does and as this checkout does, and show what the gate says about the difference.

    Example: python -m level2_cicd.workflows pr-report --base main
    """
    from level2_cicd.workflows import pull_request

    uv = os.environ.get("UV") or "uv"
    settings = open_settings()
    as_of = demo.day(settings, as_of)
    judged = pull_request.judge(settings, base, as_of, uv, lambda message: console.print(f"  {message}"))
    github.add_to_summary(judged.markdown)
    for name, value in judged.candidate.items():
        console.print(f"  {name:<12} base {judged.base.get(name, float('nan')):.4f}, this change {value:.4f}")
    print_result("pr-report", f"gate {judged.status.upper()}: {judged.reason}")
    return 0


def _facts(kept: Kept) -> str:
    audit = f"{kept.audit_lines} lines in an unbroken audit log"
    return f"home {kept.number} of {kept.day} | champion {kept.champion} | {audit}"
