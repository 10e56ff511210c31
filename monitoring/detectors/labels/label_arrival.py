"""Do labels arrive as they used to?  They are seldom missing or late at random, so both are held against the days before.

By slice, by score and by age: the labels of one day are equally old.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.schema.task import task
from monitoring import thresholds
from monitoring.data.aggregates import ALL
from monitoring.detectors.labels.label_checks import VALUE, Hit, by_slice, sums

BAND = "score band"  # 1 has the lowest scores


def coverage(rows: pd.DataFrame, before: pd.DataFrame) -> Iterator[Hit]:
    """Labels that are missing on every day of the window, or far more than ever on some of its days.

    Storms leave flights without a label, but not on all days: so the calmest day is held against the calmest of any such
    window before. Where the rare class is not reported, its share is missing on each day, so the share is measured
    against the score, or against the label rate of the day, where a storm made that higher. Days on which hardly any
    label came are held against the worst day before.
    """
    steps = np.arange(1, thresholds.SCORE_BANDS) / thresholds.SCORE_BANDS
    edges = np.unique(before["score"].quantile(steps).dropna())
    was, now = _missing(before, problem.TARGET, edges), _missing(rows, VALUE, edges)
    for where, window in now.groupby(level="slice"):
        share, past = window["ratio"].droplevel("slice"), was[was.index.get_level_values("slice") == where]["ratio"]
        if len(share) < thresholds.DRIFT_MIN_MATURED_DAYS or len(past) < thresholds.REFERENCE_MIN_DAYS:
            continue
        usual, worst = past.rolling(len(share)).min().max(), past.max()
        room = thresholds.MISSING_LABELS_ROOM if where == ALL else thresholds.MISSING_LABELS_SLICE_ROOM
        lost = share[share > worst + thresholds.MISSING_LABELS_DAY_ROOM]
        if share.min() > usual + room:
            of = f"at least {share.min():.2f} of the expected rate on every day, and at most {usual:.2f} before"
        elif len(lost) >= thresholds.FAULT_MIN_DAYS and not where.startswith(BAND):
            share = lost
            of = f"{lost.min():.2f} of the expected rate or more on {len(lost)} days, and at most {worst:.2f} before"
        else:
            continue
        band = f"in {where.replace('=', ' ')} " if where.startswith(BAND) else ""
        count = float(window["missing"].sum())
        yield Hit("missing", ALL if band else where, tuple(share.index), f"labels {band}are missing: {of}", count)


def _missing(rows: pd.DataFrame, name: str, edges: np.ndarray) -> pd.DataFrame:
    """By slice and day: labels that are `missing`, and their `ratio` to the rows, for an event to the expected rate."""
    bands = [f"{part + 1} of {len(edges) + 1}" for part in range(len(edges) + 1)]
    rows = rows.assign(**{BAND: np.array(bands)[np.searchsorted(edges, rows["score"])]})
    figures: dict[str, Any] = {
        "rows": 1.0,
        "missing": rows[name].isna(),
        "expected": 1.0,
        "label": rows[name].fillna(0),
    }
    if task().has_event:
        figures["expected"] = rows["score"].fillna(rows[problem.TARGET].mean())
    by_day = sums(rows, pd.DataFrame(figures, rows.index), [*problem.SLICES, BAND])
    by_day = by_day[by_day["rows"] >= thresholds.FAULT_MIN_ROWS]
    if not task().has_event:
        return by_day.assign(ratio=by_day["missing"] / by_day["rows"])
    least = np.maximum(
        thresholds.MISSING_MIN_EXPECTED, by_day["label"] / (by_day["rows"] - by_day["missing"]).clip(lower=1)
    )
    return by_day.assign(ratio=by_day["missing"] / np.maximum(by_day["expected"], least * by_day["rows"]))


def delay(rows: pd.DataFrame, before: pd.DataFrame) -> Iterator[Hit]:
    """Labels that came later, on some days, than nearly all labels of the worst day before did."""
    was, now = _hours(before), _hours(rows)
    daily = was.groupby(["slice", "day"])["hours"]
    nearly_all = daily.quantile(thresholds.USUAL_DELAY)[daily.size() >= thresholds.FAULT_MIN_ROWS]
    usual = nearly_all.groupby(level="slice").agg(["size", "max"])
    usual = usual[usual["size"] >= thresholds.REFERENCE_MIN_DAYS]["max"]
    late = (now["hours"] > now["slice"].map(usual)).groupby([now["slice"], now["day"]]).agg(["sum", "size"])
    for where, part in late[late["size"] >= thresholds.FAULT_MIN_ROWS].groupby(level="slice"):
        limit = thresholds.LATE_MAX_SHARE if where == ALL else thresholds.LATE_SLICE_MAX_SHARE
        bad = part[part["sum"] >= limit * part["size"]].droplevel("slice")
        if len(bad) >= thresholds.FAULT_MIN_DAYS:
            of = f"{bad['sum'].sum() / bad['size'].sum():.0%} of the labels of {len(bad)} days came later"
            message = f"{of} than {usual[where]:.1f} hours, in which nearly all came on the worst day before"
            yield Hit("late", where, tuple(bad.index), message, float(bad["sum"].sum()))


def _hours(rows: pd.DataFrame) -> pd.DataFrame:
    """The hours that each reported label took, once for each slice that it is in."""
    hours = (rows["known_at"] - rows["at"]).dt.total_seconds() / 3600
    return by_slice(rows, problem.SLICES).join(hours.rename("hours")).dropna(subset="hours")
