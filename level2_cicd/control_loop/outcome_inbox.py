"""Outcomes that lie as files in MLOPS_HOME/outcomes: taken in by the control loop, one after the other.

A file is taken when it has rested: nobody has changed it for `outcomes_rest_seconds`. Who writes more slowly than that
writes under a name that begins with a dot, and renames the file when it is complete.
"""

from __future__ import annotations

import time
from pathlib import Path

from level1_pipeline.errors import OutcomeFileRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.database import Store
from monitoring.alerting import tickets
from monitoring.data import outcome_files

DONE, REFUSED = "done", "refused"
EXAMPLES_TOLD = 3  # bad rows of a file that was taken


def take_in(settings: Settings, store: Store) -> list[str]:
    """Keep what the files say. A file is put aside once all of it is kept; one that cannot be read goes to
    `refused` and a ticket says why, because it must not keep the others, or the loop, waiting. Nothing in the folder
    is left without a message, but for names that begin with a dot."""
    inbox = settings.home / "outcomes"
    files = sorted(inbox.iterdir()) if inbox.is_dir() else []
    return [_take(settings, store, file) for file in files if file.name[0] != "." and file.name not in (DONE, REFUSED)]


def _take(settings: Settings, store: Store, file: Path) -> str:
    if not file.is_file() or not outcome_files.is_readable(file):
        return f"outcomes: {file.name} is not read, because it is no .csv, .csv.gz or .parquet file"
    rest = settings.loop.outcomes_rest_seconds
    if _rested(file) < rest:
        return f"outcomes: {file.name} may still be written; it is taken when it has not changed for {rest:g} seconds"
    now = clock.now(settings)
    try:
        taken = outcome_files.ingest(store, file, now)
        if taken.kept:
            clock.live_by(settings, store)
        elif taken.rows:
            raise OutcomeFileRefused(f"not one of the {taken.rows:,} rows is an outcome: {'; '.join(taken.examples)}")
    except OutcomeFileRefused as refusal:
        if _rested(file) < rest:
            return f"outcomes: {file.name} is still being written; it is read again"
        message = f"{refusal}\n\nIt lies in {_put_aside(file, REFUSED)} now."
        tickets.ask_a_person(store, f"a file of outcomes is refused: {file.name}", message, now)
        return f"outcomes: {file.name} is refused, see the ticket"
    _put_aside(file, DONE)
    bad = f" ({'; '.join(taken.examples[:EXAMPLES_TOLD])})" if taken.bad else ""
    return f"outcomes: {taken.new:,} new ones from {file.name}, {taken.bad.total():,} bad rows{bad}"


def _rested(file: Path) -> float:
    """For how many seconds nobody has changed the file. Files live by wall time; a time to come is nobody's word."""
    stat, now = file.stat(), time.time()
    return now - (stat.st_mtime if stat.st_mtime <= now else stat.st_ctime)


def _put_aside(file: Path, folder: str) -> Path:
    """Under a name that no other file has: what was taken is evidence."""
    stem, dot, ending = file.name.partition(".")
    place, count = file.parent / folder / file.name, 1
    place.parent.mkdir(exist_ok=True)
    while place.exists():
        place, count = place.with_name(f"{stem}-{count + 1}{dot}{ending}"), count + 1
    return file.rename(place)
