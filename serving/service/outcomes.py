"""What really happened, as it is posted over HTTP; `level1_pipeline.outcomes` keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import COLUMNS, EARLIEST, Reported, Result, keep, possible
from level1_pipeline.store.tables import outcomes, predictions
from serving.errors import Detail, Refusal
from serving.schemas import Outcome

__all__ = ["Result", "ingest", "unknown"]


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
    return keep(store, [Reported(one.id, float(one.value), one.known_at) for one in posted], now)


def unknown(store: Store) -> list[dict[str, Any]]:
    """Outcomes without a logged prediction: kept apart by every query that joins the two tables."""
    same = (predictions.c.problem == COLUMNS.problem) & (predictions.c.id == COLUMNS.id)
    orphans = sa.select(outcomes).where(COLUMNS.problem == problem.NAME, ~sa.exists().where(same))
    with store.engine.begin() as connection:
        return [dict(row._mapping) for row in connection.execute(orphans.order_by(COLUMNS.id))]


def _refuse_impossible_times(posted: list[Outcome], now: datetime) -> None:
    """409 rather than 422: it is the clock that decides, and the same request may be right later."""
    rule = f"from {EARLIEST:%Y} to {now.isoformat()}, the time on the clock"
    wrong = [
        Detail(field=f"[{place}].known_at", rule=rule, value=one.known_at.isoformat())
        for place, one in enumerate(posted)
        if one.known_at and not possible(one.known_at, now)
    ]
    if wrong:
        raise Refusal(409, "an outcome cannot be known before it happens; nothing of this request was kept", wrong)
