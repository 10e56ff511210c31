"""What the champion's decisions have cost and saved since its promotion, counted exactly and not on a sample.

Labels of the last weeks may still come, be corrected or be set apart, so each monitoring run counts these weeks again.
Older rows are counted once, and their sum goes on from run to run: it outlives the retention, and a run does not read
the whole log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.decisions import Decisions, SincePromotion, count, prices
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from level1_pipeline.store.quarantine import LABELS, Quarantined, covers
from level1_pipeline.store.tables import outcomes, predictions
from monitoring.data.prediction_window import CHUNK_ROWS, SHADOW, whole_days
from monitoring.results import MonitoringRun, Release, Window

SETTLED_DAYS = 28  # before the window's end; older labels are taken as final


def since_promotion(
    store: Store,
    window: Window,
    now: datetime,
    release: Release | None,
    quarantined: tuple[Quarantined, ...] = (),
    earlier_run: MonitoringRun | None = None,
) -> SincePromotion | None:
    """Count what the released version answered since then, as far as all labels have matured at `now`.

    A data fault does not hide a row: its label is right, and what the decision cost was paid. A label in quarantine does.

    Args:
        store: the operations store.
        window: of the monitoring run; nothing after its end counts.
        now: on the clock of decisions.
        release: the champion's; None before there is any.
        quarantined: spans that are set apart.
        earlier_run: the newest run over an earlier window; its sum of settled rows goes on, if it is of the same release.

    Returns:
        None without a release, or where the problem has no COSTS.
    """
    if release is None or prices() is None:
        return None
    until = max(release.at, min(window.end, now - timedelta(hours=problem.GATE["maturity_hours"])))
    settled_until, settled = release.at, Decisions()
    if earlier_run and earlier_run.dollars and earlier_run.dollars.since == release.at:
        settled_until, settled = earlier_run.dollars.settled_until, earlier_run.dollars.settled
    border = min(until, max(settled_until, whole_days(date_of(window.end), SETTLED_DAYS).start))
    settled += _counted(store, release.version, Window(settled_until, border), now, quarantined)
    newer = _counted(store, release.version, Window(border, until), now, quarantined)
    return SincePromotion(release.at, until, settled + newer, border, settled)


def _counted(
    store: Store, version: str, span: Window, now: datetime, quarantined: tuple[Quarantined, ...]
) -> Decisions:
    """The decisions of a version whose outcome was known at `now`, without labels in quarantine."""
    during = (mark for mark in quarantined if mark.what == LABELS and mark.start < span.end and mark.end > span.start)
    hidden, total = tuple(during), Decisions()
    for rows in _chunks(store, version, span, now, bool(hidden)):
        rows = rows[~covers(rows, hidden, LABELS)] if hidden else rows
        total += count(rows["value"].to_numpy(), rows["score"].to_numpy()) or Decisions()
    return total


def _chunks(store: Store, version: str, span: Window, now: datetime, with_record: bool) -> Iterator[pd.DataFrame]:
    """Scores and labels; with the record's columns only where a slice may be in quarantine, because they take longer."""
    p, o = predictions.c, outcomes.c
    names = [problem.EVENT_TIME, "score", "value", *(["record"] if with_record else [])]
    columns = [p.at, p.score, o.value, *([sa.cast(p.record, sa.Text)] if with_record else [])]
    query = (
        sa.select(*columns)
        .select_from(predictions.join(outcomes, (o.problem == p.problem) & (o.id == p.id) & (o.known_at <= now)))
        .where(p.problem == problem.NAME, p.version == version, p.arm != SHADOW, p.score.is_not(None))
        .where(p.at >= span.start, p.at < span.end)
    )
    reading = {"reads_only": True, "stream_results": True, "yield_per": CHUNK_ROWS}
    with store.engine.connect().execution_options(**reading) as connection:
        for part in connection.execute(query).partitions(CHUNK_ROWS):
            rows = pd.DataFrame.from_records([tuple(row) for row in part], columns=names)
            if with_record:
                records = schema.frame(json.loads(f"[{','.join(rows.pop('record'))}]"))
                rows = rows.join(records.drop(columns=list(rows.columns), errors="ignore"))
            rows[problem.EVENT_TIME] = pd.to_datetime(rows[problem.EVENT_TIME], utc=True)
            yield rows
