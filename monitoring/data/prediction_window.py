"""The prediction log of a window, read as a stream: exact sums by day and slice, and a bounded sample of rows.

Memory does not grow with the log. Counts, and the day summaries that drift and data faults are judged
by, are exact; what needs single rows (metrics, re-scoring by other versions) rests on at most
SAMPLE_MAX_ROWS of a version and arm, chosen by a hash of the id: the same rows in every run.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.schema.scores import finite, from_columns, from_log
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of, start_of
from level1_pipeline.store.quarantine import LABELS, Quarantined, covers, without_labels
from level1_pipeline.store.tables import outcomes, predictions
from monitoring.data.aggregates import Aggregates, plus, tally
from monitoring.results import Coverage, Window
from monitoring.thresholds import REFERENCE_MIN_DAYS

CHUNK_ROWS = 20_000  # in memory at a time
SAMPLE_MAX_ROWS = 50_000  # kept of a version and arm
SHADOW, CHAMPION = "shadow", "champion"
KEYS = ["id", "arm", "version", "at", "score", "latency_ms", "value", "known_at", "corrected"]


@dataclass
class Answers:
    """How one version answered in one arm: exact counts, and a sample of the rows. A row without a score is an error."""

    version: str
    arm: str
    predictions: int = 0
    matured: int = 0
    open: int = 0
    errors: int = 0
    quarantined: int = 0
    labels_quarantined: int = 0
    limit: int = 2**32  # rows whose hash lies below it are kept
    parts: list[pd.DataFrame] = field(default_factory=list)
    counts: pd.DataFrame | None = None  # exact, by slice and day: predictions, matured, open

    @property
    def coverage(self) -> Coverage:
        """Exact, whatever was sampled."""
        never = self.predictions - self.matured - self.open - self.labels_quarantined
        return Coverage(self.predictions, self.matured, self.open, never, self.quarantined, self.labels_quarantined)

    @property
    def sampled(self) -> float:
        """The share of the rows that `rows` holds."""
        return self.limit / 2**32

    @cached_property
    def requests(self) -> pd.DataFrame:
        """The sample, ordered by time: the Record's columns, KEYS, EVENT_TIME, `day`, `open`, TARGET (NaN if not matured,
        or in quarantine; `value` is what was reported)."""
        return pd.concat(self.parts, ignore_index=True) if self.parts else pd.DataFrame()

    @property
    def rows(self) -> pd.DataFrame:
        """Of the sample those with a score."""
        return self.requests[self.requests["score"].notna()] if len(self.requests) else self.requests

    @property
    def matured_rows(self) -> pd.DataFrame:
        """Of these those with a matured outcome."""
        rows = self.rows
        return rows[rows[problem.TARGET].notna()] if len(rows) else rows

    def add(self, chunk: pd.DataFrame) -> None:
        """Count all rows, keep the sample's."""
        scored = chunk[chunk["score"].notna()]
        self.predictions += len(scored)
        self.matured += int(scored[problem.TARGET].notna().sum())
        self.open += int(scored["open"].sum())
        self.labels_quarantined += int(scored["label_hidden"].sum())
        self.errors += len(chunk) - len(scored)
        self.counts = plus(self.counts, tally(scored)) if len(scored) else self.counts
        kept = chunk if self.arm == CHAMPION else scored
        self.parts.append(kept[kept["hash"] < self.limit])
        while sum(map(len, self.parts)) > SAMPLE_MAX_ROWS:
            self.limit //= 2
            self.parts = [part[part["hash"] < self.limit] for part in self.parts]


@dataclass
class Log:
    """A window of the prediction log."""

    window: Window
    sums: Aggregates  # of the requests (champion and canary), by day, and by day and slice
    answers: dict[tuple[str, str], Answers]
    broken_rules: dict[tuple[str, str], set[date]] = field(default_factory=dict)  # by column and rule of the Record

    def add(self, chunk: pd.DataFrame) -> None:
        """Count the requests of a chunk, and note on which days they break a rule of the Record."""
        self.sums.add(chunk)
        for violation in schema.violations(chunk):
            days = set(chunk["day"].to_numpy()[violation.rows])
            self.broken_rules.setdefault((violation.column, violation.rule), set()).update(days)

    @property
    def rows(self) -> pd.DataFrame:
        """The sample of the requests to all versions that answer somebody, ordered by time; errors have no score."""
        kept = [each.requests for (_, arm), each in self.answers.items() if arm != SHADOW and len(each.requests)]
        return pd.concat(kept, ignore_index=True).sort_values("at", ignore_index=True) if kept else pd.DataFrame()

    @property
    def coverage(self) -> Coverage:
        """Of everything that was answered."""
        parts = [each.coverage for (_, arm), each in self.answers.items() if arm != SHADOW]
        return Coverage(*(sum(getattr(part, name) for part in parts) for name in Coverage.__dataclass_fields__))


def can_be_reference(log: Log) -> bool:
    """Whether a log has enough days to compare others with."""
    days = 0 if log.sums.rows is None else log.sums.rows.index.get_level_values("day").nunique()
    return bool(len(log.rows)) and days >= REFERENCE_MIN_DAYS


