"""The comparisons behind `data_faults`: each looks at a window by day and slice, against the worst reference day.

So none needs a distribution. A check yields hits, one for each day on which something is wrong, and notes what it could
judge at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.store.days import date_of, start_of
from level1_pipeline.store.quarantine import Quarantined
from monitoring import thresholds
from monitoring.data.aggregates import ALL, SCORE
from monitoring.data.prediction_window import Log
from monitoring.detectors import feature_relations

MISSED, STUCK, UNRELATED = "missing far more often", "stuck (hardly any spread)", "does not fit the other inputs"
NEW_VALUES, GONE = "values never seen before", "rows are gone"


class Hit(NamedTuple):
    """One day on which something is wrong with a column in a slice."""

    kind: str
    column: str
    slice: str
    strange: bool  # unlike the reference, but not enough to be called a fault
    day: date
    size: float  # how far beyond the limit, as a ratio


Table = TypeVar("Table", pd.DataFrame, pd.Series)
TextValues = Mapping[str, Collection[str]]  # by text input
Judged = dict[tuple[str, str], set[str]]  # by kind and column the slices that were checked, with a hit or without


def check_all(
    reference: Log, current: Log, quarantined: tuple[Quarantined, ...], trained_on: TextValues, judged: Judged
) -> list[Hit]:
    """Every comparison; `judged` is filled.

    A fault that began on the last day before the window could not be found then: it takes FAULT_MIN_DAYS. So the last
    days are left out of the reference, or the first day of a fault would be what is usual.
    """
    end = date_of(reference.window.end) - timedelta(days=thresholds.FAULT_MIN_DAYS - 1)
    before, now = _until(end, reference.sums.by_slice()), current.sums.by_slice()
    rows = reference.rows[reference.rows["day"] < end]
    return [
        *_missing(before, now, judged),
        *_empty(before, now),
        *_stuck(before, now, judged),
        *_lost(_until(end, reference.sums.rows), current.sums.rows, quarantined),
        *_new_values(rows, current.rows, quarantined, trained_on),
        *_unrelated(rows, current.rows, judged),
    ]


def overlaps(span: Quarantined, day: date) -> bool:
    """Whether a span covers a part of a local day."""
    return bool(span.start < start_of(day + timedelta(days=1)) and span.end > start_of(day))


def _until(end: date, table: Table) -> Table:
    """The part of a table by day that lies before a day."""
    return table[table.index.get_level_values("day") < end]


def _missing(before: pd.DataFrame, now: pd.DataFrame, judged: Judged) -> Iterator[Hit]:
    missing = now[now["rows"] >= thresholds.FAULT_MIN_ROWS]["missing"]
    enough = before["missing"][before["rows"] >= thresholds.FAULT_MIN_ROWS]
    worst = enough.groupby(level=["slice", "column"]).max()
    rise = missing - worst.reindex(missing.index.droplevel("day")).to_numpy()
    _note(judged, MISSED, rise)
    for (where, day, column), size in rise[rise > thresholds.MISSING_MAX_RISE].items():
        yield Hit(MISSED, column, where, False, day, size / thresholds.MISSING_MAX_RISE)


def _empty(before: pd.DataFrame, now: pd.DataFrame) -> Iterator[Hit]:
    """A column that is often missing anyway (gusts, on calm days) cannot be missing far more often.

    So all rows are looked at together, and the whole window: at a single airport it may be calm for a week.
    """
    was_empty, is_empty = (_without_values(table) for table in (before, now))
    for column in is_empty.columns.intersection(was_empty.columns):
        days, window = is_empty.index[is_empty[column]], len(is_empty)
        most = was_empty[column].astype(float).rolling(window, min_periods=1).sum().max()  # of any stretch as long
        whole_window = len(days) == window > most and window >= thresholds.EMPTY_WINDOW_MIN_DAYS
        if len(days) >= thresholds.EMPTY_NEW_MIN_DAYS and (most == 0 or whole_window):
            for day in days:
                yield Hit(MISSED, column, ALL, False, day, 1 / thresholds.MISSING_MAX_RISE)


def _without_values(table: pd.DataFrame) -> pd.DataFrame:
    """By day and column, whether no row of that day has a value."""
    every = table.xs(ALL, level="slice").drop(SCORE, level="column", errors="ignore")
    return every[every["rows"] >= thresholds.FAULT_MIN_ROWS]["count"].eq(0).unstack("column", fill_value=False)


def _stuck(before: pd.DataFrame, now: pd.DataFrame, judged: Judged) -> Iterator[Hit]:
    spread, reference = (table[table["count"] >= thresholds.FAULT_MIN_ROWS]["std"] for table in (now, before))
    by_column = reference.groupby(level=["slice", "column"])
    days, least = by_column.size(), by_column.min()
    least = least[(days >= thresholds.REFERENCE_MIN_DAYS) & (least > 0)].drop(SCORE, level="column", errors="ignore")
    ratio = spread / least.reindex(spread.index.droplevel("day")).to_numpy()
    _note(judged, STUCK, ratio)
    for (where, day, column), size in ratio[ratio < thresholds.SPREAD_MIN_RATIO].items():
        yield Hit(STUCK, column, where, False, day, thresholds.SPREAD_MIN_RATIO / max(size, 1e-3))


def _note(judged: Judged, kind: str, sizes: pd.Series) -> None:
    """Write down which slices have a size, by (slice, day, column)."""
    for where, _, column in sizes.dropna().index:
        judged.setdefault((kind, column), set()).add(where)


def _lost(reference: pd.Series, current: pd.Series, quarantined: tuple[Quarantined, ...]) -> Iterator[Hit]:
    counts, now = (_counts(rows, quarantined) for rows in (reference, current))
    before, total = counts.div(counts[ALL], axis=0), now[ALL]
    steady = [name for name in before if name and counts[name].min() >= thresholds.FAULT_MIN_ROWS]
    for name in steady:
        rows, least = now[name] if name in now else pd.Series(0.0, now.index), before[name].min()
        # On a day with few rows, or of which only some hours were served, nothing can be said of a slice.
        others_go_on = total - rows >= thresholds.LOST_OTHERS_MIN_RATIO * (counts[ALL] - counts[name]).min()
        expected = others_go_on & (total * least >= thresholds.LOST_MIN_EXPECTED)
        for day in total.index[expected & (rows < thresholds.SLICE_ROWS_MIN_RATIO * least * total)]:
            if not _may_be_quarantined(quarantined, name, day):
                size = 1 / thresholds.SLICE_ROWS_MIN_RATIO
                yield Hit(GONE, name.split("=")[0], name, False, day, size)


def _counts(rows: pd.Series, quarantined: tuple[Quarantined, ...]) -> pd.DataFrame:
    """Rows by day and slice; unknown (NaN) where some are in quarantine."""
    table = rows.unstack("slice", fill_value=0.0)
    for name in filter(None, table):
        table[name] = table[name].mask([_may_be_quarantined(quarantined, name, day) for day in table.index])
    return table


def _may_be_quarantined(quarantined: Iterable[Quarantined], where: str, day: date) -> bool:
    """Whether rows of a slice may be in quarantine on a day: its own or, where they overlap, those of another column."""
    column = where.partition("=")[0]
    spans = (span for span in quarantined if span.slice.partition("=")[0] != column or span.slice == where)
    return any(overlaps(span, day) for span in spans)


def _new_values(
    before: pd.DataFrame, now: pd.DataFrame, quarantined: tuple[Quarantined, ...], trained_on: TextValues
) -> Iterator[Hit]:
    """Texts that neither the Record lists, nor the champion was trained on, nor the reference has.

    Their own quarantine keeps them out of every later reference. So after a time they are what is usual.
    """
    for column in (column for column in schema.columns() if column.text and not column.allowed):
        name, patience = column.name, timedelta(days=thresholds.NEW_VALUES_MAX_DAYS)
        new = ~now[name].isin({*before[name].unique(), *trained_on.get(name, ())})
        by_day = new.groupby(now["day"])
        share = by_day.mean()[by_day.size() >= thresholds.DAY_MIN_ROWS]
        since = [span.start for span in quarantined if f"{name}: {NEW_VALUES}" in span.reason]
        for day, size in share[share > thresholds.NEW_VALUES_MAX_SHARE].items():
            if not since or start_of(day) < min(since) + patience:
                yield Hit(NEW_VALUES, name, ALL, False, day, size / thresholds.NEW_VALUES_MAX_SHARE)


def _unrelated(before: pd.DataFrame, now: pd.DataFrame, judged: Judged) -> Iterator[Hit]:
    relations = feature_relations.learn(before)
    texts = [column.name for column in schema.columns() if column.text]
    now = now[np.logical_and.reduce([now[name].isin(before[name].unique()) for name in texts])] if texts else now
    was, is_ = (_distance(rows, relations.residuals(rows)) for rows in (before, now))
    worst = was.groupby(level="slice").max()
    ratio = is_ / worst.reindex(is_.index.get_level_values("slice")).to_numpy()
    large = {ALL, *_large_slices(before)}
    sizes = ratio[ratio.index.get_level_values("slice").isin(large)].stack()  # noqa: PD013
    _note(judged, UNRELATED, sizes)
    for (where, day, column), size in sizes.items():
        if size > thresholds.RELATION_STRANGE_RATIO:
            yield Hit(UNRELATED, column, where, True, day, float(size))
        if size > thresholds.RELATION_FAULT_RATIO:
            yield Hit(UNRELATED, column, where, False, day, float(size))


def _large_slices(rows: pd.DataFrame) -> Iterator[str]:
    for name in (column for column in problem.SLICES if column in rows):
        shares = rows[name].value_counts(normalize=True)
        yield from (f"{name}={value}" for value in shares.index[shares >= thresholds.RELATION_SLICE_MIN_SHARE])


def _distance(rows: pd.DataFrame, residuals: pd.DataFrame) -> pd.DataFrame:
    """Root mean square of the residuals by slice and day; only where there are enough."""
    parts, squares = [], residuals**2
    for name in [ALL, *(column for column in problem.SLICES if column in rows)]:
        where = f"{name}=" + rows[name].astype(str) if name else pd.Series(ALL, rows.index)
        grouped = squares.groupby([where.rename("slice"), rows["day"].rename("day")])
        parts.append(np.sqrt(grouped.mean()).where(grouped.count() >= thresholds.FAULT_MIN_ROWS))
    return pd.concat(parts).rename_axis(columns="column")
