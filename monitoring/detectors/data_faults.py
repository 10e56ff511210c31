"""Does this look like data at all?  What no season and no concept drift does to inputs, by day and slice.

Each check compares the days of the window with the worst of the reference days, so that it needs no
distribution; docs/monitoring.md says how far ordinary weeks go. A fault needs two days, because one
stormy day stretches any single figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.store.quarantine import Quarantined
from monitoring.data.aggregates import ALL, SCORE
from monitoring.data.prediction_window import Log
from monitoring.detectors import feature_relations
from monitoring.results import Span, Window

DAYS = 2  # on which the same thing is wrong
ROWS = 50  # of a slice on a day, below which it is not judged
MIN_REFERENCE = 21  # days: with 14, seven of 109 ordinary weeks looked like faults, with 28 none
MISSING = 0.5  # more missing than on the worst reference day
EMPTY, EMPTY_NEVER = 5, 3  # days without any value, for a column that has such days anyway, and for one that never had
COLLAPSED = 0.1  # of the smallest spread of a reference day
LOST = 0.1  # of the smallest share of a reference day
BROKEN, STRANGE = 4.0, 2.5  # times the worst reference day's distance from the relation among the inputs
UNKNOWN = 0.2  # share of values never seen on the reference days
LARGE = 0.2  # share of the rows from which a slice's relations are judged: a small airline may change its timetable
MOST = 0.9  # of the rows beside a slice, which must have been checked before it alone is blamed
CERTAIN = 1000.0  # the size of a broken rule


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with one column in one slice, on these days."""

    kind: str
    column: str
    slice: str
    days: tuple[date, ...]
    size: float  # how far beyond the limit, as a ratio
    strange: bool = False  # unlike the reference, but not enough to be called a fault

    @property
    def message(self) -> str:
        """For people."""
        where = f" at {self.slice}" if self.slice else ""
        return f"{self.column}: {self.kind}{where} on {len(self.days)} days from {min(self.days)}"


def find(
    reference: Log, current: Log, hidden: Iterable[Quarantined] = (), lifted: Iterable[Quarantined] = ()
) -> list[Fault]:
    """All faults of the current window, worst first; without enough reference only the schema is checked.

    Args:
        reference: the days before.
        current: the window.
        hidden: the spans that were left out of both: their rows are set apart, and not gone.
        lifted: the spans that a person found to be no fault; they are none here.
    """
    found = [*_out_of_bounds(current), *_out_of_list(current)]
    before, now = reference.sums.by_slice(), current.sums.by_slice()
    judged: Judged = {}
    if len(current.rows) and comparable(reference):
        hits = [*_missing(before, now, judged), *_empty(before, now), *_collapsed(before, now, judged)]
        hits += [*_lost(reference, current, tuple(hidden)), *_unknown(reference.rows, current.rows)]
        hits += _unrelated(reference.rows, current.rows, judged)
        found += [_fault(key, part) for key, part in pd.DataFrame(hits, columns=_HIT).groupby(_HIT[:4])] if hits else []
    found, shares = _lasting(found), _shares(current)
    faults = _merge([fault for fault in found if not fault.strange], judged, shares)
    # What is missing or stuck breaks the relations of other columns, too: name the cause only.
    faults = [fault for fault in faults if fault.kind != UNRELATED] or faults
    faults += _merge([fault for fault in found if fault.strange], judged, shares)
    return _lasting(_without(faults, tuple(lifted)))


def comparable(reference: Log) -> bool:
    """Whether there are enough days to compare with."""
    days = 0 if reference.sums.rows is None else reference.sums.rows.index.get_level_values("day").nunique()
    return bool(len(reference.rows)) and days >= MIN_REFERENCE


MISSED, STUCK, UNRELATED = "missing far more often", "stuck (hardly any spread)", "does not fit the other inputs"
_HIT = ["kind", "column", "slice", "strange", "day", "size"]
Hit = tuple[str, str, str, bool, date, float]
Judged = dict[tuple[str, str], set[str]]  # by kind and column the slices that were checked, with a hit or without


def _lasting(faults: list[Fault]) -> list[Fault]:
    """Those on enough days. A rule is no comparison: a single day that breaks it is enough."""
    return [one for one in faults if len(one.days) >= (1 if one.size == CERTAIN else DAYS + one.strange)]


def _without(faults: list[Fault], lifted: tuple[Quarantined, ...]) -> list[Fault]:
    """The faults on the days on which nobody has lifted them."""

    def is_lifted(fault: Fault, day: date) -> bool:
        return any(span.slice in (ALL, fault.slice) and _overlap(span, day) for span in lifted)

    return [replace(one, days=tuple(day for day in one.days if not is_lifted(one, day))) for one in faults]


def _overlap(span: Quarantined, day: date) -> bool:
    return bool(span.start < _midnight(day + timedelta(days=1)) and span.end > _midnight(day))


