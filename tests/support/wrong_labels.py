"""Faults of a source of labels, planted in the flights' rows: which labels are wrong, from when on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from level1_pipeline import problem


def flip(
    rows: pd.DataFrame,
    share: float,
    slices: dict[str, str] | None = None,
    since: pd.Timestamp | None = None,
    only: float | None = None,
) -> pd.DataFrame:
    """Turn a share of the labels round: of the rows with these slice values, after a time, with one label only."""
    hit = rows[problem.TARGET].notna() & (np.random.default_rng(7).random(len(rows)) < share)
    for name, value in (slices or {}).items():
        hit &= rows[name] == value
    if since is not None:
        hit &= rows[problem.EVENT_TIME] > since
    if only is not None:
        hit &= rows[problem.TARGET] == only
    return rows.assign(**{problem.TARGET: rows[problem.TARGET].where(~hit, 1 - rows[problem.TARGET])})
