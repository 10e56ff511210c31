"""How good are predictions, how sure are we, for whom, and are they better than other predictions?

A day is the unit of all uncertainty, because the rows of one day succeed and fail together; and consecutive days are
alike (`day_mean`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.evaluation.day_mean import DIFFERENCE_CORRELATION, DayMean, day_mean
from level1_pipeline.evaluation.decisions import acted, prices
from level1_pipeline.schema.task import task

CONFIDENCE = 0.95
HARM_CONFIDENCE = 0.90  # of the one-sided bound on how much worse the challenger may be


def days(rows: pd.DataFrame) -> np.ndarray:
    """The local day of each row, as a number of days since the first; shape (n,)."""
    local = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.tz_localize(None)
    day = (local - pd.Timestamp(0)).dt.days.to_numpy()
    return day - day.min() if len(day) else day


def with_intervals(
    y: np.ndarray,
    p: np.ndarray,
    day: np.ndarray,
    figures: Callable[[np.ndarray, np.ndarray], dict[str, float]] | None = None,
) -> pd.DataFrame:
    """Each metric with a 95 % interval from the delete-one-day jackknife.

    (Efron and Stein, 1981; with two weeks of days its t-interval is steadier than the percentiles of a bootstrap. Its
    pseudo-values are daily figures like others, so that they may hang together.)

    Args:
        y, p: labels and predictions, shape (n,).
        day: the day of each row, as numbers.
        figures: the metrics, by default those of the problem.

    Returns:
        Index: metric; columns: value, low, high (NaN where a metric does not exist without one of the days).
    """
    import sklearn

    figures = figures or problem.evaluate
    value, blocks = pd.Series(figures(y, p)), np.unique(day)
    if len(blocks) < 2:
        return pd.DataFrame({"value": value, "low": np.nan, "high": np.nan})
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):  # checked once, above
        without = pd.DataFrame([figures(y[day != block], p[day != block]) for block in blocks])
    over_days = {name: _jackknife(value[name], without[name].to_numpy(), blocks) for name in value.index}
    half = pd.Series({name: mean.half_width((1 + CONFIDENCE) / 2) for name, mean in over_days.items()})
    return pd.DataFrame({"value": value, "low": value - half, "high": value + half})


def _jackknife(value: float, without: np.ndarray, day: np.ndarray, **options: float) -> DayMean:
    """The mean of the pseudo-values of a figure, from its values without each of the days."""
    return day_mean(len(day) * value - (len(day) - 1) * without, day, **options)


def by_slice(rows: pd.DataFrame, p: np.ndarray, min_rows: int) -> pd.DataFrame:
    """Metrics for each value of each slice with at least `min_rows` rows. Columns: slice, value, rows, metrics."""
    table = []
    for name in problem.SLICES:
        for value, index in rows.groupby(name, observed=True).indices.items():
            if len(index) >= min_rows:
                y = rows[problem.TARGET].to_numpy()[index]
                table.append({"slice": name, "value": str(value), "rows": len(index), **problem.evaluate(y, p[index])})
    return pd.DataFrame(table)


def cost(y: np.ndarray, p: np.ndarray) -> float | None:
    """What the decisions about rows cost, in the unit of `problem.COSTS`, per row.

    `problem.COSTS` names first the price of a miss, then that of a needless action. None without them, and for a
    regression.
    """
    named = prices()
    if named is None or not len(y):
        return None
    miss, needless = named
    return float(np.where(acted(p), (1 - y) * needless, y * miss).mean())


def group_gaps(rows: pd.DataFrame, p: np.ndarray, min_rows: int) -> pd.DataFrame:
    """The largest gaps between groups in miss rate and in calibration, each with a 95 % interval by days.

    Reported in the model card and blocking nothing: whether a gap is unfair is a question for people.
    Empty for a regression, where a miss is not defined.
    """
    if not task().has_event:
        return pd.DataFrame()
    y, day, table = rows[problem.TARGET].to_numpy(), days(rows), []
    no_action = ~acted(p)
    for name in problem.SLICES:
        groups = {
            v: i for v, i in rows.groupby(name, observed=True).indices.items() if len(i) >= min_rows and y[i].any()
        }
        parts = {"miss rate": (y * no_action, y), "calibration": (y, p)}
        for measure, (top, bottom) in parts.items():
            if len(groups) > 1:
                table.append({"slice": name, "measure": measure, **_widest_gap(groups, top, bottom, day)})
    return pd.DataFrame(table)


def _widest_gap(groups: dict[Any, np.ndarray], top: np.ndarray, bottom: np.ndarray, day: np.ndarray) -> dict[str, Any]:
    ratio = {value: top[index].sum() / bottom[index].sum() for value, index in groups.items()}
    worst, best = max(ratio, key=ratio.__getitem__), min(ratio, key=ratio.__getitem__)
    blocks, number = np.unique(day, return_inverse=True)

    def without_each_day(index: np.ndarray) -> np.ndarray:
        upper, lower = (np.bincount(number[index], values[index], len(blocks)) for values in (top, bottom))
        return (upper.sum() - upper) / np.maximum(lower.sum() - lower, 1e-12)

    without = without_each_day(groups[worst]) - without_each_day(groups[best])
    mean = _jackknife(ratio[worst] - ratio[best], without, blocks, correlation=DIFFERENCE_CORRELATION)
    half = mean.half_width((1 + CONFIDENCE) / 2)
    return {
        "highest": f"{worst} {ratio[worst]:.3f}",
        "lowest": f"{best} {ratio[best]:.3f}",
        "gap": ratio[worst] - ratio[best],
        "low": ratio[worst] - ratio[best] - half,
        "high": ratio[worst] - ratio[best] + half,
    }


@dataclass(frozen=True)
class Comparison:
    """Challenger against champion on the same rows; a positive gain means that the challenger is better."""

    days: int
    gain: float  # mean of the paired daily differences of the primary metric
    harm_bound: float  # with 90 % confidence the challenger is not worse than this
    identical: bool
    flips: int  # decisions that would change
    flips_by_slice: dict[str, int]  # where, most first
    clearly_worse: bool = False  # with 90 % confidence there is harm


def primary_metric(y: np.ndarray, p: np.ndarray) -> float:
    """The primary metric of one day; NaN where it is not defined, as with a single row or label it may be."""
    try:
        return problem.evaluate(y, p)[problem.PRIMARY_METRIC]
    except ValueError:
        return np.nan


def compare(rows: pd.DataFrame, champion: np.ndarray, challenger: np.ndarray) -> Comparison:
    """Paired daily differences of the primary metric, with a one-sided t-bound on the harm.

    Days on which the metric is not defined do not count.
    """
    y, day = rows[problem.TARGET].to_numpy(), days(rows)
    by_day = {block: np.flatnonzero(day == block) for block in np.unique(day)}
    gains = {
        block: primary_metric(y[i], champion[i]) - primary_metric(y[i], challenger[i]) for block, i in by_day.items()
    }
    counted = {block: gain for block, gain in gains.items() if np.isfinite(gain)}
    gain = day_mean(list(counted.values()), list(counted), DIFFERENCE_CORRELATION)
    slack = gain.half_width(HARM_CONFIDENCE)
    flipped = np.array(
        [problem.choose_action(a) != problem.choose_action(b) for a, b in zip(champion, challenger, strict=True)]
    )
    where = {
        f"{name}={value}": int(flipped[index].sum())
        for name in problem.SLICES
        for value, index in rows.groupby(name, observed=True).indices.items()
    }
    most = dict(sorted(((k, v) for k, v in where.items() if v), key=lambda item: -item[1])[:8])
    return Comparison(
        days=len(counted),
        gain=gain.value,
        harm_bound=slack - gain.value,
        identical=bool(np.array_equal(champion, challenger)),
        flips=int(flipped.sum()),
        flips_by_slice=most,
        clearly_worse=gain.value + slack < 0,
    )
