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
from monitoring.results import AffectedSlice

CONFIDENCE = 0.995  # one-sided, of each test: about 1 % false signals a window in two directions
WITHOUT = 0.95  # one-sided, of the same tests without one slice value
MIN_DAYS, MIN_ROWS, DAY_ROWS = 4, 200, 20
MIN_BIAS, MIN_EXCESS = 0.05, 0.01  # in standard deviations of the outcome; in units of the loss or share of it
# Over several windows a signal leads to a training. Three A/A windows of quiet days reach a bias of 0.12.
LASTING, LASTING_BIAS = 0.999, 0.15
LEANS = 1.0  # |t| from which a window leans to one side
LARGE = 0.1  # share of rows from which a slice value is left out for a trial
APART = 0.35  # standard deviations of the outcome, between a slice and the others on the same days
EDGE = 1e-6  # scores are kept off 0 and 1


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
    only: str  # the slice value without which it goes away
    apart: tuple[AffectedSlice, ...]  # slice values whose outcomes left those of the others
    slices: tuple[AffectedSlice, ...]  # ranked by share x change


NOTHING = ConceptDrift(None, 0, 0, 0.0, 0.0, 0.0, 0.0, False, "", (), ())


def check(rows: pd.DataFrame, scores: np.ndarray, promised: float | None = None, lasting: bool = False) -> ConceptDrift:
    """Test matured rows (`day`, TARGET, slices) against `scores` (n,).

    Args:
        rows: matured answers.
        scores: of the model in question for these rows.
        promised: the RMSE at promotion, which a regression is held against (None: only its bias is tested).
        lasting: the rows are those of several windows, and a signal will be acted upon.
    """
    if not len(rows):
        return NOTHING
    table = _figures(rows, scores, promised)
    daily = _daily(table)
    if len(daily) < MIN_DAYS or len(rows) < MIN_ROWS:
        return NOTHING
    spread = float(table["y"].std()) or 1.0
    least = (LASTING_BIAS if lasting else MIN_BIAS) * spread
    changed, way = _signal(daily, least, LASTING if lasting else CONFIDENCE)
    only = _explained_by_one(table, rows, MIN_BIAS * spread, way) if changed else ""
    bias, excess = daily["bias"], daily["excess"]
    return ConceptDrift(
        changed, len(daily), len(rows), float(bias.mean()), t_value(bias), float(excess.mean()), t_value(excess),
        changed and not only, only, _apart(table, rows, spread), _ranked(table, rows),
    )  # fmt: skip


def leans(window: ConceptDrift, over: ConceptDrift) -> bool:
    """Whether a single window leans to where the windows together are off: its rate of outcomes, or its loss."""
    same_side = window.bias * over.bias > 0 and abs(window.bias_t) > LEANS
    return same_side or (over.excess > MIN_EXCESS and window.excess_t > LEANS)


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
        p = np.clip(scores, EDGE, 1 - EDGE)
        excess = (p - y) * np.log(p / (1 - p))  # log loss minus its expectation, the entropy
    else:
        expected = promised**2 if promised else np.mean((y - scores) ** 2)
        excess = (y - scores) ** 2 / expected - 1
    return pd.DataFrame({"y": y, "bias": y - scores, "excess": excess, "day": rows["day"].to_numpy()})


def _daily(table: pd.DataFrame) -> pd.DataFrame:
    grouped = table.groupby("day")[["bias", "excess"]]
    return grouped.mean()[grouped.size() >= DAY_ROWS]


def _signal(daily: pd.DataFrame, least: float, confidence: float) -> tuple[bool, str]:
    """Whether anything changed, and which figure says so in which direction."""
    bias, excess = daily["bias"], daily["excess"]
    trials = {
        "higher": beyond(bias, confidence) and bias.mean() > least,
        "lower": beyond(-bias, confidence) and -bias.mean() > least,
        "worse": beyond(excess, confidence) and excess.mean() > MIN_EXCESS,
    }
    way = next((name for name, found in trials.items() if found), "")
    return bool(way), way


def _explained_by_one(table: pd.DataFrame, rows: pd.DataFrame, bias: float, way: str) -> str:
    """The slice value without which the signal is gone or less than half of what it was, or nothing."""

    def signed(daily: pd.DataFrame) -> pd.Series:
        return {"higher": daily["bias"], "lower": -daily["bias"], "worse": daily["excess"]}[way]

    least = max(MIN_EXCESS if way == "worse" else bias, signed(_daily(table)).mean() / 2)
    for name, index in _parts(rows, LARGE).items():
        rest = signed(_daily(table.drop(index=table.index[index])))
        if not (beyond(rest, WITHOUT) and rest.mean() > least):
            return name
    return ""


def _apart(table: pd.DataFrame, rows: pd.DataFrame, spread: float) -> tuple[AffectedSlice, ...]:
    from scipy.stats import t

    found = []
    for name, index in _parts(rows, 0.0).items():
        if len(index) < problem.GATE["slice_min_rows"] or len(index) > 0.6 * len(rows):
            continue
        inside = np.zeros(len(rows), bool)
        inside[index] = True
        gap = (table[inside].groupby("day")["bias"].mean() - table[~inside].groupby("day")["bias"].mean()).dropna()
        limit = t.ppf(CONFIDENCE, max(len(gap) - 1, 1))
        if len(gap) >= MIN_DAYS and abs(t_value(gap)) > limit and abs(gap.mean()) > APART * spread:
            share = len(index) / len(rows)
            found.append(AffectedSlice(name, share, float(gap.mean()), share * abs(float(gap.mean()))))
    return tuple(sorted(found, key=lambda one: -abs(one.change)))


def _ranked(table: pd.DataFrame, rows: pd.DataFrame) -> tuple[AffectedSlice, ...]:
    found = []
    for name, index in _parts(rows, 0.0).items():
        share, change = len(index) / len(rows), float(table["bias"].iloc[index].mean())
        found.append(AffectedSlice(name, share, change, share * abs(change)))
    return tuple(sorted(found, key=lambda one: -one.weight)[:5])


def _parts(rows: pd.DataFrame, least: float) -> dict[str, np.ndarray]:
    """Row numbers by `column=value`, of the values with at least a share of the rows."""
    return {
        f"{name}={value}": index
        for name in problem.SLICES
        if name in rows
        for value, index in rows.groupby(name, observed=True).indices.items()
        if len(index) >= least * len(rows)
    }
