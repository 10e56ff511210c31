"""The commands backup, restore and prune of `python -m level2_cicd`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from level1_pipeline.command_line import Reason, console, open_settings, print_result
from level1_pipeline.settings import Settings
from level2_cicd.maintenance import backup as backups
from level2_cicd.maintenance import prune as pruning
from level2_cicd.maintenance.archive import Kept

commands = typer.Typer()
Folder = Annotated[
    Path | None, typer.Option("--folder", metavar="FOLDER", help="Of the backups; default: MLOPS_HOME-backups.")
]
Confirm = typer.Option("--confirm", help="A person has read what would be lost.")


def _folder(settings: Settings, given: Path | None) -> Path:
    return given or settings.home.with_name(f"{settings.home.name}-backups")


def _facts(kept: Kept) -> str:
    return f"{kept.archive} of {kept.day} | champion {kept.champion} | {kept.audit_lines} lines in the audit log"


@commands.command()
def backup(folder: Folder = None) -> None:
    """Back the home up while everything runs: store, MLflow, bundles, reports. It is unpacked again, to prove it.

    Example: python -m level2_cicd backup --folder /backups/mlops
    """
    settings = open_settings()
    place = _folder(settings, folder)
    kept = backups.back_up(settings, place)
    size = (place / kept.archive).stat().st_size / 1e6
    print_result("backup", f"{_facts(kept)} | {size:.1f} MB, proved whole | {place}")


@commands.command()
def restore(
    folder: Folder = None,
    number: Annotated[int | None, typer.Option(metavar="N", help="Of the backup; default: the newest.")] = None,
    reason: Reason = "",
    confirm: Annotated[bool, Confirm] = False,
) -> None:
    """Put a backup in the place of the home, in which nothing may run. What was there stays beside it.

    Example: python -m level2_cicd restore --number 3 --reason "the disk failed"
    """
    settings = open_settings()
    done = backups.restore(settings, _folder(settings, folder), number, reason, confirm)
    if done.before:
        console.print(f"  what was there before: {done.before}")
    print_result("restore", f"{_facts(done.kept)} | {settings.home}")


@commands.command()
def prune(
    keep: Annotated[int, typer.Option(min=2, metavar="N", help="So many of the newest of each kind stay.")],
    reason: Reason = "",
    confirm: Annotated[bool, Confirm] = False,
) -> None:
    """Delete old versions, MLflow runs, reports, snapshots and kept training data; without --confirm only say which.

    What serves, served before, is in a rollout, or is needed to trace a logged prediction, stays in any case.

    Example: python -m level2_cicd prune --keep 20
    """
    settings = open_settings()
    old = pruning.prune(settings, keep, reason) if confirm else pruning.plan(settings, keep)
    for kind, (count, size) in old.sizes.items():
        console.print(f"  {kind:<20} {count:>5} {size / 1e6:>9.1f} MB")
    if old.needed:
        console.print(f"  versions that stay, however old they are: {', '.join(sorted(old.needed))}")
    freed = f"{sum(size for _, size in old.sizes.values()) / 1e6:.1f} MB"
    done = (
        f"{freed} freed"
        if confirm
        else f"{freed} would be freed, nothing was deleted: make prune CONFIRM=1 KEEP={keep}"
    )
    print_result("prune", f"{done} | {settings.home}")
