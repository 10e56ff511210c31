"""Outcomes from files: many at once, late, twice or corrected, from whatever system knows what really happened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from level1_pipeline.errors import MLOpsError, OutcomeFileRefused
from level1_pipeline.inputs.csv_file import ROW, CsvFile, Fault, is_csv, is_missing, number, truth
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep, possible

CHUNK_ROWS = 20_000  # rows in memory, and in one transaction
EXAMPLES_SHOWN = 10  # bad rows that are shown
NEEDED, TIME = ("id", "value"), "known_at"
IDENTIFIER = re.compile("[!-~]{1,128}")  # as the service takes them


@dataclass
class Report:
    """What became of the rows of a file."""

    rows: int = 0
    new: int = 0
    unchanged: int = 0
    corrected: int = 0
    unknown: int = 0  # kept, but of no logged prediction (yet)
    bad: Counter[str] = field(default_factory=Counter)  # not kept: how many rows for each reason
    examples: list[str] = field(default_factory=list)  # of bad rows, with their number in the file

    @property
    def kept(self) -> int:
        """Rows whose outcome is in the store now, whoever brought it first."""
        return self.rows - self.bad.total()

    def add_bad(self, row: str, reason: str) -> None:
        """Count a row that is not kept."""
        self.bad[reason] += 1
        if len(self.examples) < EXAMPLES_SHOWN:
            self.examples.append(f"row {row}: {reason}")


def is_readable(path: Path) -> bool:
    """Whether the name says that it is one of the formats that are read."""
    return is_csv(path) or path.suffix.lower() == ".parquet"


def ingest(store: Store, path: Path, now: datetime) -> Report:
    """Keep the outcomes of a CSV or Parquet file with the columns `id`, `value` and, if wanted, `known_at`.

    Bad rows are counted with their reason and not kept; all others are. The file again changes nothing.

    Args:
        store: the operations store.
        path: a file whose name ends with .csv, .csv.gz or .parquet.
        now: the time on the clock of decisions; a missing `known_at` means now.

    Raises:
        OutcomeFileRefused: no such file or format, wrong columns, or damaged or changed meanwhile. Nothing is kept.
    """
    if not is_readable(path):
        raise OutcomeFileRefused(
            f"{path.name} is neither .csv nor .parquet (.csv.gz is read, too); write it as one of them"
        )
    report = Report()
    try:
        before = _state(path)
        for _ in _tables(path):  # all of it can be read, or nothing is kept
            pass
        if _state(path) != before:
            raise OutcomeFileRefused(f"{path} changed while it was read; send it when it is complete")
        for table, faults in _tables(path):
            for start in range(0, len(table), CHUNK_ROWS):
                _keep(store, table.slice(start, CHUNK_ROWS).to_pylist(), now, report)
            for fault in faults:
                report.rows += 1
                report.add_bad(f"{fault.row} (line {fault.line})", fault.reason)
    except FileNotFoundError as error:
        raise OutcomeFileRefused(f"there is no file {path}") from error
    except (ValueError, OSError, pa.ArrowException) as error:
        if isinstance(error, MLOpsError):
            raise
        message = f"{path} is damaged ({error}); nothing of it was kept; mend it and send it again"
        raise OutcomeFileRefused(message) from error
    return report


def _state(path: Path) -> tuple[int, int]:
    """What changes when somebody writes into the file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _keep(store: Store, rows: list[dict[str, Any]], now: datetime, report: Report) -> None:
    good = []
    for row in rows:
        checked = check(row, now)
        if isinstance(checked, Reported):
            good.append(checked)
        else:
            report.add_bad(str(row[ROW]), checked)
    result = keep(store, good, now)
    report.rows += len(rows)
    report.unknown += len(result.unknown)
    for kind in ("new", "unchanged", "corrected"):
        setattr(report, kind, getattr(report, kind) + getattr(result, kind))


def check(row: dict[Any, Any], now: datetime) -> Reported | str:
    """The outcome that a row holds, or the reason why it holds none."""
    name, known_at = "" if row["id"] is None else str(row["id"]), row.get(TIME)
    if not IDENTIFIER.fullmatch(name):
        return "id is not 1 to 128 printable ASCII characters"
    try:
        value = task().label(row["value"]) if classes() else _as_float(row["value"])
    except (TypeError, ValueError):
        return "value is no number"
    if wrong := task().wrong_label(value):
        return wrong
    try:
        if isinstance(known_at, str):
            known_at = None if is_missing(known_at) else datetime.fromisoformat(known_at)
        aware = known_at is None or known_at.tzinfo is not None
    except (AttributeError, ValueError):
        aware = False
    if not aware:
        return "known_at is no time with a UTC offset, as in 2013-04-01T12:00:00-04:00"
    if not possible(known_at, now):
        return f"known_at is not between 1970 and {now.isoformat(timespec='seconds')}, the time on the clock"
    return Reported(name, value, known_at)


def _as_float(value: Any) -> float:
    """A value of whatever type a file holds. Raises TypeError or ValueError for one that is no number."""
    if isinstance(value, str):
        value = number(value)
        if isinstance(value, str) and task().has_event:
            value = truth(value)
        if isinstance(value, str):
            raise ValueError(f"{value} is no number")
    return float(value)


def _tables(path: Path) -> Iterator[tuple[pa.Table, list[Fault]]]:
    """The rows of a file, with their numbers, and the lines that are no rows."""
    if is_csv(path):
        csv, told = CsvFile(path), 0
        for table in csv.tables(_wanted(path, csv.names)):
            yield table, csv.faults[told:]
            told = len(csv.faults)
        return
    with path.open("rb") as opened:
        file, read = pyarrow.parquet.ParquetFile(opened), 0
        for batch in file.iter_batches(CHUNK_ROWS, columns=_wanted(path, file.schema_arrow.names)):
            rows = pa.array(np.arange(read + 1, read + 1 + len(batch)))
            read += len(batch)
            yield pa.Table.from_batches([batch]).append_column(ROW, rows), []


def _wanted(path: Path, columns: list[str]) -> list[str]:
    """The columns that are read."""
    needs = "it needs id, value and perhaps known_at"
    if missing := [name for name in NEEDED if name not in columns]:
        raise OutcomeFileRefused(f"{path.name} has no column {' and no column '.join(missing)}; {needs}")
    wanted = [name for name in (*NEEDED, TIME) if name in columns]
    if twice := [name for name in wanted if columns.count(name) > 1]:
        raise OutcomeFileRefused(f"{path.name} has more than one column {' and '.join(twice)}; {needs}, one of each")
    return wanted
