"""The Record of the problem as plain columns, frames and records, and one vectorised check of rows.

What belongs here is derived from `problem.Record`, and from nothing else. Every package may import it.
"""

from level1_pipeline.schema.checks import Violation, column_violations, reasons, violations
from level1_pipeline.schema.record import Column, columns, dtypes, names
from level1_pipeline.schema.tables import Columns, Texts, frame, from_frame, records, take, texts, to_frame

__all__ = [
    "Column",
    "Columns",
    "Texts",
    "Violation",
    "column_violations",
    "columns",
    "dtypes",
    "frame",
    "from_frame",
    "names",
    "reasons",
    "records",
    "take",
    "texts",
    "to_frame",
    "violations",
]
