"""The gate: may this model be served?  A list of checks, each with its reason in words -> Verdict.

On by default. The absolute checks hold for every model; those relative to the champion are added as
soon as there is one. Inconclusive is not success: a check that lacks data never promotes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from level1_pipeline import problem
from level1_pipeline.evaluation.metrics import Comparison, by_slice, compare, days
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task

Status = Literal["pass", "inconclusive", "fail", "error"]
SEVERITY: tuple[Status, ...] = ("pass", "inconclusive", "fail", "error")
COMPARISON_MIN_DAYS = 7  # of a comparison: below a week it says nothing


class Gate(BaseModel):
    """The rules in `problem.GATE`; a misspelt or missing one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    holdout_days: int  # the newest matured days, on which every model is judged
    maturity_hours: float  # from EVENT_TIME until all outcomes have arrived
    min_rows: int  # to train on, and to judge with
    limits: dict[str, tuple[float | None, float | None]] = Field(min_length=1)  # metric -> (lowest, highest) allowed
    min_gain: float  # mean daily gain over the champion
    max_harm: float  # the non-inferiority margin: the 90 % bound on harm must stay below it
    slice_min_rows: int  # smaller slices are not judged
    slice_max_harm: float  # how much worse than champion (or constant) a slice may be
    class_min_rows: int = 50  # classes with fewer rows are not judged, where there are several
    class_max_harm: float = 0.15  # how much more log loss the rows of a class may have than with champion (or constant)
    max_single_feature_auc: float = 0.85  # an input that good by itself has seen the outcome (`leakage`)
    max_single_feature_r2: float = 0.9  # the same for a regression
    min_error_left: float = 0.6  # of 1 - AUC (or 1 - R²) of the past: a model that leaves less is too good
    # Of labels; shifts, biases and growth are in standard deviations of the label. See docs/level1.md, "Wrong
    # labels". What ordinary retrainings of April to June 2013 reach at most stands in brackets.
    label_min_rows: int = 100  # the label rate of smaller slices is not judged
    max_rate_shift: float = 0.15  # of a slice beside the others, beyond its history (0.10)
    max_trusted_changes: float = 0.01  # share of confirmed labels that the source may hold otherwise by now (0)
    max_trusted_bias: float = 0.05  # mean error on the trusted set (0.01)
    max_trusted_slice_bias: float = 0.25  # the same for a slice (0.14)
    max_trusted_growth: float = 0.08  # of the mean error beside the champion's (0.03)
    max_refit_difference: float = 1.0  # mean |served - evaluation model| over the spread of predictions
    max_seconds_1000_rows: float = 2.0  # to answer 1,000 rows in the serving code


@dataclass(frozen=True)
class Check:
    """One question of the gate and its answer in words."""

    name: str
    status: Status
    message: str


@dataclass(frozen=True)
class Verdict:
    """All checks; the worst one decides."""

    checks: tuple[Check, ...]
    comparison: Comparison | None = None

    @property
    def status(self) -> Status:
        """The most severe outcome of all checks."""
        return max((check.status for check in self.checks), key=SEVERITY.index)

    @property
    def reasons(self) -> list[str]:
        """What speaks against the model, in words; empty when it passed."""
        return [f"{check.name}: {check.message}" for check in self.checks if check.status != "pass"]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"status": self.status, **asdict(self)}


def rules() -> Gate:
    """The gate's rules, checked."""
    return Gate(**problem.GATE)


def judge(name: str, passed: bool, message: str, otherwise: Status = "fail") -> Check:
    """A check that passes, or has the status `otherwise`."""
    return Check(name, "pass" if passed else otherwise, message)


def enough_data(holdout: pd.DataFrame) -> Check:
    """Is there enough to judge with?"""
    n, rows = len(np.unique(days(holdout))), len(holdout)
    message = f"{rows:,} rows on {n} days (needed: {rules().min_rows:,} on {COMPARISON_MIN_DAYS})"
    return judge("enough data", rows >= rules().min_rows and n >= COMPARISON_MIN_DAYS, message, "inconclusive")


def sound_numbers(p: np.ndarray) -> Check:
    """Is every prediction a finite number, and a probability where it should be one?"""
    wrong = ~task().sound(p)
    return judge(
        "sound numbers",
        not wrong.any(),
        f"{wrong.sum():,} of {len(p):,} predictions are NaN, infinite or no probability",
    )


def within_limits(metrics: dict[str, float]) -> list[Check]:
    """Absolute thresholds: the only ones on a first run, and therefore mandatory."""
    checks = []
    for name, (low, high) in rules().limits.items():
        inside = (
            np.isfinite(metrics[name])
            and (low is None or metrics[name] >= low)
            and (high is None or metrics[name] <= high)
        )
        checks.append(
            judge(
                f"limit on {name}",
                bool(inside),
                f"{metrics[name]:.4f}, allowed {low if low is not None else '-'} to {high if high is not None else '-'}",
            )
        )
    return checks


def beats(holdout: pd.DataFrame, p: np.ndarray, baselines: dict[str, np.ndarray]) -> list[Check]:
    """Is the model better than a constant, and not clearly worse than a simpler model?

    In a storm fortnight a linear model may be ahead by chance; it has to be so with 90 % confidence.
    """
    name, y, checks = problem.PRIMARY_METRIC, holdout[problem.TARGET].to_numpy(), []
    loss = problem.evaluate(y, p)[name]
    for baseline, predicted in baselines.items():
        other = problem.evaluate(y, predicted)[name]
        better = loss < other or (baseline != "constant" and not compare(holdout, predicted, p).clearly_worse)
        checks.append(judge(f"beats {baseline}", better, f"{name} {loss:.4f} against {other:.4f}"))
    return checks


