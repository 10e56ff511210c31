"""What is better, candidate or champion?  In shadow on the same cases, day by day; in the canary as a trial."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.day_mean import DIFFERENCE_CORRELATION, day_mean
from level1_pipeline.evaluation.gate import Check, Status
from level1_pipeline.evaluation.metrics import CONFIDENCE, by_slice, compare, days
from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.schema.scores import from_columns
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of, start_of
from level2_cicd.rollout import queries
from level2_cicd.rollout.queries import FIRST, SECOND, Arm, matured

# A refresh, in units of the gate's `max_harm`: 4 % of ordinary retrainings exceed one of them on a single day.
REFRESH_HARM = 5
REFRESH_SLICE_HARM = 8
REFRESH_SLICE_ROWS = 200


def shadow_pairs(store: Store, candidate: Arm, champion: Arm, now: datetime) -> pd.DataFrame:
    """The scores of both on the same cases of whole, matured days; the champion's are FIRST, the candidate's SECOND.

    Days with less than a quarter of the fullest day's rows (the day of the start, say) are left out:
    every day counts alike in the comparison.
    """
    rows = queries.pairs(store, champion, candidate, start_of(date_of(matured(now))).to_pydatetime())
    if rows.empty:
        return rows
    day = days(rows)
    size = np.bincount(day)
    return rows[size[day] >= size.max() / 4].reset_index(drop=True)


def quality(rows: pd.DataFrame, policy: RolloutPolicy) -> tuple[list[Check], int]:
    """The gate's rule on the shadow's days, looked at day by day; and how many days these are.

    A pass needs a mean daily gain, a bounded harm and no harmed slice. It fails only when it is worse
    with 90 % confidence (a slice: from a week on); anything between waits for more days.
    Where no days are demanded (a refresh), the gate's verdict about the recipe is enough.
    """
    n = len(np.unique(days(rows))) if len(rows) else 0
    if policy.shadow_days == 0:
        return [Check("quality", "pass", "the gate has judged the champion's recipe on newer rows")], n
    if n < policy.shadow_days:
        return [Check("quality", "inconclusive", f"{n} of {policy.shadow_days} whole days have their outcomes")], n
    champion, candidate = from_columns(rows, FIRST), from_columns(rows, SECOND)
    comparison, rules = compare(rows, champion, candidate), gate.rules()
    if comparison.identical:
        return [Check("quality", "fail", "predictions are identical to the champion's: no gain")], n
    better: Status = "pass" if comparison.gain >= rules.min_gain else "inconclusive"
    message = f"mean daily gain {comparison.gain:+.5f} on {n} days (needed: {rules.min_gain:+}), "
    message += f"{comparison.flips:,} of {len(rows):,} decisions flip"
    bounded: Status = "pass" if comparison.harm_bound < rules.max_harm else "inconclusive"
    bound = f"with 90 % confidence at most {comparison.harm_bound:+.5f} worse (allowed: {rules.max_harm:+})"
    slices = gate.no_slice_harmed(rows, candidate, champion, "champion")
    if slices.status == "fail" and n < gate.COMPARISON_MIN_DAYS:
        slices = Check(slices.name, "inconclusive", f"{slices.message}; counts from {gate.COMPARISON_MIN_DAYS} days on")
    return [
        Check("quality", "fail" if comparison.clearly_worse else better, message),
        Check("bounded harm", bounded, bound),
        slices,
    ], n


def refresh_quality(store: Store, candidate: Arm, champion: Arm, now: datetime, policy: RolloutPolicy) -> Check:
    """Before a refresh becomes champion: was it grossly worse on the copies of its short shadow, or in a slice of them?

    A day or two say little about small differences, but much about gross ones (docs/rollout.md, "A refresh").
    """
    name, rows = "quality of the copies", queries.pairs(store, champion, candidate, matured(now))
    if len(rows) < policy.min_outcomes:
        return Check(name, "inconclusive", f"{len(rows)} of {policy.min_outcomes} copies have their outcomes")
    first, second = from_columns(rows, FIRST), from_columns(rows, SECOND)
    metric, y, allowed = problem.PRIMARY_METRIC, rows[problem.TARGET].to_numpy(), gate.rules().max_harm
    worse = problem.evaluate(y, second)[metric] - problem.evaluate(y, first)[metric]
    new, old = (by_slice(rows, p, REFRESH_SLICE_ROWS) for p in (second, first))
    in_slices = (new[metric] - old[metric]).set_axis(new["slice"] + "=" + new["value"]) if len(new) else pd.Series()
    limit, slice_limit = REFRESH_HARM * allowed, REFRESH_SLICE_HARM * allowed
    message = f"{metric} {worse:+.4f} on {len(rows):,} copies (allowed: {limit:+g})"
    if len(in_slices):
        message += f", {in_slices.idxmax()} {in_slices.max():+.4f} (allowed: {slice_limit:+g})"
    bad = not worse <= limit or bool((in_slices > slice_limit).any())
    return Check(name, "fail" if bad else "pass", message)


def effect(candidate: pd.DataFrame, champion: pd.DataFrame) -> str:
    """The difference of the two arms as a trial (different cases, same days), or that it cannot be seen.

    Args:
        candidate: EVENT_TIME, TARGET and the scores of the canary's answers with outcomes.
        champion: the same of the champion's.
    """
    daily = (_daily(champion) - _daily(candidate)).dropna()
    n = len(daily)
    if n < 2:
        return f"canary against champion: underpowered, {n} whole days of outcomes"
    gain = day_mean(daily.to_numpy(), daily.index.to_numpy(), DIFFERENCE_CORRELATION)
    half = gain.half_width((1 + CONFIDENCE) / 2)
    message = f"canary against champion: {problem.PRIMARY_METRIC} gain {gain.value:+.4f} ± {half:.4f} on {n} days"
    return message + (" (underpowered)" if half > gate.rules().max_harm else "")


def _daily(rows: pd.DataFrame) -> pd.Series:
    day = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    figures = {
        name: problem.evaluate(part[problem.TARGET].to_numpy(), from_columns(part))[problem.PRIMARY_METRIC]
        for name, part in rows.groupby(day)
    }
    return pd.Series(figures, dtype=float)
