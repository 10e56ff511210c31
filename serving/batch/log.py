"""Predictions of files in the prediction log, under an arm of their own, so that they are monitored as those of the service are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import Bundle
from level1_pipeline.errors import InputFileRefused
from level1_pipeline.schema.scores import logged
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import BATCH
from level1_pipeline.store.tables import INSERT, predictions

ROWS_IN_TRANSACTION = 5000


@dataclass(frozen=True)
class BatchLog:
    """Where predictions of files are logged, and as of when."""

    store: Store
    version: str
    at: datetime  # on the clock of decisions

    def write(
        self, ids: pa.Table, inputs: schema.Columns, scores: np.ndarray, model: Bundle, milliseconds: float
    ) -> None:
        """Log the rows of a chunk. An id that was logged in this arm before stays as it is.

        Args:
            ids: n rows with the problem's ID.
            inputs: their n rows of inputs.
            scores: theirs; shape (n,), or (n, classes).
            model: what scored them.
            milliseconds: what the model took for them together.

        Raises:
            InputFileRefused: the input has no ids, under which outcomes could find their predictions.
        """
        if problem.ID not in ids.column_names:
            raise InputFileRefused(
                f"the input has no column {problem.ID}, so its predictions cannot be logged; leave out --log"
            )
        common = {
            "problem": problem.NAME,
            "arm": BATCH,
            "version": self.version,
            "at": self.at,
            "recorded_at": datetime.now(UTC),
            "latency_ms": milliseconds,
            "checksum": model.checksum,
        }
        names, records = ids[problem.ID].cast(pa.string()).to_pylist(), schema.records(schema.to_frame(inputs))
        rows = [
            common | {"id": name, "entity_id": name, "record": record, **logged(score)}
            for name, record, score in zip(names, records, scores.tolist(), strict=True)
        ]
        for start in range(0, len(rows), ROWS_IN_TRANSACTION):
            self._insert(rows[start : start + ROWS_IN_TRANSACTION])

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        with self.store.engine.begin() as connection:
            connection.execute(INSERT[connection.dialect.name](predictions).on_conflict_do_nothing(), rows)
