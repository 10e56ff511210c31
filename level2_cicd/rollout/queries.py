"""Reads what two versions answered, and what then happened, from the prediction log; bounded in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.time_limit import OVERDUE
from level1_pipeline.evaluation import gate
from level1_pipeline.store import quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import CHAMPION
from level1_pipeline.store.tables import outcomes, predictions

MOST_ROWS = 100_000  # that are compared, the newest: enough for any verdict
C = predictions.c


@dataclass(frozen=True)
class Arm:
    """What one version answered in one arm in a period."""

    version: str
    arm: str
    since: datetime

    def rows(self, table: Any = C) -> Any:
        """The condition that selects its rows in the log."""
        version = (table.problem == problem.NAME) & (table.version == self.version)
        return version & (table.arm == self.arm) & (table.at >= self.since)


@dataclass(frozen=True)
class Counts:
    """Cases, failures (no score), and mean and standard deviation of the scores (NaN without any)."""

    rows: int = 0
    errors: int = 0
    alone: int = 0  # of the errors: cases that the champion answered
    mean: float = math.nan
    sd: float = math.nan
    error: str = ""  # an example


def matured(now: datetime) -> datetime:
    """Before this, every outcome that will ever come is there; younger ones are the early, good-looking ones."""
    return now - timedelta(hours=gate.rules().maturity_hours)


def counts(store: Store, arm: Arm) -> Counts:
    """Count what an arm did, in one query."""
    other = predictions.alias("other")
    same = (other.c.problem == C.problem) & (other.c.id == C.id) & (other.c.arm == CHAMPION)
    alone = C.score.is_(None), sa.exists().where(same, other.c.score.is_not(None))
    wanted = sa.select(
        sa.func.count(),
        sa.func.count(C.score),
        sa.func.count().filter(*alone),
        sa.func.avg(C.score),
        sa.func.avg(C.score * C.score),
        sa.func.max(C.error).filter(*alone),
    ).where(arm.rows())
    with store.engine.connect().execution_options(reads_only=True) as connection:
        [(rows, scored, by_itself, mean, square, error)] = connection.execute(wanted).all()
    if not scored:
        return Counts(rows, rows, by_itself, error=error or "")
    return Counts(rows, rows - scored, by_itself, mean, math.sqrt(max(square - mean * mean, 0.0)), error or "")


def calls(store: Store, arm: Arm) -> pd.DataFrame:
    """Each call that gave a score or was given up: its latency in ms and the number of rows that it scored together.

    Rows of one call carry the same latency to the last bit, which is how they are told from others. A call
    that failed says nothing about speed, because a crash is quicker than any answer; one that was given up does.
    """
    wanted = sa.select(C.latency_ms.label("ms"), sa.func.count().label("rows")).where(arm.rows())
    scored = wanted.group_by(C.latency_ms).having(
        sa.func.count(C.score) + sa.func.count().filter(C.error.startswith(OVERDUE)) > 0
    )
    with store.engine.connect().execution_options(reads_only=True) as connection:
        rows = connection.execute(scored).all()
    return pd.DataFrame(rows, columns=["ms", "rows"]).astype({"ms": float, "rows": int})


def pairs(store: Store, first: Arm, second: Arm, before: datetime) -> pd.DataFrame:
    """Cases that both arms scored, decided before a time and with a known outcome: the newest, oldest first.

    Columns: EVENT_TIME, TARGET, SLICES (empty text where a slice is no input), `first`, `second` (scores). Labels in
    quarantine count as missing.
    """
    other = predictions.alias("other")
    both = predictions.join(other, (other.c.problem == C.problem) & (other.c.id == C.id))
    labelled = both.join(outcomes, (outcomes.c.problem == C.problem) & (outcomes.c.id == C.id))
    wanted = (
        sa.select(C.at, outcomes.c.value, C.record, C.score, other.c.score)
        .select_from(labelled)
        .where(first.rows(), second.rows(other.c), C.at < before, C.score.is_not(None), other.c.score.is_not(None))
        .order_by(C.at.desc())
        .limit(MOST_ROWS)
    )
    return _table(store, wanted, ["first", "second"])


def answers(store: Store, arm: Arm, before: datetime) -> pd.DataFrame:
    """What an arm answered before a time and has a known outcome; columns as for `pairs`, with `score`, `record`."""
    wanted = (
        sa.select(C.at, outcomes.c.value, C.record, C.score)
        .join(outcomes, (outcomes.c.problem == C.problem) & (outcomes.c.id == C.id))
        .where(arm.rows(), C.at < before, C.score.is_not(None))
        .order_by(C.at.desc())
        .limit(MOST_ROWS)
    )
    return _table(store, wanted, ["score"])


def _table(store: Store, wanted: Any, scores: list[str]) -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = []
    with store.engine.connect().execution_options(reads_only=True) as connection:
        for at, value, record, *values in connection.execute(wanted.execution_options(yield_per=5000)):
            rows.append((at, value, *(str(record.get(name, "")) for name in problem.SLICES), *values))
    columns = [problem.EVENT_TIME, problem.TARGET, *problem.SLICES, *scores]
    types = {problem.EVENT_TIME: "datetime64[us, UTC]", problem.TARGET: float, **dict.fromkeys(scores, float)}
    table = pd.DataFrame(reversed(rows), columns=columns).astype(types)
    hidden = quarantine.covers(table, quarantine.spans(store), quarantine.LABELS)
    return table[~hidden].reset_index(drop=True)


def records(store: Store, arm: Arm, before: datetime, limit: int) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """The newest answers with known outcomes: their records, and a table of TARGET and `score` in the same order."""
    wanted = (
        sa.select(C.record, outcomes.c.value, C.score)
        .join(outcomes, (outcomes.c.problem == C.problem) & (outcomes.c.id == C.id))
        .where(arm.rows(), C.at < before, C.score.is_not(None))
        .order_by(C.at.desc())
        .limit(limit)
    )
    with store.engine.connect().execution_options(reads_only=True) as connection:
        rows = connection.execute(wanted).all()
    table = pd.DataFrame([(value, score) for _, value, score in rows], columns=[problem.TARGET, "score"]).astype(float)
    return [record for record, _, _ in rows], table
