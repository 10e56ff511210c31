"""Training-serving skew: are logged requests what the training code makes of the same cases?

Any difference is a fault of one side: the same code makes both, so equal means equal to the last bit.
"""

from __future__ import annotations

import pandas as pd

from level1_pipeline import problem, schema
from monitoring.results import Skew
from monitoring.thresholds import REPLAYED_ROWS, SKEW_MAX_SHARE

EXAMPLES_SHOWN = 5


def compare(logged: pd.DataFrame, made: pd.DataFrame | str) -> Skew:
    """Logged rows (the Record's columns and `id`) against training rows of the same ids, exactly; missing equals missing.

    Without a source, or if it knows none of the ids, it is inconclusive.
    """
    if isinstance(made, str) or not len(logged):
        return Skew("inconclusive", 0, 0, (), made if isinstance(made, str) else "nothing was logged")
    logged = logged.drop_duplicates("id").sample(frac=1, random_state=0).head(REPLAYED_ROWS)
    made = made[made[problem.ID].isin(logged["id"])].drop_duplicates(problem.ID).set_index(problem.ID)
    ids = logged["id"][logged["id"].isin(made.index)]
    if not len(ids):
        return Skew("inconclusive", 0, 0, (), "the training code knows none of the logged ids")
    ours, theirs = logged.set_index("id").loc[ids, schema.names()], made.loc[ids, schema.names()]
    differs = ~((ours == theirs) | (ours.isna() & theirs.isna()))
    rows, columns = differs.any(axis=1), differs.sum()
    examples = [
        f"{row} {name}: logged {ours.loc[row, name]}, made {theirs.loc[row, name]}"
        for row in differs.index[rows][:EXAMPLES_SHOWN]
        for name in differs.columns[differs.loc[row]][:1]
    ]
    by_column = {str(name): int(n) for name, n in columns[columns > 0].sort_values(ascending=False).items()}
    many = f"{int(rows.sum()):,} of {len(ids):,} replayed requests"
    message = f"{many} differ, most in {next(iter(by_column))}" if by_column else f"{many} differ"
    if not by_column:
        return Skew("equal", len(ids), 0, (), message)
    return Skew("different", len(ids), int(rows.sum()), tuple(examples), message, by_column, *_where(logged, ids, rows))


def _where(logged: pd.DataFrame, ids: pd.Series, differs: pd.Series) -> tuple[tuple[str, ...], str]:
    """The local days with too many differences, and the slice value that all of these have, if others are right."""
    requests = logged.set_index("id").loc[ids]
    day = requests[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.strftime("%Y-%m-%d")
    share = differs.groupby(day).mean()
    days = share.index[share >= SKEW_MAX_SHARE]
    on_these = requests[day.isin(days)]
    for name in problem.SLICES:
        hit, all_ = on_these.loc[differs[on_these.index], name].unique(), on_these[name].nunique()
        if len(hit) == 1 and all_ > 1:
            return tuple(days), f"{name}={hit[0]}"
    return tuple(days), ""