def _shares(log: Log) -> dict[str, float]:
    """The share of the rows by slice."""
    if log.sums.rows is None:
        return {}
    rows = log.sums.rows.groupby(level="slice").sum()
    return dict(rows / rows[ALL])


def _fault(key: tuple[str, str, str, bool], hits: pd.DataFrame) -> Fault:
    kind, column, where, strange = key
    return Fault(kind, column, where, tuple(sorted(set(hits["day"]))), float(hits["size"].max()), bool(strange))


def _out_of_bounds(current: Log) -> Iterator[Fault]:
    table = current.sums.by_slice()
    for column in schema.columns():
        if column.text or table.empty:
            continue
        one = table.xs(column.name, level="column").xs(ALL, level="slice")
        low, high = (-np.inf if column.low is None else column.low), (np.inf if column.high is None else column.high)
        broken = one[(one["low"] < low) | (one["high"] > high)]
        if len(broken):
            yield Fault(f"outside {low:g} to {high:g}", column.name, ALL, tuple(broken.index), CERTAIN)


def _out_of_list(current: Log) -> Iterator[Fault]:
    rows = current.rows
    for column in schema.columns():
        if not column.text or not len(rows):
            continue
        values, known = rows[column.name].astype(str), pd.Series(True, rows.index)
        if column.allowed:
            known = values.isin(column.allowed)
        elif column.pattern:
            known = values.str.contains(column.pattern)
        days = tuple(sorted(set(rows["day"][~known])))
        if days:
            yield Fault("values that the Record forbids", column.name, ALL, days, CERTAIN)


def _worst(before: pd.Series, keys: list[str], how: str) -> pd.Series:
    return before.groupby(level=keys).agg(how)


def _missing(before: pd.DataFrame, now: pd.DataFrame, judged: Judged) -> Iterator[Hit]:
    missing = now[now["rows"] >= ROWS]["missing"]
    worst = _worst(before["missing"][before["rows"] >= ROWS], ["slice", "column"], "max")
    more = missing - worst.reindex(missing.index.droplevel("day")).to_numpy()
    _note(judged, MISSED, more)
    for (where, day, column), size in more[more > MISSING].items():
        yield MISSED, column, where, False, day, size / MISSING


def _empty(before: pd.DataFrame, now: pd.DataFrame) -> Iterator[Hit]:
    """A column that is often missing anyway (gusts, on calm days) cannot be missing far more often.

    So all rows are looked at together, and the whole window: at a single airport it may be calm for a week.
    """
    was, is_ = (_without_values(table) for table in (before, now))
    for column in is_.columns.intersection(was.columns):
        days = is_.index[is_[column]]
        most = was[column].astype(float).rolling(len(is_), min_periods=1).sum().max()  # of any stretch as long
        if len(days) >= EMPTY_NEVER and (most == 0 or (len(days) == len(is_) > most and len(is_) >= EMPTY)):
            for day in days:
                yield MISSED, column, ALL, False, day, 1 / MISSING


def _without_values(table: pd.DataFrame) -> pd.DataFrame:
    """By day and column, whether no row of that day has a value."""
    every = table.xs(ALL, level="slice").drop(SCORE, level="column", errors="ignore")
    return every[every["rows"] >= ROWS]["count"].eq(0).unstack("column", fill_value=False)


def _collapsed(before: pd.DataFrame, now: pd.DataFrame, judged: Judged) -> Iterator[Hit]:
    spread = now[now["count"] >= ROWS]["std"]
    known = before[before["count"] >= ROWS]["std"]
    days, least = known.groupby(level=["slice", "column"]).size(), _worst(known, ["slice", "column"], "min")
    least = least[(days >= MIN_REFERENCE) & (least > 0)].drop(SCORE, level="column", errors="ignore")
    ratio = spread / least.reindex(spread.index.droplevel("day")).to_numpy()
    _note(judged, STUCK, ratio)
    for (where, day, column), size in ratio[ratio < COLLAPSED].items():
        yield STUCK, column, where, False, day, COLLAPSED / max(size, 1e-3)


def _note(judged: Judged, kind: str, sizes: pd.Series) -> None:
    """Write down which slices have a size, by (slice, day, column)."""
    for where, _, column in sizes.dropna().index:
        judged.setdefault((kind, column), set()).add(where)


def _lost(reference: Log, current: Log, hidden: tuple[Quarantined, ...]) -> Iterator[Hit]:
    if reference.sums.rows is None or current.sums.rows is None:
        return
    counts, now = _counts(reference.sums.rows, hidden), _counts(current.sums.rows, hidden)
    before, now = counts.div(counts[ALL], axis=0), now.div(now[ALL], axis=0)
    steady = [name for name in before if name and counts[name].min() >= ROWS]
    for name in steady:
        share = now[name] if name in now else pd.Series(0.0, now.index)
        for day in share.index[share < LOST * before[name].min()]:
            if not _touched(hidden, name, day):
                yield "rows are gone", name.split("=")[0], name, False, day, 1 / LOST


