"""What really happened, by prediction id, whenever it becomes known: late, twice, corrected, or in any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store import Store
from level1_pipeline.tables import outcomes, predictions
from serving.bodies import Outcome
from serving.errors import Detail, Refusal
from serving.log import INSERT

COLUMNS = outcomes.c
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
CHUNK = 500  # ids in one query: databases limit the parameters of a statement


@dataclass
class Result:
    """What became of each posted outcome; `unknown` ids are kept, too."""

    new: int = 0
    unchanged: int = 0
    corrected: int = 0
    unknown: list[str] = field(default_factory=list)


def ingest(store: Store, posted: list[Outcome], now: datetime) -> Result:
    """Keep outcomes. The value that became known last counts, so any order of arrival gives the same end.

    Args:
        store: the operations store.
        posted: what came; a missing `known_at` means now.
        now: the time on the clock of decisions.

    Raises:
        Refusal: one of them lies in the future of that clock (409); then none is kept.
    """
    _refuse_impossible_times(posted, now)
    result = Result()
    with store.engine.begin() as connection:
        # In one order, so that two requests cannot hold what the other waits for.
        for one in sorted(posted, key=lambda one: one.id):
            row = {"problem": problem.NAME, "id": one.id, "value": float(one.value), "known_at": one.known_at or now}
            kind = _upsert(connection, row)
            setattr(result, kind, getattr(result, kind) + 1)
        known = _logged(connection, [one.id for one in posted])
    result.unknown = sorted({one.id for one in posted} - known)
    return result


def unknown(store: Store) -> list[dict[str, Any]]:
    """Outcomes without a logged prediction: kept apart by every query that joins the two tables."""
    same = (predictions.c.problem == COLUMNS.problem) & (predictions.c.id == COLUMNS.id)
    orphans = sa.select(outcomes).where(COLUMNS.problem == problem.NAME, ~sa.exists().where(same))
    with store.engine.begin() as connection:
        return [dict(row._mapping) for row in connection.execute(orphans.order_by(COLUMNS.id))]


def _upsert(connection: sa.Connection, row: dict[str, Any]) -> str:
    now = datetime.now(UTC)
    insert = INSERT[connection.dialect.name](outcomes).values(**row, confirmed_at=row["known_at"], recorded_at=now)
    if connection.execute(insert.on_conflict_do_nothing().returning(COLUMNS.id)).first():
        return "new"
    mine = (COLUMNS.problem == row["problem"]) & (COLUMNS.id == row["id"])
    old = connection.execute(sa.select(outcomes).where(mine).with_for_update()).one()
    changes: dict[str, Any] = {"confirmed_at": max(old.confirmed_at, row["known_at"])}
    corrected = row["value"] != old.value and row["known_at"] >= old.confirmed_at
    if corrected:
        changes |= {"value": row["value"], "known_at": row["known_at"], "corrected_at": now}
    elif row["value"] == old.value:
        changes["known_at"] = min(old.known_at, row["known_at"])
    connection.execute(outcomes.update().where(mine).values(changes))
    return "corrected" if corrected else "unchanged"


def _logged(connection: sa.Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), CHUNK):
        some = predictions.c.id.in_(ids[start : start + CHUNK])
        found |= set(connection.scalars(sa.select(predictions.c.id).where(predictions.c.problem == problem.NAME, some)))
    return found


def _refuse_impossible_times(posted: list[Outcome], now: datetime) -> None:
    """409 rather than 422: it is the clock that decides, and the same request may be right later."""
    rule = f"from {EARLIEST:%Y} to {now.isoformat()}, the time on the clock"
    wrong = [
        Detail(field=f"[{place}].known_at", rule=rule, value=one.known_at.isoformat())
        for place, one in enumerate(posted)
        if one.known_at and not EARLIEST <= one.known_at <= now
    ]
    if wrong:
        raise Refusal(409, "an outcome cannot be known before it happens; nothing of this request was kept", wrong)
