"""Does this look like data at all?  What no season and no concept drift does to inputs, by day and slice.

A rule of the Record that is broken is a fault at once. Every comparison with the reference days needs two days,
because one stormy day stretches any single figure; docs/monitoring.md says how far ordinary weeks go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd

from level1_pipeline.store.days import start_of
from level1_pipeline.store.quarantine import ROWS, Quarantined
from monitoring.data.aggregates import ALL
from monitoring.data.prediction_window import Log, can_be_reference
from monitoring.detectors.fault_checks import UNRELATED, Hit, Judged, TextValues, check_all, overlaps
from monitoring.results import Span, Window
from monitoring.thresholds import BLAME_MIN_CHECKED_SHARE, BROKEN_RULE_SIZE, FAULT_MIN_DAYS


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
    reference: Log,
    current: Log,
    quarantined: Iterable[Quarantined] = (),
    lifted: Iterable[Quarantined] = (),
    trained_on: TextValues | None = None,
) -> list[Fault]:
    """All faults of the current window, worst first; without enough reference only the schema is checked.

    Args:
        reference: the days before.
        current: the window.
        quarantined: the spans that were left out of both: their rows are set apart, and not gone.
        lifted: the spans that a person found to be no fault; they are none here.
        trained_on: the values of text inputs that the champion has learned from; they are not new when they return.
    """
    faults, judged = (
        [
            Fault(rule, column, ALL, tuple(sorted(days)), BROKEN_RULE_SIZE)
            for (column, rule), days in current.broken_rules.items()
        ],
        Judged(),
    )
    if len(current.rows) and can_be_reference(reference):
        rows_hidden = tuple(span for span in quarantined if span.what == ROWS)
        faults += _by_days(check_all(reference, current, rows_hidden, trained_on or {}, judged))
    faults, shares = _on_enough_days(faults), _shares(current)
    certain = _merge([fault for fault in faults if not fault.strange], judged, shares)
    # What is missing or stuck breaks the relations of other columns, too: name the cause only.
    certain = [fault for fault in certain if fault.kind != UNRELATED] or certain
    strange = _merge([fault for fault in faults if fault.strange], judged, shares)
    return _on_enough_days(_not_lifted([*certain, *strange], tuple(span for span in lifted if span.what == ROWS)))


def spans(faults: list[Fault], window: Window) -> tuple[Span, ...]:
    """The rows to quarantine: whole local days, from the first to the last bad day of each fault."""
    messages: dict[tuple[date, date, str], list[str]] = {}
    for fault in faults:
        messages.setdefault((min(fault.days), max(fault.days), fault.slice), []).append(fault.message)
    return tuple(
        Span(
            max(start_of(first).to_pydatetime(), window.start),
            min(start_of(last + timedelta(days=1)).to_pydatetime(), window.end),
            where,
            "; ".join(reasons[:3]),
        )
        for (first, last, where), reasons in messages.items()
    )


def _by_days(hits: list[Hit]) -> list[Fault]:
    """One fault for all days on which the same is wrong."""
    faults = []
    for (kind, column, where, strange), part in pd.DataFrame(hits, columns=Hit._fields).groupby(list(Hit._fields[:4])):
        days = tuple(sorted(set(part["day"])))
        faults.append(Fault(kind, column, where, days, float(part["size"].max()), bool(strange)))
    return faults


def _on_enough_days(faults: list[Fault]) -> list[Fault]:
    """A rule is no comparison: a single day that breaks it is enough."""

    def needed(fault: Fault) -> int:
        return 1 if fault.size == BROKEN_RULE_SIZE else FAULT_MIN_DAYS + fault.strange

    return [fault for fault in faults if len(fault.days) >= needed(fault)]


def _not_lifted(faults: list[Fault], lifted: tuple[Quarantined, ...]) -> list[Fault]:
    """The faults on the days on which nobody has lifted them."""

    def is_lifted(fault: Fault, day: date) -> bool:
        return any(span.slice in (ALL, fault.slice) and overlaps(span, day) for span in lifted)

    return [replace(fault, days=tuple(day for day in fault.days if not is_lifted(fault, day))) for fault in faults]


def _shares(log: Log) -> dict[str, float]:
    """The share of the rows by slice."""
    if log.sums.rows is None:
        return {}
    rows = log.sums.rows.groupby(level="slice").sum()
    return dict(rows / rows[ALL])


def _merge(faults: list[Fault], judged: Judged, shares: dict[str, float]) -> list[Fault]:
    """One fault for each kind and column: everywhere, or in the slices that explain it most narrowly."""
    merged: list[Fault] = []
    for kind, column in dict.fromkeys((fault.kind, fault.column) for fault in faults):
        by_dimension: dict[str, list[Fault]] = {}
        for fault in (fault for fault in faults if (fault.kind, fault.column) == (kind, column)):
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
    others = [shares.get(other, 0.0) for other in checked if other.partition("=")[0] == column and other != where]
    return bool(others) and sum(others) >= BLAME_MIN_CHECKED_SHARE * rest
