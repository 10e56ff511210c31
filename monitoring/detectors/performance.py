"""How did each version do, how sure are we, and, before outcomes come, how should it do?

Only matured outcomes count. A day is the unit of all uncertainty. `skill` compares with the window's
own base rate, because a stormy week is hard for every model.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.evaluation import metrics
from level1_pipeline.evaluation.day_mean import day_mean, inflation
from level1_pipeline.evaluation.metrics import CONFIDENCE
from level1_pipeline.schema.scores import by_part, from_columns, means, watched
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from monitoring.data.aggregates import ALL
from monitoring.data.prediction_window import Answers
from monitoring.results import Bin, Coverage, DayFigures, Estimate, Interval, Performance, SliceFigures
from monitoring.thresholds import CALIBRATION_BINS, ESTIMATE_MIN_DAYS, METRIC_MIN_ROWS

CANNOT_SEE = "It cannot see concept drift: if the relation between inputs and outcome changed, it is wrong."


def measure(answers: Answers, promised: dict[str, float], reference: pd.DataFrame | None = None) -> Performance:
    """Everything about one version in one arm.

    Args:
        answers: of the window.
        promised: the metrics at promotion.
        reference: earlier matured rows of any version, on which the estimate is calibrated.
    """
    rows = answers.matured_rows
    latency = answers.rows["latency_ms"].median() if len(answers.rows) else None
    return Performance(
        version=answers.version,
        arm=answers.arm,
        coverage=answers.coverage,
        metrics=with_intervals(rows),
        promised={name: value for name, value in promised.items() if math.isfinite(value)},
        slices=_slices(answers),
        days=_days(answers),
        calibration=_bins(rows),
        estimate=estimate(answers.rows, reference),
        sampled=answers.sampled,
        errors=answers.errors,
        latency_ms=number(latency),
    )


def number(value: Any) -> float | None:
    """A finite number, or None: JSON has no NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def figures(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """The problem's metrics and the skill: 1 - loss / loss of the window's own mean. Empty for no rows."""
    if not len(y):
        return {}
    values = problem.evaluate(y, p)
    plain = problem.evaluate(y, means(y))[problem.PRIMARY_METRIC] if np.ptp(y) else 0.0
    return {**values, "skill": 1 - values[problem.PRIMARY_METRIC] / plain if plain > 0 else math.nan}


def with_intervals(rows: pd.DataFrame) -> dict[str, Interval]:
    """Each metric of matured rows, and the skill, with its 95 % interval (`evaluation.metrics.with_intervals`)."""
    if not len(rows):
        return {}
    y, p = rows[problem.TARGET].to_numpy(), from_columns(rows)
    day = rows["day"].map(date.toordinal).to_numpy()
    table = metrics.with_intervals(y, p, day, figures)
    return {str(name): Interval(*map(number, values)) for name, *values in table.itertuples()}


def matured(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a score and a matured outcome."""
    return rows[rows[problem.TARGET].notna() & rows["score"].notna()] if len(rows) else rows


def _slices(answers: Answers) -> tuple[SliceFigures, ...]:
    """Counts of all rows, metrics of the sample."""
    parts, rows = [], answers.rows
    if answers.counts is None or not len(rows):
        return ()
    exact = answers.counts.groupby(level="slice").sum()
    for name in (slice_ for slice_ in problem.SLICES if slice_ in rows):
        for value, part in rows.groupby(name, observed=True):
            if len(part) >= METRIC_MIN_ROWS:
                n, with_outcome, open_, hidden = map(int, exact.loc[f"{name}={value}"])
                never = n - with_outcome - open_ - hidden
                coverage = Coverage(n, with_outcome, open_, never, labels_quarantined=hidden)
                share, intervals = n / answers.predictions, with_intervals(matured(part))
                parts.append(SliceFigures(f"{name}={value}", coverage, share, intervals))
    return tuple(parts)


def _days(answers: Answers) -> tuple[DayFigures, ...]:
    """Counts of all rows, figures of the sample."""
    days, rows = [], answers.rows
    if answers.counts is None or not len(rows):
        return ()
    exact = answers.counts.xs(ALL, level="slice")
    for day, part in rows.groupby("day"):
        judged = matured(part)
        y, p = judged[problem.TARGET].to_numpy(), from_columns(judged)
        by_metric = {name: number(value) for name, value in figures(y, p).items()} if len(y) >= METRIC_MIN_ROWS else {}
        observed, expected = (float(curve.mean()) if len(y) else None for curve in watched(y, p))
        n, with_outcome = int(exact["predictions"][day]), int(exact["matured"][day])
        days.append(DayFigures(str(day), n, with_outcome, by_metric, observed, expected, _shares(y, p)))
    return tuple(days)


def _shares(y: np.ndarray, p: np.ndarray) -> dict[str, tuple[float, float]]:
    """Of each class how many rows have it, and how many the scores promise; empty without several classes."""
    if not classes() or not len(y):
        return {}
    return {about: (float(labels.mean()), float(part.mean())) for about, labels, part in by_part(y, p)}


def _bins(rows: pd.DataFrame) -> tuple[Bin, ...]:
    if len(rows) < METRIC_MIN_ROWS:
        return ()
    bins = []
    for about, labels, part in by_part(rows[problem.TARGET].to_numpy(), from_columns(rows)):
        table = pd.DataFrame({"p": part, "y": labels})
        group = pd.qcut(table["p"], CALIBRATION_BINS, labels=False, duplicates="drop")
        name = about if classes() else ""
        bins += [Bin(float(p["p"].mean()), float(p["y"].mean()), len(p), name) for _, p in table.groupby(group)]
    return tuple(bins)


def estimate(rows: pd.DataFrame, reference: pd.DataFrame | None) -> Estimate | None:
    """What calibrated scores promise for the window (confidence-based estimation); None for a regression.

    The expected loss of a score is known without its outcome. How far observed days lie from that,
    on matured reference days, corrects the estimate and gives its interval; so it covers as stated as
    long as the days of the window are like those.
    """
    scored = rows[rows["score"].notna()] if len(rows) else rows
    if len(scored) < METRIC_MIN_ROWS or not (promises := task().promises(from_columns(scored))):
        return None
    expected = _by_day(scored, promises)
    errors = pd.DataFrame()
    if reference is not None and len(reference):
        p, y = from_columns(reference), reference[problem.TARGET].to_numpy()
        seen, hoped = task().keeps(y, p), task().promises(p)
        errors = _by_day(reference, {name: seen[name] - hoped[name] for name in hoped})
    predicted = {name: _predicted(expected[name], errors[name] if len(errors) else None) for name in expected}
    how = (
        "corrected by matured days"
        if len(errors) >= ESTIMATE_MIN_DAYS
        else "no matured days yet to correct it or to bound it"
    )
    return Estimate(
        predicted, len(scored), f"Estimated from {len(scored):,} scores as if they were calibrated, {how}. {CANNOT_SEE}"
    )


def _by_day(rows: pd.DataFrame, figures: dict[str, np.ndarray]) -> pd.DataFrame:
    table = pd.DataFrame(figures)
    return table.groupby(rows["day"].to_numpy()).mean()


def _predicted(expected: pd.Series, errors: pd.Series | None) -> Interval:
    if errors is None or len(errors) < ESTIMATE_MIN_DAYS:
        return Interval(float(expected.mean()))
    before = day_mean(errors.to_numpy(), errors.index.to_numpy())
    own = before.variance * inflation(expected.index.to_numpy()) / len(expected)  # the days of the window err, too
    half = before._replace(error=math.hypot(before.error, math.sqrt(own))).half_width((1 + CONFIDENCE) / 2)
    value = float(expected.mean()) + before.value
    return Interval(value, value - half, value + half)
