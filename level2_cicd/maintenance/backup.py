"""Backups of a home, made while everything runs, and the way back, on which nothing newer is lost.

A backup counts once its facts lie beside its archive: one that was killed before has kept nothing. A restored home takes
its place by one rename, and the home that was there stays beside it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import HomeRefused, NotFound, StoreRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, HomeMaintained, Line
from level1_pipeline.store.database import Lease, Store
from level1_pipeline.store.tables import audit, predictions
from level1_pipeline.store.tables import leases as lease_rows
from level2_cicd.maintenance import archive
from level2_cicd.maintenance.archive import OPERATIONS, Kept
from level2_cicd.maintenance.audit_chain import Chain, chain

PARTIAL = ".partial"  # of a folder of backups: what is being made
HOMES = (OPERATIONS, f"*/{OPERATIONS}", f"*/*/{OPERATIONS}")  # a home, and others that lie in it


@dataclass(frozen=True)
class Restored:
    """What was restored, and where the home lies that was there before; None if there was none."""

    kept: Kept
    before: Path | None


def lease(store: Store, settings: Settings) -> AbstractContextManager[Lease]:
    """Under it a home is backed up or pruned: no file is deleted while it is copied."""
    return leases.hold(store, f"maintain {problem.NAME}", settings.lease_seconds)


def backups(folder: Path) -> list[Kept]:
    """The facts of the backups in a folder, the oldest first."""
    return sorted((Kept.load(facts) for facts in folder.glob("home-*.json")), key=lambda kept: kept.number)


def back_up(settings: Settings, folder: Path) -> Kept:
    """Back a home up into a folder, while it is in use, and prove that it can be restored.

    Raises:
        HomeRefused: there is nothing to back up, a database lies elsewhere, the folder lies in the home, the audit log
            does not go on from the last backup there, or something in the home is damaged.
        LeaseHeld: the home is backed up or pruned at this moment.
    """
    _refuse_elsewhere(settings)
    if not (settings.home / OPERATIONS).exists():
        raise HomeRefused(f"there is no store in {settings.home}, so there is nothing to back up; see MLOPS_HOME")
    if folder.resolve().is_relative_to(settings.home):
        raise HomeRefused(f"{folder} lies in the home, with which it would be lost; name another folder: BACKUP=…")
    folder.mkdir(parents=True, exist_ok=True)
    store, partial = Store(settings.operations), folder / PARTIAL
    with lease(store, settings):
        number, before = _following(store.audit_log(problem.NAME), backups(folder))
        shutil.rmtree(partial, ignore_errors=True)  # of one that was killed
        partial.mkdir()
        try:
            kept = archive.pack(settings.home, partial, number, before)
            archive.unpack(kept, partial, partial / "proof")
            for name in (kept.archive, kept.facts):
                (partial / name).replace(folder / name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    store.close()
    return kept


def _following(log: list[Line], made: list[Kept]) -> tuple[int, Chain]:
    """The number of the next backup, and what its audit log must go on from: the last one, or the one that was restored."""
    if not made:
        return 1, Chain()
    maintained = [line.evidence for line in log if isinstance(line.action, HomeMaintained)]
    restored = [evidence["archive"] for evidence in maintained if "archive" in evidence]
    last = made[-1].audit
    if chain(log[: last.lines]) != last and restored:
        last = next((kept.audit for kept in made if kept.archive == restored[-1]), last)
    return made[-1].number + 1, last


def restore(settings: Settings, folder: Path, number: int | None, reason: str, confirmed: bool) -> Restored:
    """Put a backup in the place of the home. What is no part of a backup stays where it is.

    Args:
        settings: of the home.
        folder: of the backups.
        number: of the backup; by default the newest.
        reason: for the audit log.
        confirmed: a person knows that the home holds something newer.

    Raises:
        NotFound: there is no such backup.
        HomeRefused: it is damaged, the home is in use, or it holds something newer.
        ClockRefused: the home that was backed up lives by another clock.
    """
    _refuse_elsewhere(settings)
    kept = next((kept for kept in reversed(backups(folder)) if number in (None, kept.number)), None)
    if kept is None:
        raise NotFound(
            f"{folder} holds no backup{f' {number}' if number else ''}; make one: make backup BACKUP={folder}"
        )
    with _alone(settings.home):
        pass  # before the work
    coming = settings.home.with_name(f".{settings.home.name}.restoring")
    shutil.rmtree(coming, ignore_errors=True)
    try:
        archive.unpack(kept, folder, coming)
        if (newer := _newer(settings, coming, kept)) and not confirmed:
            raise HomeRefused(
                f"{newer}, which {kept.archive} of {kept.day} does not have; if it is to be replaced all the same: "
                "make restore CONFIRM=1 (what is there now is kept beside it)"
            )
        _note(settings.changed({"home": coming}), kept, reason)
        with _alone(settings.home):
            return Restored(kept, _swap(settings.home, coming))
    finally:
        shutil.rmtree(coming, ignore_errors=True)


def _refuse_elsewhere(settings: Settings) -> None:
    for name, url in (("MLOPS_STORE_URI", settings.store_uri), ("MLOPS_TRACKING_URI", settings.tracking_uri)):
        if url:
            raise HomeRefused(
                f"{name} names a database outside of the home, which a backup of the home would lack: back that database "
                f"up with its own tools (PostgreSQL: pg_dump and pg_restore) and first, then copy the folder {settings.home}"
            )


def _newer(settings: Settings, coming: Path, kept: Kept) -> str:
    """What the home here has and the backup has not, in words; empty if nothing."""
    if not (settings.home / OPERATIONS).exists():
        return ""
    here, there = Store(settings.operations), Store(f"sqlite:///{coming / OPERATIONS}")
    try:
        log = here.audit_log(problem.NAME)
        if chain(log[: kept.audit_lines]) != kept.audit:
            return f"the home {settings.home} is another one, or went another way: its audit log has {len(log)} lines"
        lines, more = (_more(table, here, there) for table in (audit, predictions))
    except (StoreRefused, sa.exc.DatabaseError) as error:
        return f"nobody can say what the home {settings.home} holds, since its store cannot be read ({error})"
    finally:
        here.close()
        there.close()
    if not (lines or more):
        return ""
    return f"the home {settings.home} has {lines} more lines in its audit log and {more} more predictions"


def _more(table: sa.Table, here: Store, there: Store) -> int:
    """How many more rows there are here, of every problem that lives in the home: what one has less hides nothing."""
    ours, theirs = (_rows(table, store) for store in (here, there))
    return sum(max(count - theirs.get(name, 0), 0) for name, count in ours.items())


def _rows(table: sa.Table, store: Store) -> dict[str, int]:
    counted = sa.select(table.c.problem, sa.func.count().label("rows")).group_by(table.c.problem)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return {row.problem: row.rows for row in connection.execute(counted)}


def _note(coming: Settings, kept: Kept, reason: str) -> None:
    """The line about it lies in the home before anybody can use it."""
    why, evidence = f"restored from {kept.archive}: {reason}", {"archive": kept.archive, "sha256": kept.sha256}
    store = Store(coming.operations)
    change = Change(coming.who, HomeMaintained(), why, clock.now(coming), evidence)
    store.record(problem.NAME, change)
    with store.engine.begin() as connection:  # whoever held a lease then works in the home that was there
        connection.execute(lease_rows.update().values(expires_at=datetime.now(UTC)))
    store.close()


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Nobody else has a store of this home open, or opens it in this block.

    SQLite leaves its write-ahead log only for a connection that is the only one, so no list of processes is needed.

    Raises:
        HomeRefused: a service, a loop, a training or a page uses it.
    """
    with ExitStack() as stack:
        for file in [file for pattern in HOMES for file in home.glob(pattern)]:
            connection = sqlite3.connect(file, timeout=1, isolation_level=None)
            stack.callback(connection.close)
            try:
                connection.execute("PRAGMA journal_mode = DELETE")
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                raise HomeRefused(
                    f"{file.parent} is in use ({error}): a service, a control loop, a training or a dashboard has it open; "
                    "end it, then restore again"
                ) from error
            except sqlite3.DatabaseError:
                continue  # no database any more, which nobody can use
        yield


def _swap(home: Path, coming: Path) -> Path | None:
    """Two renames. Killed between them, no home is there, and both lie beside: the same command goes on."""
    before = None
    try:
        if home.exists() and any(home.iterdir()):
            before = _free(home)
            home.rename(before)
        elif home.exists():
            home.rmdir()
        coming.rename(home)
    except OSError as error:
        if before and before.exists() and not home.exists():
            before.rename(home)
        raise HomeRefused(
            f"{home} cannot be renamed ({error.strerror}), perhaps because a volume is mounted there: let MLOPS_HOME name "
            "a folder in the volume that is not there yet, and restore into it"
        ) from error
    for entry in [*before.iterdir()] if before else []:
        if archive.is_left_out(entry) and not (home / entry.name).exists():
            entry.rename(home / entry.name)
    return before


def _free(home: Path) -> Path:
    number = 1
    while (beside := home.with_name(f"{home.name}.before-restore-{number}")).exists():
        number += 1
    return beside
