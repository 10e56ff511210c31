"""Outcomes from files: many at once, late, twice or corrected, from whatever system knows what really happened."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from level1_pipeline import problem
from level1_pipeline.errors import OutcomeFileRefused
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep, possible

CHUNK_ROWS = 20_000  # rows in memory, and in one transaction
EXAMPLES_SHOWN = 10  # bad rows that are shown
NEEDED = {"id", "value"}
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


def ingest(store: Store, path: Path, now: datetime) -> Report:
    """Keep the outcomes of a CSV or Parquet file with the columns `id`, `value` and, if wanted, `known_at`.

    Bad rows are counted with their reason and not kept; all others are. The file again changes nothing.

    Args:
        store: the operations store.
        path: a file whose name ends with .csv or .parquet.
        now: the time on the clock of decisions; a missing `known_at` means now.

    Raises:
        OutcomeFileRefused: no such file or format, columns missing, or a damaged file.
    """
    report, rows = Report(), enumerate(_rows(path), 1)
    try:
        while chunk := list(islice(rows, CHUNK_ROWS)):
            _keep(store, chunk, now, report)
    except (csv.Error, OSError, ValueError) as error:
        if isinstance(error, OutcomeFileRefused):
            raise
        if isinstance(error, FileNotFoundError):
            raise OutcomeFileRefused(f"there is no file {path}") from error
        message = (
            f"{path} is damaged after row {report.rows} ({error}); mend it and send it again, nothing counts twice"
        )
        raise OutcomeFileRefused(message) from error
    return report


def _keep(store: Store, chunk: list[tuple[int, dict[str, Any]]], now: datetime, report: Report) -> None:
    good = []
    for number, row in chunk:
        checked = check(row, now)
        if isinstance(checked, Reported):
            good.append(checked)
            continue
        report.bad[checked] += 1
        if len(report.examples) < EXAMPLES_SHOWN:
            report.examples.append(f"row {number}: {checked}")
    result = keep(store, good, now)
    report.rows += len(chunk)
    report.unknown += len(result.unknown)
    for kind in ("new", "unchanged", "corrected"):
        setattr(report, kind, getattr(report, kind) + getattr(result, kind))


def check(row: dict[Any, Any], now: datetime) -> Reported | str:
    """The outcome that a row holds, or the reason why it holds none."""
    name, known_at = str(row.get("id") or ""), row.get("known_at") or None
    if None in row:
        return "has more fields than the header"
    if not IDENTIFIER.fullmatch(name):
        return "id is not 1 to 128 printable ASCII characters"
    try:
        value = float(row["value"])
    except (TypeError, ValueError):
        return "value is no number"
    if problem.TASK == "classification" and value not in (0, 1):
        return f"value is neither 0 nor 1, and {problem.TARGET} is one of them"
    if not math.isfinite(value):
        return "value is not finite"
    try:
        known_at = datetime.fromisoformat(known_at) if isinstance(known_at, str) else known_at
        aware = known_at is None or known_at.tzinfo is not None
    except (AttributeError, ValueError):
        aware = False
    if not aware:
        return "known_at is no time with a UTC offset, as in 2013-04-01T12:00:00-04:00"
    if not possible(known_at, now):
        return f"known_at is not between 1970 and {now.isoformat(timespec='seconds')}, the time on the clock"
    return Reported(name, value, known_at)


def _rows(path: Path) -> Iterator[dict[Any, Any]]:
    match path.suffix.lower():
        case ".csv":
            return _csv(path)
        case ".parquet":
            return _parquet(path)
    raise OutcomeFileRefused(f"{path.name} is neither .csv nor .parquet; write the outcomes in one of these formats")


def _csv(path: Path) -> Iterator[dict[Any, Any]]:
    # Bytes that are no UTF-8 become a sign that no id may have, so that only their row is bad.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        _demand(path, reader.fieldnames or [])
        yield from reader


def _parquet(path: Path) -> Iterator[dict[Any, Any]]:
    import pyarrow.parquet as pq

    with path.open("rb") as opened:
        file = pq.ParquetFile(opened)
        _demand(path, file.schema_arrow.names)
        wanted = [name for name in file.schema_arrow.names if name in {*NEEDED, "known_at"}]
        for batch in file.iter_batches(CHUNK_ROWS, columns=wanted):
            yield from batch.to_pylist()


def _demand(path: Path, columns: Any) -> None:
    missing = sorted(NEEDED - set(columns))
    if missing:
        message = (
            f"{path.name} has no column {' and no column '.join(missing)}; it needs id, value and perhaps known_at"
        )
        raise OutcomeFileRefused(message)
