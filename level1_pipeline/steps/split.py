"""TODO docstring."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.errors import NotEnoughData
from level1_pipeline.steps.step import Facts, Run, step
from level1_pipeline.store import quarantine


@step
def split(run: Run, facts: dict[str, Facts]) -> Facts:
    """Older matured rows to train on, the newest days to judge on; rows in quarantine are for neither."""
    rows = pd.read_parquet(run.path("rows.parquet"))
    hidden = quarantine.covers(rows, quarantine.spans(run.registry.store))
    parts = split_rows(rows[~hidden], run.time)
    parts.train.to_parquet(run.path("train.parquet"), index=False)
    parts.holdout.to_parquet(run.path("holdout.parquet"), index=False)
    times = {
        f"{name}_{end}": getattr(part[problem.EVENT_TIME], end)().isoformat()
        for name, part in parts._asdict().items()
        for end in ("min", "max")
    }
    return {
        "files": ["train.parquet", "holdout.parquet"],
        "train": len(parts.train),
        "holdout": len(parts.holdout),
        "quarantined": int(hidden.sum()),
        **times,
    }


class Split(NamedTuple):
    """Matured rows by time: the older ones to train on, the newest days to judge on."""

    train: pd.DataFrame
    holdout: pd.DataFrame

    @property
    def pool(self) -> pd.DataFrame:
        """All matured rows, on which the recipe is fitted again once it was judged."""
        return pd.concat([self.train, self.holdout])


def maturity_cutoff(as_of: pd.Timestamp) -> pd.Timestamp:
    """The newest EVENT_TIME whose outcomes have all arrived at `as_of` (but for those that never do).

    Without it the still open labels would be missing, and they are mostly the late ones.
    """
    return as_of - pd.Timedelta(hours=problem.GATE["maturity_hours"])


def split_rows(rows: pd.DataFrame, as_of: pd.Timestamp) -> Split:
    """Cut the matured rows in two at a point in time; never shuffled.

    Raises:
        NotEnoughData: fewer than the gate's `min_rows` on either side, or a single class to learn.
    """
    newest = maturity_cutoff(as_of)
    pool = rows[rows[problem.TARGET].notna() & (rows[problem.EVENT_TIME] <= newest)]
    in_holdout = pool[problem.EVENT_TIME] > newest - pd.Timedelta(days=problem.GATE["holdout_days"])
    parts = Split(pool[~in_holdout], pool[in_holdout])
    need = problem.GATE["min_rows"]
    if min(map(len, parts)) < need:
        raise NotEnoughData(
            f"as of {as_of:%Y-%m-%d} there are {len(parts.train):,} rows to train on and {len(parts.holdout):,} to judge with; "
            f"{need:,} of each are needed: choose a later --as-of, or lower GATE['min_rows']"
        )
    if problem.TASK == "classification" and parts.train[problem.TARGET].nunique() < 2:
        raise NotEnoughData(
            f"every row to train on has {problem.TARGET} = {parts.train[problem.TARGET].iloc[0]:g}: there is nothing to learn"
        )
    return parts
