"""Does the relation between inputs and outcome still hold?  Calibration and loss against what is expected, by day.

A raw loss moves with the weather; what a calibrated model expects its loss to be moves along. So we
test the mean daily difference between observed and expected: of the outcome (calibration), and of the
loss (skill beyond calibration). A day is one draw, so these are t-tests over days. And because a real
change is not confined to one value of one slice, the test is repeated without each large one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from level1_pipeline import problem
from monitoring import thresholds
from monitoring.results import AffectedSlice

SCORE_EDGE = 1e-6  # scores are kept this far from 0 and 1, where the log loss is infinite


@dataclass(frozen=True)
class ConceptDrift:
    """The tests of a window: None for `changed` means that there was too little to test."""

    changed: bool | None
    days: int
    rows: int
    bias: float  # mean daily observed - expected outcome
    bias_t: float
    excess: float  # mean daily observed - expected loss
    excess_t: float
    everywhere: bool  # the signal stays when any one slice value is left out
    explained_by_slice: str  # the slice value without which it goes away
    outlier_slices: tuple[AffectedSlice, ...]  # slice values whose outcomes left those of the others
    slices: tuple[AffectedSlice, ...]  # ranked by share x change


UNTESTED = ConceptDrift(None, 0, 0, 0.0, 0.0, 0.0, 0.0, False, "", (), ())


def check(rows: pd.DataFrame, scores: np.ndarray, promised: float | None = None, lasting: bool = False) -> ConceptDrift:
    """Test matured rows (`day`, TARGET, slices) against `scores` (n,).

    Args:
        rows: matured answers.
        scores: of the model in question for these rows.
        promised: the RMSE at promotion, which a regression is held against (None: only its bias is tested).
        lasting: the rows are those of several windows, and a signal will be acted upon.
    """
    if not len(rows):
        return UNTESTED
    table = _figures(rows, scores, promised)
    daily = _daily(table)
    if len(daily) < thresholds.DRIFT_MIN_MATURED_DAYS or len(rows) < thresholds.DRIFT_MIN_MATURED_ROWS:
        return UNTESTED
    spread = float(table["y"].std()) or 1.0
    min_bias = (thresholds.LASTING_MIN_BIAS if lasting else thresholds.WINDOW_MIN_BIAS) * spread
    confidence = thresholds.LASTING_CONFIDENCE if lasting else thresholds.WINDOW_CONFIDENCE
    direction = _direction(daily, min_bias, confidence)
    explained_by = _explained_by(table, rows, thresholds.WINDOW_MIN_BIAS * spread, direction) if direction else ""
    bias, excess = daily["bias"], daily["excess"]
    return ConceptDrift(
        changed=bool(direction),
        days=len(daily),
        rows=len(rows),
        bias=float(bias.mean()),
        bias_t=t_value(bias),
        excess=float(excess.mean()),
        excess_t=t_value(excess),
        everywhere=bool(direction) and not explained_by,
        explained_by_slice=explained_by,
        outlier_slices=_outlier_slices(table, rows, spread),
        slices=_ranked(table, rows),
    )


def same_direction(window: ConceptDrift, over: ConceptDrift) -> bool:
    """Whether a single window is off in the direction of the windows together: its rate of outcomes, or its loss."""
    least = thresholds.SAME_DIRECTION_MIN_T
    same_side = window.bias * over.bias > 0 and abs(window.bias_t) > least
    return same_side or (over.excess > thresholds.MIN_EXCESS_LOSS and window.excess_t > least)


def t_value(daily: pd.Series) -> float:
    """Mean over its standard error; 0 for less than two days."""
    if len(daily) < 2:
        return 0.0
    return float(daily.mean() / max(daily.std(ddof=1) / np.sqrt(len(daily)), 1e-12))


def beyond(daily: pd.Series, confidence: float) -> bool:
    """Whether the mean over days is above zero with this one-sided confidence."""
    from scipy.stats import t

    return len(daily) > 1 and t_value(daily) > t.ppf(confidence, len(daily) - 1)


def _figures(rows: pd.DataFrame, scores: np.ndarray, promised: float | None) -> pd.DataFrame:
    y = rows[problem.TARGET].to_numpy("float64")
    if problem.TASK == "classification":
        p = np.clip(scores, SCORE_EDGE, 1 - SCORE_EDGE)
        excess = (p - y) * np.log(p / (1 - p))  # log loss minus its expectation, the entropy
    else:
        expected = promised**2 if promised else np.mean((y - scores) ** 2)
        excess = (y - scores) ** 2 / expected - 1
    return pd.DataFrame({"y": y, "bias": y - scores, "excess": excess, "day": rows["day"].to_numpy()})


def _daily(table: pd.DataFrame) -> pd.DataFrame:
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

    least = max(thresholds.MIN_EXCESS_LOSS if direction == "worse" else min_bias, signed(_daily(table)).mean() / 2)
    for name, index in _parts(rows, thresholds.LEFT_OUT_MIN_SHARE).items():
        rest = signed(_daily(table.drop(index=table.index[index])))
        if not (beyond(rest, thresholds.WITHOUT_SLICE_CONFIDENCE) and rest.mean() > least):
            return name
    return ""


def _outlier_slices(table: pd.DataFrame, rows: pd.DataFrame, spread: float) -> tuple[AffectedSlice, ...]:
    from scipy.stats import t

    outliers, largest = [], thresholds.OUTLIER_SLICE_MAX_SHARE * len(rows)
    for name, index in _parts(rows, 0.0).items():
        if len(index) < problem.GATE["slice_min_rows"] or len(index) > largest:
            continue
        inside = np.zeros(len(rows), bool)
        inside[index] = True
        gap = (table[inside].groupby("day")["bias"].mean() - table[~inside].groupby("day")["bias"].mean()).dropna()
        limit = t.ppf(thresholds.WINDOW_CONFIDENCE, max(len(gap) - 1, 1))
        is_large = abs(gap.mean()) > thresholds.OUTLIER_SLICE_MIN_GAP * spread
        if len(gap) >= thresholds.DRIFT_MIN_MATURED_DAYS and abs(t_value(gap)) > limit and is_large:
            share = len(index) / len(rows)
            outliers.append(AffectedSlice(name, share, float(gap.mean()), share * abs(float(gap.mean()))))
    return tuple(sorted(outliers, key=lambda part: -abs(part.change)))


def _ranked(table: pd.DataFrame, rows: pd.DataFrame) -> tuple[AffectedSlice, ...]:
    parts = []
    for name, index in _parts(rows, 0.0).items():
        share, change = len(index) / len(rows), float(table["bias"].iloc[index].mean())
        parts.append(AffectedSlice(name, share, change, share * abs(change)))
    return tuple(sorted(parts, key=lambda part: -part.weight)[:5])


def _parts(rows: pd.DataFrame, min_share: float) -> dict[str, np.ndarray]:
    """Row numbers by `column=value`, of the values with at least a share of the rows."""
    return {
        f"{name}={value}": index
        for name in problem.SLICES
        if name in rows
        for value, index in rows.groupby(name, observed=True).indices.items()
        if len(index) >= min_share * len(rows)
    }
