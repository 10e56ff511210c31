"""The commands that change or show what is served: promote, rollback, repair, history; and the home's clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.table import Table
from typer import Argument, Option

from level1_pipeline import problem
from level1_pipeline.command_line import Reason, console, open_settings, print_result
from level1_pipeline.errors import NotFound

if TYPE_CHECKING:
    from level1_pipeline.store.audit import Line
    from level1_pipeline.store.routes import Route


def promote(
    version: Annotated[str, Argument(help="A registered version that passed the gate.")],
    reason: Reason,
    to: Annotated[Literal["champion", "challenger"], Option(help="What it becomes.")] = "champion",
) -> None:
    """Make a published version champion or challenger.

    Example: python -m level1_pipeline promote 2 --reason "the canary was fine"
    """
    from level1_pipeline.registry import Registry

    registry = Registry(open_settings())
    if not registry.bundle_folder(version).exists():
        registry.publish(version)
    print_result("promote", _served(registry.promote(version, to, reason)))


def _served(route: Route) -> str:
    return f"champion {route.champion}, challenger {route.challenger}, previous {route.previous}"


def rollback(
    reason: Reason,
    to: Annotated[str | None, Option(metavar="VERSION", help="Another version than the previous one.")] = None,
) -> None:
    """Serve the previous champion again.

    Example: python -m level1_pipeline rollback --reason "late warnings"
    """
    from level1_pipeline.registry import Registry

    registry = Registry(open_settings())
    before = registry.route()
    print_result("rollback", went_back(before, registry.rollback(reason, to)))
    registry.reconcile()


def repair(
    version: Annotated[str, Argument(help="A version whose bundle is damaged or gone.")],
    reason: Reason = "",
    backup: Annotated[
        Path | None,
        Option("--from", metavar="FOLDER", help="A backup of the bundle, or of the home (default: MLflow)."),
    ] = None,
) -> None:
    """Bring the bundle of a published version back. Only the same content is taken; what was damaged stays beside it.

    Example: python -m level1_pipeline repair 2 --from /backups/mlops --reason "a disk fault"
    """
    from level1_pipeline.registry import Registry

    registry = Registry(open_settings())
    mended = registry.repair(version, reason, backup)
    print_result(
        "repair", f"version {version} is {'as it was registered again' if mended else 'whole: nothing was done'}"
    )


def clock(
    kind: Annotated[Literal["wall", "replay", "fixed"] | None, Argument(help="That the home is to live by.")] = None,
    reason: Reason = "",
) -> None:
    """Show the clock that this home lives by, or let it live by another one. Its rows stay as they are.

    Example: python -m level1_pipeline clock wall --reason "the replay is over"
    """
    from level1_pipeline.store import clock as clocks
    from level1_pipeline.store.database import Store

    settings = open_settings()
    store = Store(settings.operations)
    if kind:
        clocks.change(settings, store, kind, reason)
    print_result("clock", f"the home lives by: {clocks.remembered(store) or 'none yet'} | {settings.home}")


def went_back(before: Route, after: Route) -> str:
    """What a rollback did, in words: with no other version to go back to it ends the trial of the challenger."""
    if before.champion != after.champion:
        return f"champion {before.champion} -> {after.champion}"
    return f"champion {after.champion} stays, version {before.challenger} gets no more traffic"


def history(
    show: Annotated[int | None, Option(metavar="ID", help="One line of it whole, with its evidence.")] = None,
    as_json: Annotated[bool, Option("--json", help="All lines as JSON, for a script.")] = False,
) -> None:
    """Who changed what is served, when, why, from what, to what: the audit log.

    Example: python -m level1_pipeline history --show 3
    """
    from level1_pipeline.registry import Registry

    registry = Registry(open_settings())
    lines = registry.store.audit_log(problem.NAME)
    if show is not None:
        lines = [line for line in lines if line.id == show]
        if not lines:
            raise NotFound(f"the history of {problem.NAME} has no line {show}; make history lists the ids")
    if as_json:
        print(json.dumps([_as_dict(line) for line in lines], default=str))
    elif show is not None:
        _print_line(lines[0])
    else:
        _print_table(lines, registry.route())


def _as_dict(line: Line) -> dict[str, Any]:
    names = ("id", "at", "recorded_at", "actor", "action", "from_version", "to_version", "reason", "evidence")
    return {name: line.text if name == "action" else getattr(line, name) for name in names}


def _print_line(line: Line) -> None:
    """One line whole: its evidence is what the change rests on."""
    from level1_pipeline.store.days import local

    values = {**_as_dict(line), "at": local(line.at), "recorded_at": local(line.recorded_at)}
    values["evidence"] = json.dumps(line.evidence, indent=2)
    for name, value in values.items():
        console.print(f"{name:<12} {value}")
    print_result("history", f"line {line.id}")


def _print_table(lines: list[Line], route: Route) -> None:
    from level1_pipeline.store.days import local

    table = Table("id", "when", "who", "what", "from", "to", "why")
    for line in lines:
        after = line.route
        trial = f" (challenger {after.challenger}, {after.mode or 'no traffic'})" if after and after.challenger else ""
        versions = (line.from_version or "-", line.to_version or "-")
        when = local(line.at)
        table.add_row(str(line.id), when, line.actor, line.text + trial, *versions, line.reason)
    console.print(table)
    console.print("the evidence of a line: make history SHOW=id, or python -m level1_pipeline history --show id")
    print_result("history", f"{len(lines)} entries | {_served(route)}")
