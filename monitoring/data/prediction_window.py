"""The prediction log of a window, read as a stream: exact sums by day and slice, and a bounded sample of rows.

Memory does not grow with the log. Counts, and the day summaries that drift and data faults are judged
by, are exact; what needs single rows (metrics, re-scoring by other versions) rests on at most `CAP`
rows of a version and arm, chosen by a hash of the id: the same rows in every pass.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.store.database import Store
from level1_pipeline.store.quarantine import Quarantined, covers
from level1_pipeline.store.tables import outcomes, predictions
from monitoring.data.aggregates import Aggregates, plus, tally
from monitoring.results import Coverage, Window

CHUNK = 20_000  # rows in memory at a time
CAP = 50_000  # rows kept of a version and arm
SHADOW, CHAMPION = "shadow", "champion"
KEYS = ["id", "arm", "version", "at", "score", "latency_ms", "value"]


@dataclass
class Answers:
    """What one version said in one arm: exact counts, and a sample of the rows. Without a score it said nothing."""

    version: str
    arm: str
    predictions: int = 0
    matured: int = 0
    open: int = 0
    errors: int = 0
    quarantined: int = 0
    limit: int = 2**32  # rows whose hash lies below it are kept
    parts: list[pd.DataFrame] = field(default_factory=list)
    counts: pd.DataFrame | None = None  # exact, by slice and day: predictions, matured, open

    @property
    def coverage(self) -> Coverage:
        """Exact, whatever was sampled."""
        never = self.predictions - self.matured - self.open
        return Coverage(self.predictions, self.matured, self.open, never, self.quarantined)

    @property
    def sampled(self) -> float:
        """The share of the rows that `rows` holds."""
        return self.limit / 2**32

    @cached_property
    def asked(self) -> pd.DataFrame:
        """The sample, ordered by time: the Record's columns, KEYS, EVENT_TIME, TARGET (NaN if not matured), `day`."""
        return pd.concat(self.parts, ignore_index=True) if self.parts else pd.DataFrame()

    @property
    def rows(self) -> pd.DataFrame:
        """Of the sample those with a score."""
        return self.asked[self.asked["score"].notna()] if len(self.asked) else self.asked

    @property
    def matured_rows(self) -> pd.DataFrame:
        """Of these those with a matured outcome."""
        rows = self.rows
        return rows[rows[problem.TARGET].notna()] if len(rows) else rows

    def add(self, chunk: pd.DataFrame) -> None:
        """Count all rows, keep the sample's."""
        said = chunk[chunk["score"].notna()]
        self.predictions += len(said)
        self.matured += int(said[problem.TARGET].notna().sum())
        self.open += int(said["open"].sum())
        self.errors += len(chunk) - len(said)
        self.counts = plus(self.counts, tally(said)) if len(said) else self.counts
        kept = chunk if self.arm == CHAMPION else said
        self.parts.append(kept[kept["hash"] < self.limit])
        while sum(map(len, self.parts)) > CAP:
            self.limit //= 2
            self.parts = [part[part["hash"] < self.limit] for part in self.parts]


@dataclass
class Log:
    """A window of the prediction log."""

    window: Window
    sums: Aggregates  # of what was asked (champion and canary), by day, and by day and slice
    answers: dict[tuple[str, str], Answers]

    @property
    def rows(self) -> pd.DataFrame:
        """The sample of what was asked, by all versions that answer somebody, ordered by time. No score, no answer."""
        kept = [one.asked for (_, arm), one in self.answers.items() if arm != SHADOW and len(one.asked)]
        return pd.concat(kept, ignore_index=True).sort_values("at", ignore_index=True) if kept else pd.DataFrame()

    @property
    def coverage(self) -> Coverage:
        """Of everything that was answered."""
        each = [one.coverage for (_, arm), one in self.answers.items() if arm != SHADOW]
        return Coverage(*(sum(getattr(one, name) for one in each) for name in Coverage.__dataclass_fields__))


def last_days(now: datetime, days: int) -> Window:
    """The last whole local days before `now`."""
    midnight = pd.Timestamp(now).tz_convert(problem.TIMEZONE).normalize()
    return between(midnight - pd.DateOffset(days=days), midnight)


