"""Does the relation between inputs and outcome still hold?  Calibration and loss against what is expected, by day.

A raw loss moves with the weather; what a calibrated model expects its loss to be moves along. So we
test the mean daily difference between observed and expected: of the outcome (calibration), and of the
loss (skill beyond calibration). These are t-tests over days that hang together (`evaluation.day_mean`). And because a
drift of the concept is not confined to one value of one slice, the test is repeated without each large one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.evaluation.day_mean import DIFFERENCE_CORRELATION, DayMean, day_mean
from level1_pipeline.schema.scores import by_part
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.store.quarantine import AND
from monitoring import thresholds
from monitoring.results import AffectedSlice


@dataclass(frozen=True)
class ConceptDrift:
    """The tests of a window: None for `changed` means that there was too little to test."""

    changed: bool | None
    days: int
    rows: int
    bias: float  # mean daily observed - expected outcome
    bias_t: float
    excess: float | None  # mean daily observed - expected loss; None if nobody knows what to expect
    excess_t: float | None
    everywhere: bool  # the signal stays when any one slice value is left out
    explained_by_slice: str  # the slice value without which it goes away
    outlier_slices: tuple[AffectedSlice, ...]  # slice values whose outcomes left those of the others
    slices: tuple[AffectedSlice, ...]  # ranked by share x change
    about: str = ""  # of several classes that of `bias` and the slices: the one that is off most surely


UNTESTED = ConceptDrift(None, 0, 0, 0.0, 0.0, None, None, False, "", (), ())


def check(
    rows: pd.DataFrame, scores: np.ndarray, promised: float | None = None, lasting: bool = False, about: str = ""
) -> ConceptDrift:
    """Test matured rows (`day`, TARGET, slices) against `scores`, (n,) or (n, classes).

    Of several classes each is tested for itself, so surely that a false alarm is no likelier than with one.

    Args:
        rows: matured answers.
        scores: of the model in question for these rows.
        promised: the RMSE at promotion, which a regression is held against (None: its loss is not tested).
        lasting: the rows are those of several windows, and a signal will be acted upon.
        about: the only class that is asked about.
    """
    if not len(rows):
        return UNTESTED
    tables = _figures(rows, scores, promised)
    tests = [_test(table, rows, lasting, len(tables)) for name, table in tables.items() if about in ("", name)]
    named = [replace(test, about=name) for test, name in zip(tests, [about] if about else tables, strict=True)]
    return max(named if classes() else tests, key=lambda test: (bool(test.changed), abs(test.bias_t)))


def _test(table: pd.DataFrame, rows: pd.DataFrame, lasting: bool, parts: int) -> ConceptDrift:
    """One part of the scores; the chance of a false alarm is divided by the number of parts."""
    daily = _by_day(table)
    if len(daily) < thresholds.DRIFT_MIN_MATURED_DAYS or len(rows) < thresholds.DRIFT_MIN_MATURED_ROWS:
        return UNTESTED
    spread = float(table["y"].std()) or 1.0
    min_bias = (thresholds.LASTING_MIN_BIAS if lasting else thresholds.WINDOW_MIN_BIAS) * spread
    confidence = thresholds.LASTING_CONFIDENCE if lasting else thresholds.WINDOW_CONFIDENCE
    confidence = 1 - (1 - confidence) / parts if parts > 1 else confidence
    direction = _direction(daily, min_bias, confidence)
    explained_by = _explained_by(table, rows, thresholds.WINDOW_MIN_BIAS * spread, direction) if direction else ""
    bias, excess = over_days(daily["bias"]), over_days(daily["excess"])
    is_known = bool(np.isfinite(excess.value))
    return ConceptDrift(
        changed=bool(direction),
        days=len(daily),
        rows=len(rows),
        bias=bias.value,
        bias_t=bias.t,
        excess=excess.value if is_known else None,
        excess_t=excess.t if is_known else None,
        everywhere=bool(direction) and not explained_by,
        explained_by_slice=explained_by,
        outlier_slices=_outlier_slices(table, rows, spread),
        slices=_ranked(table, rows),
    )


def same_direction(window: ConceptDrift, over: ConceptDrift) -> bool:
    """Whether a single window is off in the direction of the windows together: its rate of outcomes, or its loss."""
    least = thresholds.SAME_DIRECTION_MIN_T
    same_side = window.bias * over.bias > 0 and abs(window.bias_t) > least
    return same_side or ((over.excess or 0.0) > thresholds.MIN_EXCESS_LOSS and (window.excess_t or 0.0) > least)


def daily_figures(rows: pd.DataFrame, scores: np.ndarray, promised: float | None = None) -> pd.DataFrame:
    """`bias` and `excess` of each day with enough rows, the arguments as in `check`."""
    return _by_day(next(iter(_figures(rows, scores, promised).values())))


def over_days(daily: pd.Series) -> DayMean:
    """The mean of a figure whose index holds the local days."""
    return day_mean(daily.to_numpy(), daily.index.to_numpy())


def beyond(daily: pd.Series, confidence: float) -> bool:
    """Whether the mean over days is above zero with this one-sided confidence."""
    mean = over_days(daily)
    return mean.value > mean.half_width(confidence)


def _figures(rows: pd.DataFrame, scores: np.ndarray, promised: float | None) -> dict[str, pd.DataFrame]:
    """For each part of the scores the label, the bias and the excess loss (which is that of the whole score) of each row."""
    y = rows[problem.TARGET].to_numpy("float64")
    excess = task().excess(y, scores, promised)
    day = rows["day"].to_numpy()
    return {
        about: pd.DataFrame({"y": labels, "bias": labels - part, "excess": excess, "day": day})
        for about, labels, part in by_part(y, scores)
    }


def _by_day(table: pd.DataFrame) -> pd.DataFrame:
    grouped = table.groupby("day")[["bias", "excess"]]
    return grouped.mean()[grouped.size() >= thresholds.DAY_MIN_ROWS]


def _direction(daily: pd.DataFrame, min_bias: float, confidence: float) -> str:
    """Which figure is off in which direction; empty if none is."""
    bias, excess = daily["bias"], daily["excess"]
    trials = {
        "higher": beyond(bias, confidence) and bias.mean() > min_bias,
        "lower": beyond(-bias, confidence) and -bias.mean() > min_bias,
        "worse": beyond(excess, confidence) and excess.mean() > thresholds.MIN_EXCESS_LOSS,
    }
    return next((name for name, is_off in trials.items() if is_off), "")


def _explained_by(table: pd.DataFrame, rows: pd.DataFrame, min_bias: float, direction: str) -> str:
    """The slice value without which the signal is gone or less than half of what it was, or nothing."""

    def signed(daily: pd.DataFrame) -> pd.Series:
        return {"higher": daily["bias"], "lower": -daily["bias"], "worse": daily["excess"]}[direction]

    least = max(thresholds.MIN_EXCESS_LOSS if direction == "worse" else min_bias, signed(_by_day(table)).mean() / 2)
    for name, index in _parts(rows, thresholds.LEFT_OUT_MIN_SHARE, thresholds.LEFT_OUT_MAX_SHARE).items():
        rest = signed(_by_day(table.drop(index=table.index[index])))
        if not (beyond(rest, thresholds.WITHOUT_SLICE_CONFIDENCE) and rest.mean() > least):
            return name
    return ""


def _outlier_slices(table: pd.DataFrame, rows: pd.DataFrame, spread: float) -> tuple[AffectedSlice, ...]:
    """The slice values whose outcomes left those of the others on the same days.

    The worst one is taken out before the next is looked for: beside a bad airport all the others look odd. The worst is
    the one that explains most of the variance between itself and the others, as in a regression tree, so that two
    values together are blamed where it is only their combination.
    """
    outliers: list[AffectedSlice] = []
    parts = _parts(rows, 0.0, thresholds.OUTLIER_SLICE_MAX_SHARE) | dict(_pairs(rows))
    remaining = np.ones(len(rows), bool)
    while len(outliers) < thresholds.OUTLIER_SLICES_MAX and (
        worst := max(_gaps(table, parts, remaining, spread), key=lambda part: part.weight, default=None)
    ):
        outliers.append(worst)
        remaining[parts.pop(worst.slice)] = False
    return tuple(outliers)


def _gaps(
    table: pd.DataFrame, parts: dict[str, np.ndarray], remaining: np.ndarray, spread: float
) -> Iterator[AffectedSlice]:
    """Each part of the remaining rows whose outcomes clearly left those of the rest."""
    for name, index in parts.items():
        inside = np.zeros(len(table), bool)
        inside[index] = True
        inside &= remaining
        share = inside.sum() / max(remaining.sum(), 1)
        if inside.sum() < problem.GATE["slice_min_rows"] or share > thresholds.OUTLIER_SLICE_MAX_SHARE:
            continue
        by_day = [table[which].groupby("day")["bias"].mean() for which in (inside, remaining & ~inside)]
        gap = (by_day[0] - by_day[1]).dropna()
        mean = day_mean(gap.to_numpy(), gap.index.to_numpy(), DIFFERENCE_CORRELATION)
        is_guilty = abs(by_day[0].mean()) >= abs(
            by_day[1].mean()
        )  # else the others left their scores, and not this part
        is_large = abs(mean.value) > thresholds.OUTLIER_SLICE_MIN_GAP * spread
        is_sure = abs(mean.value) > mean.half_width(thresholds.OUTLIER_SLICE_CONFIDENCE)
        if len(gap) >= thresholds.DRIFT_MIN_MATURED_DAYS and is_guilty and is_large and is_sure:
            yield AffectedSlice(name, float(share), mean.value, float(share * (1 - share) * mean.value**2))


def _ranked(table: pd.DataFrame, rows: pd.DataFrame) -> tuple[AffectedSlice, ...]:
    parts = []
    for name, index in _parts(rows, 0.0).items():
        share, change = len(index) / len(rows), float(table["bias"].iloc[index].mean())
        parts.append(AffectedSlice(name, share, change, share * abs(change)))
    return tuple(sorted(parts, key=lambda part: -part.weight)[:5])


def _parts(rows: pd.DataFrame, min_share: float, max_share: float = 1.0) -> dict[str, np.ndarray]:
    """Row numbers by `column=value`, of the values with a share of the rows between these."""
    return {
        f"{name}={value}": index
        for name in problem.SLICES
        if name in rows
        for value, index in rows.groupby(name, observed=True).indices.items()
        if min_share * len(rows) <= len(index) <= max_share * len(rows)
    }


def _pairs(rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Row numbers of the combinations of two slices' values."""
    for names in combinations([name for name in problem.SLICES if name in rows], 2):
        for values, index in rows.groupby(list(names), observed=True).indices.items():
            yield AND.join(f"{name}={value}" for name, value in zip(names, values, strict=True)), index