def last_days(now: datetime, days: int) -> Window:
    """The last whole local days before `now`."""
    return whole_days(date_of(now), days)


def before(window: Window, days: int) -> Window:
    """The local days before a window."""
    return whole_days(date_of(window.start), days)


def whole_days(end: date, days: int) -> Window:
    """So many local days, the last of which is the one before `end`."""
    return Window(*(start_of(which).to_pydatetime() for which in (end - timedelta(days=days), end)))


def read(store: Store, window: Window, now: datetime, hidden: tuple[Quarantined, ...] = ()) -> Log:
    """Stream the log of a window, with the outcomes that were known at `now`.

    An outcome counts only when all of its age have matured: until then the early ones are a biased
    sample (of flights, those that were not late).
    """
    log = Log(window, Aggregates(), {})
    for chunk in _chunks(store, window, now):
        chunk["label_hidden"] = covers(chunk, hidden, LABELS) & ~chunk["open"]
        chunk = without_labels(chunk, hidden)
        covered, scored = covers(chunk, hidden), chunk["score"].notna()
        for key, rows in chunk.groupby(["version", "arm"], sort=False):
            version, arm = str(key[0]), str(key[1])
            answers = log.answers.setdefault((version, arm), Answers(version, arm))
            answers.quarantined += int((covered & scored)[rows.index].sum())
            answers.add(rows[~covered[rows.index]])
        # Requests on which the champion failed count: their inputs may be why. Where a canary failed, the champion
        # answered, and its row counts.
        counted = scored & (chunk["arm"] != SHADOW) | (chunk["arm"] == CHAMPION)
        log.add(chunk[counted & ~covered])
    return log


def of_rows(rows: pd.DataFrame, window: Window, version: str = "") -> Log:
    """A log of rows that were made by the training code: there are no scores. Without a version, nobody requested them."""
    during = (rows[problem.EVENT_TIME] >= window.start) & (rows[problem.EVENT_TIME] < window.end)
    table = rows[during].reset_index(drop=True)
    table["at"] = table[problem.EVENT_TIME]
    table["day"] = _local_day(table["at"])
    fixed = {
        **dict.fromkeys([*task().columns(), "score", "latency_ms"], np.nan),
        "open": False,
        "hash": 0,
        "arm": CHAMPION,
        "version": version,
    }
    reported = {
        "value": table[problem.TARGET],
        "known_at": table[problem.LABEL_TIME],
        "label_hidden": False,
        "corrected": False,
    }
    table = table.assign(id=table[problem.ID], **fixed, **reported)
    log, answers = Log(window, Aggregates(), {}), Answers(version, CHAMPION)
    log.add(table)
    if len(table):
        answers.add(table.sample(min(SAMPLE_MAX_ROWS, len(table)), random_state=0).sort_index())
        log.answers = {(version, CHAMPION): answers}
    return log


def _chunks(store: Store, window: Window, now: datetime) -> Iterator[pd.DataFrame]:
    p, o = predictions.c, outcomes.c
    matured_by_now = (o.problem == p.problem) & (o.id == p.id) & (o.known_at <= now)
    query = (
        # The text of the record, because one parse of a whole chunk is several times faster than one of each row.
        sa.select(
            p.id,
            p.arm,
            p.version,
            p.at,
            p.score,
            p.latency_ms,
            o.value,
            o.known_at,
            o.other_values.is_not(sa.null()),
            *([sa.cast(p.scores, sa.Text)] if classes() else []),
            sa.cast(p.record, sa.Text),
        )
        .select_from(predictions.outerjoin(outcomes, matured_by_now))
        .where(p.problem == problem.NAME, p.at >= window.start, p.at < window.end)
        .order_by(p.at, p.id)
    )
    reading = {"reads_only": True, "stream_results": True, "yield_per": CHUNK_ROWS}
    with store.engine.connect().execution_options(**reading) as connection:
        for rows in connection.execute(query).partitions(CHUNK_ROWS):
            yield _chunk(list(zip(*rows, strict=True)), now)


def _chunk(columns: list[Any], now: datetime) -> pd.DataFrame:
    *keys, records = columns
    table = schema.frame(json.loads(f"[{','.join(records)}]"))
    if classes():
        table = table.assign(**from_log(keys.pop()))
    for name, values in zip(KEYS, keys, strict=True):
        table[name] = values
    table["at"] = pd.to_datetime(table["at"], utc=True)
    table["known_at"] = pd.to_datetime(table["known_at"], utc=True)
    table[["score", "value", "latency_ms"]] = table[["score", "value", "latency_ms"]].astype("float64")
    table[problem.EVENT_TIME] = table["at"]
    table["day"] = _local_day(table["at"])
    table["open"] = table["at"] > now - timedelta(hours=problem.GATE["maturity_hours"])
    table[problem.TARGET] = table["value"].where(~table["open"])
    table["hash"] = [zlib.crc32(name.encode()) for name in table["id"]]
    if classes():  # answers from before CLASSES changed say nothing about these
        table = table[table["score"].isna() | finite(from_columns(table))].reset_index(drop=True)
    return table


def _local_day(times: pd.Series) -> pd.Series:
    return times.dt.tz_convert(problem.TIMEZONE).dt.date
