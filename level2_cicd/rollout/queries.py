"""Reads what two versions answered, and what then happened, from the prediction log; bounded in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.time_limit import OVERDUE
from level1_pipeline.evaluation import gate
from level1_pipeline.schema.scores import as_columns, finite, from_columns, is_of_today, stacked
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.store import quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import CHAMPION
from level1_pipeline.store.tables import outcomes, predictions

MOST_ROWS = 100_000  # that are compared, the newest: enough for any verdict
FIRST, SECOND = "first ", "second "  # before the names of scores
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
    """Cases, failures (no score), and mean and standard deviation of each part of the scores (empty without any)."""

    rows: int = 0
    errors: int = 0
    alone: int = 0  # of the errors: cases that the champion answered
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()
    error: str = ""  # an example


def whole_score(table: Any = C) -> Any:
    """The column of the log that holds a whole score: the number, or the probabilities of all classes."""
    return table.scores if classes() else table.score


def matured(now: datetime) -> datetime:
    """Before this, every outcome that will ever come is there; younger ones are the early, good-looking ones."""
    return now - timedelta(hours=gate.rules().maturity_hours)


def counts(store: Store, arm: Arm) -> Counts:
    """Count what an arm did, in one query."""
    other = predictions.alias("other")
    same = (other.c.problem == C.problem) & (other.c.id == C.id) & (other.c.arm == CHAMPION)
    alone = C.score.is_(None), sa.exists().where(same, other.c.score.is_not(None))
    parts = [C.scores[place].as_float() for place in range(len(classes()))] or [C.score]
    wanted = sa.select(
        sa.func.count(),
        sa.func.count(C.score),
        sa.func.count().filter(*alone),
        sa.func.max(C.error).filter(*alone),
        *(average for part in parts for average in (sa.func.avg(part), sa.func.avg(part * part))),
    ).where(arm.rows())
    with store.engine.connect().execution_options(reads_only=True) as connection:
        [(rows, scored, by_itself, error, *averages)] = connection.execute(wanted).all()
    if None in averages:
        return Counts(rows, rows - scored, by_itself, error=error or "")
    mean, squares = averages[::2], averages[1::2]
    sd = [math.sqrt(max(square - value * value, 0.0)) for value, square in zip(mean, squares, strict=True)]
    return Counts(rows, rows - scored, by_itself, tuple(mean), tuple(sd), error or "")


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

    Columns: EVENT_TIME, TARGET, SLICES (empty text where a slice is no input), and the scores of both with the prefixes
    FIRST and SECOND (`schema.scores`). Labels in quarantine count as missing.
    """
    other = predictions.alias("other")
    both = predictions.join(other, (other.c.problem == C.problem) & (other.c.id == C.id))
    labelled = both.join(outcomes, (outcomes.c.problem == C.problem) & (outcomes.c.id == C.id))
    scores = whole_score(), whole_score(other.c)
    wanted = (
        sa.select(C.at, outcomes.c.value, C.record, *scores)
        .select_from(labelled)
        .where(first.rows(), second.rows(other.c), C.at < before, *(score.is_not(sa.null()) for score in scores))
        .order_by(C.at.desc())
        .limit(MOST_ROWS)
    )
    return _table(store, wanted, [FIRST, SECOND])


def answers(store: Store, arm: Arm, before: datetime) -> pd.DataFrame:
    """What an arm answered before a time and has a known outcome; columns as for `pairs`, the scores without a prefix."""
    wanted = (
        sa.select(C.at, outcomes.c.value, C.record, whole_score())
        .join(outcomes, (outcomes.c.problem == C.problem) & (outcomes.c.id == C.id))
        .where(arm.rows(), C.at < before, whole_score().is_not(sa.null()))
        .order_by(C.at.desc())
        .limit(MOST_ROWS)
    )
    return _table(store, wanted, [""])


def _table(store: Store, wanted: Any, prefixes: list[str]) -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = []
    with store.engine.connect().execution_options(reads_only=True) as connection:
        for at, value, record, *values in connection.execute(wanted.execution_options(yield_per=5000)):
            rows.append((at, value, *(str(record.get(name, "")) for name in problem.SLICES), *values))
    columns = [problem.EVENT_TIME, problem.TARGET, *problem.SLICES]
    types = {problem.EVENT_TIME: "datetime64[us, UTC]", problem.TARGET: float}
    rows.reverse()
    table = pd.DataFrame([row[: len(columns)] for row in rows], columns=columns).astype(types)
    for place, prefix in enumerate(prefixes, len(columns)):
        table = table.assign(**as_columns(stacked([row[place] for row in rows]), prefix))
    hidden = quarantine.covers(table, quarantine.spans(store), quarantine.LABELS)
    return _of_today(table[~hidden], prefixes)


def _of_today(table: pd.DataFrame, prefixes: list[str]) -> pd.DataFrame:
    """Without rows whose score is of other classes, from before CLASSES changed."""
    fits = [finite(from_columns(table, prefix)) for prefix in prefixes]
    return table[np.all(fits, axis=0)].reset_index(drop=True)


def records(store: Store, arm: Arm, before: datetime, limit: int) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """The newest answers with known outcomes: their records, and a table of TARGET and the scores in the same order."""
    wanted = (
        sa.select(C.record, outcomes.c.value, whole_score())
        .join(outcomes, (outcomes.c.problem == C.problem) & (outcomes.c.id == C.id))
        .where(arm.rows(), C.at < before, whole_score().is_not(sa.null()))
        .order_by(C.at.desc())
        .limit(limit)
    )
    with store.engine.connect().execution_options(reads_only=True) as connection:
        rows = connection.execute(wanted).all()
    rows = [row for row in rows if is_of_today(row[2])]
    table = pd.DataFrame({problem.TARGET: [value for _, value, _ in rows]}, dtype=float)
    return [record for record, _, _ in rows], table.assign(**as_columns(stacked([score for _, _, score in rows])))
