"""Deleting the rows of one entity.

Reports, snapshots, tickets and monitoring runs carry sums and shares only. They are searched all the same: a place
that names what is forgotten is struck out or removed, so that nobody has to trust this sentence.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import DatabaseBusy, NotFound
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, EntityForgotten
from level1_pipeline.store.audit_queries import was_forgotten
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import monitoring_runs, outcomes, predictions, quarantine, tickets

IDS_IN_STATEMENT = 500  # ids in one statement: databases limit its parameters
STRUCK = "(forgotten)"
SEARCHED_MIN_CHARACTERS = 4  # characters of a name that is searched in texts; "7" names nobody there
TEXTS = {  # where words about predictions could stand
    monitoring_runs: ("figures",),
    tickets: ("title", "body"),
    quarantine: ("reason",),
}
PREPARED = ("cache", f"runs/{problem.NAME}", f"training_data/{problem.NAME}")  # folders of rows from the source


@dataclass(frozen=True)
class Forgotten:
    """What was deleted, and how the audit log names it without naming it."""

    predictions: int
    outcomes: int
    struck: int  # rows of other tables in which a name was struck out
    files: tuple[str, ...]  # files of reports that were removed
    digest: str


def digest(entity: str) -> str:
    """The SHA-256 under which the audit log knows a forgotten entity: it answers "was this one forgotten?"."""
    return hashlib.sha256(f"{problem.NAME}:{entity}".encode()).hexdigest()


def forget(settings: Settings, store: Store, entity: str) -> Forgotten:
    """Delete the predictions of one entity with their outcomes, from the database's free pages, too.

    Prepared rows (the cache, and what killed trainings left) are removed whole: they are made again from
    the source, whose owner has to delete there. What stays is data without a name: the golden records of bundles.
    Killed at any point, the same command again finishes the work.

    Raises:
        LeaseHeld: a training is going on, whose files must not be removed.
        NotFound: the log knows no such entity, and it was not forgotten before.
        DatabaseBusy: see `scrub`.
    """
    mark, now = digest(entity), clock.now(settings)
    with leases.hold(store, f"train {problem.NAME}", settings.lease_seconds):
        ids = _ids(store, entity)
        forgotten_before = was_forgotten(store.audit_log(problem.NAME), mark)
        if not ids and not forgotten_before:
            raise NotFound(f"no prediction was logged for the entity '{entity}'; is it spelt as in the requests?")
        # First of all, so that a killed run is known when it is run again.
        message = "all predictions and outcomes of one entity deleted"
        store.record(problem.NAME, Change(settings.who, EntityForgotten(mark), message, now))
        names = [name for name in (entity, *ids) if len(name) >= SEARCHED_MIN_CHARACTERS]
        files = _remove_files(settings.home, names)
        with store.engine.begin() as connection:
            rows, lost = _delete(connection, entity, ids)
            struck = _strike_out(connection, names)
        scrub(store)
    return Forgotten(rows, lost, struck, files, mark)


def scrub(store: Store) -> None:
    """Leave no trace of deleted rows in the database's files: free pages, unused bytes, write-ahead log.

    Raises:
        DatabaseBusy: another process reads an old state of the database; try again.
    """
    engine = store.engine
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f"VACUUM (FULL) {', '.join(t.name for t in (predictions, outcomes, *TEXTS))}"))
        return
    raw = engine.raw_connection()  # outside a transaction, which the store else begins
    try:
        cursor = raw.cursor()
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        busy, *_ = cursor.fetchone() or (1,)
    finally:
        raw.close()
    if busy:
        raise DatabaseBusy("deleted, but a reader keeps the old pages in the write-ahead log; run the command again")


def _ids(store: Store, entity: str) -> list[str]:
    p = predictions.c
    with store.engine.connect().execution_options(reads_only=True) as connection:
        ids = sa.select(p.id).where(p.problem == problem.NAME, p.entity_id == entity).distinct()
        return list(connection.scalars(ids.order_by(p.id)))


def _delete(connection: sa.Connection, entity: str, ids: list[str]) -> tuple[int, int]:
    lost, o, p = 0, outcomes.c, predictions.c
    for start in range(0, len(ids), IDS_IN_STATEMENT):
        some = o.id.in_(ids[start : start + IDS_IN_STATEMENT])
        lost += connection.execute(outcomes.delete().where(o.problem == problem.NAME, some)).rowcount
    rows = connection.execute(predictions.delete().where(p.problem == problem.NAME, p.entity_id == entity)).rowcount
    return rows, lost


def _strike_out(connection: sa.Connection, names: list[str]) -> int:
    """Replace names in the words of other tables; returns how many rows held one."""
    changed = 0
    for table, columns in TEXTS.items():
        for row in connection.execute(sa.select(table).where(table.c.problem == problem.NAME)).all():
            old = {name: getattr(row, name) for name in columns}
            new = {name: _struck(value, names) for name, value in old.items()}
            if new != old:
                this = [key == getattr(row, key.name) for key in table.primary_key.columns]
                connection.execute(table.update().where(*this).values(new))
                changed += 1
    return changed


def _struck(value: Any, names: list[str]) -> Any:
    """The same JSON value with the names struck out of its strings."""
    if isinstance(value, dict):
        return {key: _struck(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_struck(part, names) for part in value]
    return _pattern(hits).sub(STRUCK, value) if isinstance(value, str) and (hits := _in(value, names)) else value


def _in(text: str, names: Iterable[str]) -> list[str]:
    # A plain search first: it is many times faster than a pattern of thousands of names.
    hits = [name for name in names if name in text]
    return hits if hits and _pattern(hits).search(text) else []


def _pattern(names: list[str]) -> re.Pattern[str]:
    """The names as whole words: `UA154` is not meant by `UA1545`."""
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?![\w-])")


def _remove_files(home: Path, names: list[str]) -> tuple[str, ...]:
    """Remove prepared rows, and every file of the reports that holds a name; returns the latter."""
    for folder in PREPARED:
        shutil.rmtree(home / folder, ignore_errors=True)
    files = [path for path in (home / "reports").rglob("*") if path.is_file()]
    held = [path for path in files if _in(path.read_text(encoding="utf-8", errors="replace"), names)]
    for path in held:
        path.unlink()
    return tuple(str(path.relative_to(home)) for path in held)
