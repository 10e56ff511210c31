"""The Record of the problem as plain columns, frames and records, and one vectorised check of rows.

What belongs here is derived from `problem.Record`, and from nothing else. Every package may import it.
"""

from level1_pipeline.schema.checks import Violation, column_violations, reasons, violations
from level1_pipeline.schema.record import Column, Kind, columns, dtypes, names
from level1_pipeline.schema.tables import Columns, Texts, frame, from_frame, records, take, texts, to_frame
from level1_pipeline.schema.typed_rows import typed
from level1_pipeline.schema.values import as_given, as_json, as_number, json_record, model_records, with_dates

__all__ = [
    "Column",
    "Columns",
    "Kind",
    "Texts",
    "Violation",
    "as_given",
    "as_json",
    "as_number",
    "column_violations",
    "columns",
    "dtypes",
    "frame",
    "from_frame",
    "json_record",
    "model_records",
    "names",
    "reasons",
    "records",
    "take",
    "texts",
    "to_frame",
    "typed",
    "violations",
    "with_dates",
]