def _counts(rows: pd.Series, hidden: tuple[Quarantined, ...]) -> pd.DataFrame:
    """Rows by day and slice; unknown (NaN) where some were set apart."""
    table = rows.unstack("slice", fill_value=0.0)
    for name in (one for one in table if one):
        table[name] = table[name].mask([_touched(hidden, name, day) for day in table.index])
    return table


def _touched(hidden: Iterable[Quarantined], where: str, day: date) -> bool:
    """Whether rows of a slice may be set apart on a day: its own or, where they overlap, those of another column."""
    others = (one for one in hidden if one.slice.partition("=")[0] != where.partition("=")[0] or one.slice == where)
    return any(_overlap(one, day) for one in others)


def _unknown(before: pd.DataFrame, now: pd.DataFrame) -> Iterator[Hit]:
    for name in (column.name for column in schema.columns() if column.text):
        new = ~now[name].isin(set(before[name]))
        share = new.groupby(now["day"]).mean()
        for day, size in share[share > UNKNOWN].items():
            yield "values never seen before", name, ALL, False, day, size / UNKNOWN


def _unrelated(before: pd.DataFrame, now: pd.DataFrame, judged: Judged) -> Iterator[Hit]:
    relation = feature_relations.learn(before)
    shares = {
        f"{name}={value}": share
        for name in problem.SLICES
        if name in before
        for value, share in before[name].value_counts(normalize=True).items()
    }
    large = {where for where, share in shares.items() if share >= LARGE}
    was, is_ = (_distance(rows, relation.residuals(rows)) for rows in (before, now))
    worst = was.groupby(level="slice").max()
    ratio = is_ / worst.reindex(is_.index.get_level_values("slice")).to_numpy()
    ratio = ratio[[where == ALL or where in large for where in ratio.index.get_level_values("slice")]]
    sizes = ratio.stack()  # noqa: PD013
    _note(judged, UNRELATED, sizes)
    for (where, day, column), size in sizes.items():
        if size > STRANGE:
            yield UNRELATED, column, where, bool(size <= BROKEN), day, float(size)
            if size > BROKEN:
                yield UNRELATED, column, where, True, day, float(size)


def _distance(rows: pd.DataFrame, residuals: pd.DataFrame) -> pd.DataFrame:
    """Root mean square of the residuals by slice and day; only where there are enough."""
    parts, squares = [], residuals**2
    for name in [ALL, *(one for one in problem.SLICES if one in rows)]:
        where = f"{name}=" + rows[name].astype(str) if name else pd.Series(ALL, rows.index)
        grouped = squares.groupby([where.rename("slice"), rows["day"].rename("day")])
        parts.append(np.sqrt(grouped.mean()).where(grouped.count() >= ROWS))
    return pd.concat(parts).rename_axis(columns="column")


def _merge(faults: list[Fault], judged: Judged, shares: dict[str, float]) -> list[Fault]:
    """One fault for each kind and column: everywhere, or in the slices that explain it most narrowly."""
    merged: list[Fault] = []
    for kind, column in dict.fromkeys((fault.kind, fault.column) for fault in faults):
        by_dimension: dict[str, list[Fault]] = {}
        for fault in (one for one in faults if (one.kind, one.column) == (kind, column)):
            by_dimension.setdefault(fault.slice.partition("=")[0], []).append(fault)
        narrow: list[list[Fault]] = [part for name, part in by_dimension.items() if name]
        if ALL in by_dimension:
            checked = judged.get((kind, column), set())
            narrow = [part for part in narrow if len(part) == 1 and _rest_is_clean(part[0].slice, checked, shares)]
        merged += narrow[int(np.argmin([len(part) for part in narrow]))] if narrow else by_dimension[ALL]
    return sorted(merged, key=lambda fault: -fault.size)


def _rest_is_clean(where: str, checked: set[str], shares: dict[str, float]) -> bool:
    """Whether (nearly) all rows outside a slice were checked; they showed no fault, or there would be more parts."""
    column, rest = where.partition("=")[0], 1 - shares.get(where, 0.0)
    others = [shares.get(one, 0.0) for one in checked if one.partition("=")[0] == column and one != where]
    return bool(others) and sum(others) >= MOST * rest


def spans(faults: list[Fault], window: Window) -> tuple[Span, ...]:
    """The rows to quarantine: whole local days, from the first to the last bad day of each fault."""
    found: dict[tuple[date, date, str], list[str]] = {}
    for fault in faults:
        found.setdefault((min(fault.days), max(fault.days), fault.slice), []).append(fault.message)
    return tuple(
        Span(
            max(_midnight(first), window.start),
            min(_midnight(last + timedelta(days=1)), window.end),
            where,
            "; ".join(why[:3]),
        )
        for (first, last, where), why in found.items()
    )


def _midnight(day: date) -> pd.Timestamp:
    return pd.Timestamp(day).tz_localize(problem.TIMEZONE).tz_convert("UTC").to_pydatetime()