def before(window: Window, days: int) -> Window:
    """The local days before a window."""
    start = pd.Timestamp(window.start).tz_convert(problem.TIMEZONE)
    return between(start - pd.DateOffset(days=days), start)


def between(start: pd.Timestamp, end: pd.Timestamp) -> Window:
    """A window from aware timestamps of any zone."""
    return Window(*(time.tz_convert("UTC").to_pydatetime() for time in (start, end)))


def read(store: Store, window: Window, now: datetime, hidden: tuple[Quarantined, ...] = ()) -> Log:
    """Stream the log of a window, with the outcomes that were known at `now`.

    An outcome counts only when all of its age have matured: until then the early ones are a biased
    sample (of flights, those that were not late).
    """
    log = Log(window, Aggregates(), {})
    for chunk in _chunks(store, window, now):
        covered, said = covers(chunk, hidden), chunk["score"].notna()
        for key, rows in chunk.groupby(["version", "arm"], sort=False):
            version, arm = str(key[0]), str(key[1])
            answers = log.answers.setdefault((version, arm), Answers(version, arm))
            answers.quarantined += int((covered & said)[rows.index].sum())
            answers.add(rows[~covered[rows.index]])
        # What the champion failed on was asked: its inputs may be why. Where a canary failed, the champion was asked.
        asked = said & (chunk["arm"] != SHADOW) | (chunk["arm"] == CHAMPION)
        log.sums.add(chunk[asked & ~covered])
    return log


def of_rows(rows: pd.DataFrame, window: Window, version: str = "") -> Log:
    """A log of rows that were made by the training code: there are no scores. Without a version, nobody asked."""
    during = (rows[problem.EVENT_TIME] >= window.start) & (rows[problem.EVENT_TIME] < window.end)
    table = rows[during].reset_index(drop=True)
    table["at"] = table[problem.EVENT_TIME]
    table["day"] = _local_day(table["at"])
    fixed = {"score": np.nan, "latency_ms": np.nan, "open": False, "hash": 0, "arm": CHAMPION, "version": version}
    table = table.assign(id=table[problem.ID], **fixed)
    log, answers = Log(window, Aggregates(), {}), Answers(version, CHAMPION)
    log.sums.add(table)
    if len(table):
        answers.add(table.sample(min(CAP, len(table)), random_state=0).sort_index())
        log.answers = {(version, CHAMPION): answers}
    return log


def _chunks(store: Store, window: Window, now: datetime) -> Iterator[pd.DataFrame]:
    p, o = predictions.c, outcomes.c
    known = (o.problem == p.problem) & (o.id == p.id) & (o.known_at <= now)
    query = (
        # The text of the record, because one parse of a whole chunk is several times faster than one of each row.
        sa.select(p.id, p.arm, p.version, p.at, p.score, p.latency_ms, o.value, sa.cast(p.record, sa.Text))
        .select_from(predictions.outerjoin(outcomes, known))
        .where(p.problem == problem.NAME, p.at >= window.start, p.at < window.end)
        .order_by(p.at, p.id)
    )
    reading = {"reads_only": True, "stream_results": True, "yield_per": CHUNK}
    with store.engine.connect().execution_options(**reading) as connection:
        for rows in connection.execute(query).partitions(CHUNK):
            yield _chunk(list(zip(*rows, strict=True)), now)


def _chunk(columns: list[Any], now: datetime) -> pd.DataFrame:
    *keys, records = columns
    table = schema.frame(json.loads(f"[{','.join(records)}]"))
    for name, values in zip(KEYS, keys, strict=True):
        table[name] = values
    table["at"] = pd.to_datetime(table["at"], utc=True)
    table[["score", "value", "latency_ms"]] = table[["score", "value", "latency_ms"]].astype("float64")
    table[problem.EVENT_TIME] = table["at"]
    table["day"] = _local_day(table["at"])
    table["open"] = table["at"] > now - timedelta(hours=problem.GATE["maturity_hours"])
    table[problem.TARGET] = table["value"].where(~table["open"])
    table["hash"] = [zlib.crc32(one.encode()) for one in table["id"]]
    return table


def _local_day(times: pd.Series) -> pd.Series:
    return times.dt.tz_convert(problem.TIMEZONE).dt.date
