"""Slice label rates: has one slice's share of labels left what it ever was beside the others?

The weather of a day moves all slices; a fault of one source of labels moves one. So the label rate of each value of a
slice (for a regression the mean label, of several classes the share of each) is compared with that of the other values
on the same days, and this gap in the newest fortnights with the gap in every older fortnight.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.evaluation.day_mean import DIFFERENCE_CORRELATION, inflation
from level1_pipeline.evaluation.gate import Check, judge, rules
from level1_pipeline.evaluation.metrics import days
from level1_pipeline.schema.task import task

FORTNIGHT, STEP = 14, 7  # days of a window, and from one window of the history to the next
NEWEST = 42  # days that are judged: those of the holdout and the four weeks before it
HISTORY = 56  # days before them, without which nothing is judged: with 45, a hard February of one carrier is an alarm
ERRORS = 2.0  # standard errors of a window's gap that are given away to chance


class Window(NamedTuple):
    """The gap of one slice value in some days."""

    gap: float  # its mean label less that of the other values, weighted by its rows of each day
    error: float  # standard error over days that hang together
    rows: int


def label_rates(older: pd.DataFrame, holdout: pd.DataFrame, trusted: pd.DataFrame | None = None) -> Check:
    """Judge the newest six weeks, or fewer where the history would be too short.

    Args:
        older: the rows to train on.
        holdout: the newest rows.
        trusted: confirmed labels, which count in the place of the source's of the same rows.
    """
    columns = [problem.ID, problem.EVENT_TIME, problem.TARGET, *problem.SLICES]
    rows = pd.concat([older[columns], holdout[columns]], ignore_index=True)
    if trusted is not None:
        rows = pd.concat([trusted[columns], rows[~rows[problem.ID].isin(trusted[problem.ID])]], ignore_index=True)
    day, y = days(rows), rows[problem.TARGET].to_numpy("float64")
    newest = min(NEWEST, (day.max() + 1 - HISTORY) // FORTNIGHT * FORTNIGHT)
    if newest < FORTNIGHT:
        message = f"not judged: {day.max() + 1} days with labels, needed: {HISTORY + FORTNIGHT}"
        return Check("slice label rates", "pass", message)
    rule = rules()
    moved = {
        (about, f"{name}={value}"): shift / max(float(labels.std()), 1e-12)
        for about, labels in task().parts(y).items()
        for name in problem.SLICES
        for value, shift in _shifts(rows[name], labels, day, newest, rule.label_min_rows).items()
    }
    if not moved:
        return Check("slice label rates", "pass", "not judged: no slice is large enough, or there is only one value")
    worst = max(moved, key=moved.__getitem__)
    about, where = worst
    message = (
        f"worst of {len(moved)}: {where} left its history beside the others by {moved[worst]:+.2f} standard deviations "
        f"of {about} in the newest {newest} days (allowed: {rule.max_rate_shift}); are its labels right?"
    )
    return judge("slice label rates", moved[worst] <= rule.max_rate_shift, message)


def _shifts(values: pd.Series, y: np.ndarray, day: np.ndarray, newest: int, min_rows: int) -> dict[str, float]:
    """For each value of a slice, how far a new window surely lies outside the range of the old ones (or inside: < 0)."""
    code, names = pd.factorize(values.to_numpy())
    shape = (day.max() + 1, len(names))
    cell = day[code >= 0] * len(names) + code[code >= 0]  # a missing value belongs to no slice
    sums, counts = (
        pd.DataFrame(np.bincount(cell, weights, shape[0] * shape[1]).reshape(shape), columns=names)
        for weights in (y[code >= 0], np.ones(len(cell)))
    )
    others = counts.sum(axis=1).to_numpy()[:, None] - counts
    gaps = (sums / counts - (sums.sum(axis=1).to_numpy()[:, None] - sums) / others).where((counts > 0) & (others > 0))
    shifts, end = {}, len(gaps)
    for value in gaps:
        gap, count = gaps[value].to_numpy(), counts[value].where(gaps[value].notna(), 0).to_numpy()
        old = [_window(gap, count, stop) for stop in range(end - newest, FORTNIGHT - 1, -STEP)]
        new = [_window(gap, count, stop) for stop in range(end, end - newest, -FORTNIGHT)]
        before = [window.gap for window in old if window.rows >= min_rows]
        if before and (judged := [window for window in new if window.rows >= min_rows]):
            low, high = min(before), max(before)
            shifts[str(value)] = max(max(w.gap - high, low - w.gap) - ERRORS * w.error for w in judged)
    return shifts


def _window(gap: np.ndarray, count: np.ndarray, stop: int) -> Window:
    """The fortnight before day `stop`."""
    part, weight = np.nan_to_num(gap[stop - FORTNIGHT : stop]), count[stop - FORTNIGHT : stop]
    rows = int(weight.sum())
    if not rows:
        return Window(np.nan, np.nan, 0)
    mean = float((part * weight).sum() / rows)
    stretch = inflation(np.arange(FORTNIGHT), DIFFERENCE_CORRELATION)
    variance = (weight**2 * (part - mean) ** 2).sum() * FORTNIGHT / (FORTNIGHT - stretch)
    return Window(mean, float(np.sqrt(variance * stretch) / rows), rows)