def no_slice_harmed(holdout: pd.DataFrame, p: np.ndarray, reference: np.ndarray, who: str) -> Check:
    """Is any slice clearly worse off than with the reference predictions?"""
    rule, metric = rules(), problem.PRIMARY_METRIC
    table, other = (by_slice(holdout, values, rule.slice_min_rows) for values in (p, reference))
    if table.empty:
        return Check(f"slices against {who}", "pass", "no slice is large enough to be judged")
    names = table["slice"] + "=" + table["value"]
    harm = (table[metric] - other[metric]).set_axis(names).sort_values(ascending=False)
    message = (
        f"worst of {len(harm)}: {harm.index[0]} is {harm.iloc[0]:+.4f} in {metric} (allowed: {rule.slice_max_harm:+})"
    )
    return judge(f"slices against {who}", harm.iloc[0] <= rule.slice_max_harm, message)


def no_class_lost(holdout: pd.DataFrame, p: np.ndarray, reference: np.ndarray, who: str) -> list[Check]:
    """Are the rows of any class clearly worse off than with the reference predictions? No check for a task without
    several classes.

    A mean over all rows hides a class that the model gave up, above all a rare one.
    """
    y, rule, kind = holdout[problem.TARGET].to_numpy(), rules(), task()
    groups = {about: np.flatnonzero(labels) for about, labels in kind.parts(y).items()} if classes() else {}
    judged = {about: rows for about, rows in groups.items() if len(rows) >= rule.class_min_rows}
    harm = {
        about: float((kind.losses(y[rows], p[rows]) - kind.losses(y[rows], reference[rows])).mean())
        for about, rows in judged.items()
    }
    if not harm:
        return [Check(f"classes against {who}", "pass", "no class has rows enough to be judged")] if groups else []
    worst = max(harm, key=harm.__getitem__)
    message = f"worst of {len(harm)}: the rows of {worst} are {harm[worst]:+.4f} in log loss (allowed: {rule.class_max_harm:+})"
    return [judge(f"classes against {who}", harm[worst] <= rule.class_max_harm, message)]


def better_than_champion(
    holdout: pd.DataFrame, champion: np.ndarray, challenger: np.ndarray, who: str
) -> tuple[list[Check], Comparison | None]:
    """The rule of promotion, on rows that neither model has seen.

    The mean paired daily gain is at least `min_gain`, and the one-sided 90 % t-bound on harm is below
    the non-inferiority margin `max_harm`. A demand for significance would reject most ordinary retrainings.
    """
    n = len(np.unique(days(holdout))) if len(holdout) else 0
    if n < COMPARISON_MIN_DAYS:
        return [
            Check(
                "better than champion",
                "inconclusive",
                f"only {n} days that {who} has not seen (needed: {COMPARISON_MIN_DAYS})",
            )
        ], None
    seen = compare(holdout, champion, challenger)
    if seen.days < COMPARISON_MIN_DAYS:
        message = (
            f"{problem.PRIMARY_METRIC} is a number on {seen.days} of {n} days only (needed: {COMPARISON_MIN_DAYS})"
        )
        return [Check("better than champion", "inconclusive", message)], None
    where = ", ".join(f"{name}: {count}" for name, count in list(seen.flips_by_slice.items())[:3])
    flips = f"{seen.flips:,} of {len(holdout):,} decisions flip{f' (most in {where})' if where else ''}"
    message = f"mean daily gain {seen.gain:+.5f} over {who} on {seen.days} days (needed: {rules().min_gain:+}); {flips}"
    if seen.identical:
        message = f"predictions are identical to those of {who}: no gain"
    gain = judge("better than champion", not seen.identical and seen.gain >= rules().min_gain, message)
    harm = judge(
        "harm is bounded",
        seen.harm_bound < rules().max_harm,
        f"with 90 % confidence at most {seen.harm_bound:+.5f} worse (allowed: {rules().max_harm:+})",
    )
    groups = [no_slice_harmed(holdout, challenger, champion, who), *no_class_lost(holdout, challenger, champion, who)]
    return [gain, harm, *groups], seen


def agrees_with_evaluation_model(holdout: pd.DataFrame, judged: np.ndarray, served: np.ndarray) -> list[Check]:
    """Does the model that will be served say nearly the same as the evaluation model, and is it no worse?"""
    rule, metric, y = rules(), problem.PRIMARY_METRIC, holdout[problem.TARGET].to_numpy()
    difference = float(np.abs(served - judged).mean() / max(judged.std(axis=0).mean(), 1e-12))
    message = f"mean difference is {difference:.3f} of the spread of predictions (allowed: {rule.max_refit_difference})"
    harm = problem.evaluate(y, served)[metric] - problem.evaluate(y, judged)[metric]
    return [
        judge("agrees with the evaluation model", difference <= rule.max_refit_difference, message),
        judge(
            "no worse than the evaluation model",
            harm <= rule.max_harm,
            f"{metric} {harm:+.4f} on the holdout, which it has seen (allowed: {rule.max_harm:+})",
        ),
    ]
