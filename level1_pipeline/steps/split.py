"""Step 3: older matured rows to train on, the newest days to judge on (`split_rows`); never shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.errors import NotEnoughData
from level1_pipeline.evaluation.contract.as_of import advice
from level1_pipeline.schema.task import task
from level1_pipeline.steps.extract import ROWS, Extracted
from level1_pipeline.steps.step import Run, StepResult, step
from level1_pipeline.store import quarantine
from level1_pipeline.store.days import date_of

TRAIN, HOLDOUT = "train.parquet", "holdout.parquet"


@dataclass(frozen=True)
class Part:
    """How many rows, and the event times (ISO) between which they lie."""

    rows: int
    first: str
    last: str


@dataclass(frozen=True, kw_only=True)
class Split(StepResult):
    """The two parts, each in a file."""

    train: Part
    holdout: Part
    quarantined: int  # rows that were left out of both, themselves or because their labels are in quarantine

    @property
    def message(self) -> str:
        """The size of each part."""
        return f"{self.train.rows:,} rows to train on, {self.holdout.rows:,} newer ones to judge with"


@step
def split(run: Run, extracted: Extracted) -> Split:
    """Cut the rows in two; those in quarantine, and those whose labels are, are for neither."""
    rows = pd.read_parquet(run.path(ROWS))
    spans = quarantine.spans(run.registry.store)
    hidden = quarantine.covers(rows, spans) | quarantine.covers(rows, spans, quarantine.LABELS)
    parts = split_rows(rows[~hidden], run.time)
    parts.train.to_parquet(run.path(TRAIN), index=False)
    parts.holdout.to_parquet(run.path(HOLDOUT), index=False)
    return Split(
        train=_described(parts.train),
        holdout=_described(parts.holdout),
        quarantined=int(hidden.sum()),
        files=run.digests(TRAIN, HOLDOUT),
    )


def _described(part: pd.DataFrame) -> Part:
    times = part[problem.EVENT_TIME]
    return Part(len(part), times.min().isoformat(), times.max().isoformat())


class SplitRows(NamedTuple):
    """Matured rows by time: the older ones to train on, the newest days to judge on."""

    train: pd.DataFrame
    holdout: pd.DataFrame

    @property
    def pool(self) -> pd.DataFrame:
        """All matured rows, on which the recipe is fitted again once it was judged."""
        return pd.concat([self.train, self.holdout])


def read_parts(run: Run) -> SplitRows:
    """The two parts as this step wrote them."""
    return SplitRows(pd.read_parquet(run.path(TRAIN)), pd.read_parquet(run.path(HOLDOUT)))


def maturity_cutoff(as_of: pd.Timestamp) -> pd.Timestamp:
    """The newest EVENT_TIME whose labels have all arrived at `as_of` (but for those that never do).

    Without it the still open labels would be missing, and they are mostly the late ones.
    """
    return as_of - pd.Timedelta(hours=problem.GATE["maturity_hours"])


def split_rows(rows: pd.DataFrame, as_of: pd.Timestamp) -> SplitRows:
    """Cut the matured rows in two at a point in time.

    Raises:
        NotEnoughData: fewer than the gate's `min_rows` on either side, or a class without any row to train on.
    """
    newest = maturity_cutoff(as_of)
    pool = rows[rows[problem.TARGET].notna() & (rows[problem.EVENT_TIME] <= newest)]
    in_holdout = pool[problem.EVENT_TIME] > newest - pd.Timedelta(days=problem.GATE["holdout_days"])
    parts = SplitRows(pool[~in_holdout], pool[in_holdout])
    need = problem.GATE["min_rows"]
    if min(map(len, parts)) < need:
        raise NotEnoughData(
            f"as of {date_of(as_of)} there are {len(parts.train):,} rows to train on and {len(parts.holdout):,} to judge with; "
            f"{need:,} of each are needed: {advice(rows, as_of)}"
        )
    learned = set(parts.train[problem.TARGET])
    if gone := [task().as_json(label) for label in task().labels or () if label not in learned]:
        raise NotEnoughData(
            f"no row to train on has {problem.TARGET} = {', '.join(map(str, gone))}: there is nothing to learn about it; "
            f"{advice(rows, as_of)}"
        )
    return parts
