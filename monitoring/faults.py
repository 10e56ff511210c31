"""Does this look like data at all?  What no season and no real change does to inputs, by day and slice.

Each check compares the days of the window with the worst of the reference days, so that it needs no
distribution; docs/monitoring.md says how far ordinary weeks go. A fault needs two days, because one
stormy day stretches any single figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from monitoring import relations
from monitoring.findings import Span, Window
from monitoring.sums import ALL, SCORE
from monitoring.window import Log

DAYS = 2  # on which the same thing is wrong
ROWS = 50  # of a slice on a day, below which it is not judged
MIN_REFERENCE = 21  # days: with 14, seven of 109 ordinary weeks looked like faults, with 28 none
MISSING = 0.5  # more missing than on the worst reference day
COLLAPSED = 0.1  # of the smallest spread of a reference day
LOST = 0.1  # of the smallest share of a reference day
BROKEN, STRANGE = 4.0, 2.5  # times the worst reference day's distance from the relation among the inputs
UNKNOWN = 0.2  # share of values never seen on the reference days
LARGE = 0.2  # share of the rows from which a slice's relations are judged: a small airline may change its timetable
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
    def words(self) -> str:
        """For people."""
        where = f" at {self.slice}" if self.slice else ""
        return f"{self.column}: {self.kind}{where} on {len(self.days)} days from {min(self.days)}"


def find(reference: Log, current: Log) -> list[Fault]:
    """All faults of the current window, worst first; without enough reference only the schema is checked."""
    found = [*_out_of_bounds(current), *_out_of_list(current)]
    before = reference.sums.by_slice()
    if len(reference.rows) and len(current.rows) and before.index.get_level_values("day").nunique() >= MIN_REFERENCE:
        now = current.sums.by_slice()
        hits = [*_missing(before, now), *_collapsed(before, now), *_lost(reference, current)]
        hits += [*_unknown(reference.rows, current.rows), *_unrelated(reference.rows, current.rows)]
        found += [_fault(key, part) for key, part in pd.DataFrame(hits, columns=_HIT).groupby(_HIT[:4])] if hits else []
    # A rule is no comparison: a single day that breaks it is enough.
    found = [fault for fault in found if len(fault.days) >= DAYS + fault.strange or fault.size == CERTAIN]
    faults = _merge([fault for fault in found if not fault.strange])
    # What is missing or stuck breaks the relations of other columns, too: name the cause only.
    faults = [fault for fault in faults if fault.kind != UNRELATED] or faults
    return faults + _merge([fault for fault in found if fault.strange])


UNRELATED = "does not fit the other inputs"
_HIT = ["kind", "column", "slice", "strange", "day", "size"]
Hit = tuple[str, str, str, bool, date, float]


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


def _missing(before: pd.DataFrame, now: pd.DataFrame) -> Iterator[Hit]:
    judged = now[now["rows"] >= ROWS]["missing"]
    worst = _worst(before["missing"][before["rows"] >= ROWS], ["slice", "column"], "max")
    more = judged - worst.reindex(judged.index.droplevel("day")).to_numpy()
    for (where, day, column), size in more[more > MISSING].items():
        yield "missing far more often", column, where, False, day, size / MISSING


def _collapsed(before: pd.DataFrame, now: pd.DataFrame) -> Iterator[Hit]:
    judged = now[now["count"] >= ROWS]["std"]
    known = before[before["count"] >= ROWS]["std"]
    days, least = known.groupby(level=["slice", "column"]).size(), _worst(known, ["slice", "column"], "min")
    least = least[(days >= MIN_REFERENCE) & (least > 0)].drop(SCORE, level="column", errors="ignore")
    ratio = judged / least.reindex(judged.index.droplevel("day")).to_numpy()
    for (where, day, column), size in ratio[ratio < COLLAPSED].items():
        yield "stuck (hardly any spread)", column, where, False, day, COLLAPSED / max(size, 1e-3)


def _lost(reference: Log, current: Log) -> Iterator[Hit]:
    if reference.sums.rows is None or current.sums.rows is None:
        return
    tables = [
        sums.rows.unstack("slice", fill_value=0.0) for sums in (reference.sums, current.sums) if sums.rows is not None
    ]
    before, now = (table.div(table[ALL], axis=0) for table in tables)
    steady = [name for name in before if name and tables[0][name].min() >= ROWS]
    for name in steady:
        share = now[name] if name in now else pd.Series(0.0, now.index)
        for day in share.index[share < LOST * before[name].min()]:
            yield "rows are gone", name.split("=")[0], name, False, day, 1 / LOST


def _unknown(before: pd.DataFrame, now: pd.DataFrame) -> Iterator[Hit]:
    for name in (column.name for column in schema.columns() if column.text):
        new = ~now[name].isin(set(before[name]))
        share = new.groupby(now["day"]).mean()
        for day, size in share[share > UNKNOWN].items():
            yield "values never seen before", name, ALL, False, day, size / UNKNOWN


def _unrelated(before: pd.DataFrame, now: pd.DataFrame) -> Iterator[Hit]:
    relation = relations.learn(before)
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
    for (where, day, column), size in ratio.stack().items():  # noqa: PD013
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


def _merge(faults: list[Fault]) -> list[Fault]:
    """One fault for each kind and column: everywhere, or in the slices that explain it most narrowly."""
    merged: list[Fault] = []
    for kind, column in dict.fromkeys((fault.kind, fault.column) for fault in faults):
        same = [fault for fault in faults if (fault.kind, fault.column) == (kind, column)]
        by_dimension: dict[str, list[Fault]] = {}
        for fault in same:
            by_dimension.setdefault(fault.slice.partition("=")[0], []).append(fault)
        narrow: list[list[Fault]] = [part for name, part in by_dimension.items() if name]
        everywhere = ALL in by_dimension and all(len(part) > 1 for part in narrow)
        merged += by_dimension[ALL] if everywhere else narrow[int(np.argmin([len(part) for part in narrow]))]
    return sorted(merged, key=lambda fault: -fault.size)


def spans(faults: list[Fault], window: Window) -> tuple[Span, ...]:
    """The rows to quarantine: whole local days, from the first to the last bad day of each fault."""
    found: dict[tuple[date, date, str], list[str]] = {}
    for fault in faults:
        found.setdefault((min(fault.days), max(fault.days), fault.slice), []).append(fault.words)
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
