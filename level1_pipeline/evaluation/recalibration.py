"""One offset on the scores of a model, fitted on outcomes: for a model whose order of cases is right and whose level is
not. It is judged as a training is: fitted on the older days, and held against the model as it is on the newest ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.recalibrated import moved
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.gate import Verdict
from level1_pipeline.evaluation.metrics import days

PRIOR_ROWS = 2000  # with outcomes as the scores promise, that stand against the offset: few rows move it little
STEPS = 50  # of Newton's method; it needs about five


def fit_offset(y: np.ndarray, p: np.ndarray, prior_rows: int = PRIOR_ROWS) -> float:
    """The offset with the smallest log loss (regression: squared error) on the outcomes and on `prior_rows` more, whose
    outcomes are what the scores promise. 0 without outcomes.

    Args:
        y: what happened; shape (n,).
        p: the scores; shape (n,).
        prior_rows: the shrinkage. With n = `prior_rows` about half of the bias is taken away.
    """
    if not len(y):
        return 0.0
    if problem.TASK != "classification":
        return float((y - p).sum() / (len(y) + prior_rows))
    offset, weight = 0.0, prior_rows / len(y)
    for _ in range(STEPS):
        q = moved(p, offset)
        gradient = (y - q).sum() + weight * (p - q).sum()
        step = gradient / ((1 + weight) * (q * (1 - q)).sum() + 1e-12)
        offset += float(np.clip(step, -1, 1))
        if abs(step) < 1e-10:
            break
    return offset


@dataclass(frozen=True)
class Recalibration:
    """An offset for a version, and what the gate says of it."""

    offset: float  # fitted on all rows: to be served
    judged_offset: float  # fitted on the older days: what the gate judged
    judged_from: pd.Timestamp  # the first time that it had not seen
    rows: int
    verdict: Verdict
    metrics: dict[str, float]  # on the days that it had not seen


def judge(rows: pd.DataFrame, scores: np.ndarray, who: str) -> Recalibration | None:
    """Fit an offset, and ask the gate; None where there are too few days for both.

    Args:
        rows: matured rows (EVENT_TIME, TARGET, SLICES), which the version has not seen.
        scores: that the version gives them; shape (n,).
        who: the version, in words.
    """
    day = days(rows) if len(rows) else np.empty(0)
    different = np.unique(day)
    if len(different) < 2 * gate.COMPARISON_MIN_DAYS:
        return None
    newest = day >= different[-gate.COMPARISON_MIN_DAYS]
    y = rows[problem.TARGET].to_numpy("float64")
    judged = fit_offset(y[~newest], scores[~newest])
    unseen, theirs = rows[newest].reset_index(drop=True), scores[newest]
    ours = moved(theirs, judged)
    checks, comparison = gate.better_than_champion(unseen, theirs, ours, who)
    begin = unseen[problem.EVENT_TIME].min()
    metrics = problem.evaluate(y[newest], ours)
    return Recalibration(fit_offset(y, scores), judged, begin, len(rows), Verdict(tuple(checks), comparison), metrics)
