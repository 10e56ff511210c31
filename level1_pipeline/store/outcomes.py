"""Keeping what really happened, by prediction id: late, twice, corrected, or in any order: the same reports, the same row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import INSERT, outcomes, predictions

COLUMNS = outcomes.c
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
CHUNK = 500  # rows in one statement: databases limit its parameters


class Reported(NamedTuple):
    """One outcome as reported; a missing `known_at` means now."""

    id: str
    value: float
    known_at: datetime | None = None


@dataclass
class Result:
    """What became of each reported outcome; `unknown` ids are kept, too."""

    new: int = 0
    unchanged: int = 0
    corrected: int = 0
    unknown: list[str] = field(default_factory=list)


def possible(known_at: datetime | None, now: datetime) -> bool:
    """Whether an outcome can have become known then: not before 1970, nor after `now` on the clock of decisions."""
    return known_at is None or EARLIEST <= known_at <= now


def keep(store: Store, reported: Iterable[Reported], now: datetime) -> Result:
    """Keep outcomes in one transaction. The value that became known last counts, whatever comes first; it is known from
    the first time at which it was ever reported.

    Of two values that became known at the same moment the larger one counts: any fixed rule gives the same end.

    Args:
        store: the operations store.
        reported: checked with `possible` by the caller, who knows how to refuse.
        now: the time on the clock of decisions.
    """
    result = Result()
    # In one order, so that two writers cannot hold what the other waits for.
    rows = iter(sorted(reported, key=lambda outcome: outcome.id))
    with store.engine.begin() as connection:
        for chunk in _chunks(rows):
            inserted = _insert(connection, chunk, now)
            result.new += len(inserted)
            for outcome in chunk:
                if outcome.id in inserted:
                    inserted.remove(outcome.id)  # the first report of an id is inserted
                else:
                    kind = _amend(connection, outcome, now)
                    setattr(result, kind, getattr(result, kind) + 1)
            ids = {outcome.id for outcome in chunk}
            result.unknown += sorted(ids - _logged(connection, ids))
    result.unknown = sorted(set(result.unknown))
    return result


def _chunks(rows: Iterator[Reported]) -> Iterator[list[Reported]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk


def _insert(connection: sa.Connection, chunk: list[Reported], now: datetime) -> set[str]:
    """Insert the ids that are not known yet; returns them."""
    values = [
        {
            "problem": problem.NAME,
            "id": outcome.id,
            "value": outcome.value,
            "known_at": outcome.known_at or now,
            "confirmed_at": outcome.known_at or now,
            "recorded_at": datetime.now(UTC),
        }
        for outcome in chunk
    ]
    insert = INSERT[connection.dialect.name](outcomes).on_conflict_do_nothing().returning(COLUMNS.id)
    return set(connection.scalars(insert, values))  # not `insert.values(…)`, which is compiled again for each call


def _amend(connection: sa.Connection, outcome: Reported, now: datetime) -> str:
    """Bring a known outcome up to date; returns `corrected` or `unchanged`."""
    known_at = outcome.known_at or now
    same = (COLUMNS.problem == problem.NAME) & (COLUMNS.id == outcome.id)
    old = connection.execute(sa.select(outcomes).where(same).with_for_update()).one()
    # The first and the last time of each value that was ever reported: they are the same in whatever order reports come.
    times = {float(value): tuple(map(datetime.fromisoformat, both)) for value, both in (old.other_values or {}).items()}
    times[old.value] = (old.known_at, old.confirmed_at)
    first, last = times.get(outcome.value, (known_at, known_at))
    times[outcome.value] = (min(first, known_at), max(last, known_at))
    value = max(times, key=lambda value: (times[value][1], value))
    first, last = times.pop(value)
    changes: dict[str, Any] = {"value": value, "known_at": first, "confirmed_at": last}
    if times:
        changes["other_values"] = {str(other): [at.isoformat() for at in both] for other, both in times.items()}
    if value != old.value:
        changes["corrected_at"] = datetime.now(UTC)
    connection.execute(outcomes.update().where(same).values(changes))
    return "corrected" if value != old.value else "unchanged"


def _logged(connection: sa.Connection, ids: set[str]) -> set[str]:
    logged = (predictions.c.problem == problem.NAME) & predictions.c.id.in_(sorted(ids))
    return set(connection.scalars(sa.select(predictions.c.id).where(logged)))
