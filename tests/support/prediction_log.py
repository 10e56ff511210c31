"""Lines of the prediction log and outcomes, written as the service writes them, and many at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import outcomes, predictions

USUAL = {
    "entity_id": "UA1",
    "arm": "champion",
    "version": "1",
    "error": None,
    "latency_ms": 1.0,
}


def log_predictions(store: Store, lines: Iterable[dict[str, Any]]) -> None:
    """Write lines that give `id`, `at`, `record`, `score`, and whatever is not as USUAL."""
    rows = [USUAL | {"problem": problem.NAME, "recorded_at": line["at"]} | line for line in lines]
    with store.engine.begin() as connection:
        connection.execute(sa.insert(predictions), rows)


def log_outcomes(store: Store, lines: Iterable[dict[str, Any]]) -> None:
    """Write new outcomes that give `id`, `value` and `known_at`."""
    now = datetime.now(UTC)
    rows = [{"problem": problem.NAME, "confirmed_at": line["known_at"], "recorded_at": now} | line for line in lines]
    with store.engine.begin() as connection:
        connection.execute(sa.insert(outcomes), rows)
