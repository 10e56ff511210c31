"""Outcomes that lie as files in MLOPS_HOME/outcomes: taken in by the control loop, one after the other."""

from __future__ import annotations

from pathlib import Path

from level1_pipeline.errors import OutcomeFileRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.database import Store
from monitoring.alerting import tickets
from monitoring.data import outcome_files


def take_in(settings: Settings, store: Store) -> list[str]:
    """Keep what the files say. A file is put aside once all of it is kept; one that cannot be read goes to
    `refused` and a ticket says why, because it must not keep the others, or the loop, waiting."""
    inbox, messages = settings.home / "outcomes", []
    for file in sorted([*inbox.glob("*.csv"), *inbox.glob("*.parquet")]):
        try:
            taken = outcome_files.ingest(store, file, clock.now(settings))
        except OutcomeFileRefused as refusal:
            message = f"{refusal}\n\nIt lies in {_put_aside(file, 'refused')} now."
            tickets.ask_a_person(store, "a file of outcomes is refused", message, clock.now(settings))
            messages.append(f"outcomes: {file.name} is refused, see the ticket")
            continue
        _put_aside(file, "done")
        messages.append(f"outcomes: {taken.new:,} new ones from {file.name}, {sum(taken.bad.values()):,} bad rows")
    return messages


def _put_aside(file: Path, folder: str) -> Path:
    (file.parent / folder).mkdir(exist_ok=True)
    return file.rename(file.parent / folder / file.name)
