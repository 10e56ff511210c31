"""What can be said about a candidate now: two blessings, the alarms, and its quality in shadow.

Every function gives checks in words; which of them decide when is the business of `rollout.decide`.
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import GOLDEN, Bundle, load_bundle, verify_bundle
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.gate import Check, Status
from level1_pipeline.evaluation.metrics import compare, days
from level1_pipeline.settings import RolloutPolicy
from level1_pipeline.store.database import Store
from level2_cicd.rollout import queries
from level2_cicd.rollout.queries import Arm, Counts

HARM_FACTOR = 10  # gross harm: this many times the gate's `max_harm`, because a canary's days are few
HARM_CALIBRATION = 2.0  # gross harm: observed / expected is off by so much more than the champion's
HARM_ROWS = 2000
SLOWER_BY_MS = 1.0  # a row: less is noticed by nobody


def blessings(folder: Path) -> list[Check]:
    """*Quality*: the gate passed it. *Infrastructure*: the serving code loads it, gets its golden numbers, in time."""
    try:
        manifest = verify_bundle(folder)
        served = load_bundle(folder)
        golden = json.loads((folder / GOLDEN).read_text())["records"]
        many = (golden * (1000 // len(golden) + 1))[:1000]
        started = time.perf_counter()
        served.predict(many)
        seconds = time.perf_counter() - started
    except BundleRefused as refused:
        return [Check("infrastructure blessing", "fail", str(refused))]
    allowed, said = gate.rules().max_seconds_1000_rows, manifest.get("verdict")
    return [
        Check("quality blessing", "pass" if said == "pass" else "fail", f"the gate's verdict is {said}"),
        Check(
            "infrastructure blessing",
            "pass" if seconds <= allowed else "fail",
            f"loads, repeats its golden predictions, {seconds:.2f} s for 1,000 rows (allowed: {allowed:g} s)",
        ),
    ]


def errors(candidate: Counts, champion: Counts, policy: RolloutPolicy) -> Check:
    """Does it fail (raise, or say NaN) where the champion answers? Case by case: in a canary the arms see different
    cases, and chance alone would make one of them fail more often on what breaks both."""
    message = f"{candidate.alone:,} of {candidate.rows:,} answers failed where the champion's did not"
    message += f" (all failures: {candidate.errors:,}, the champion's: {champion.errors:,} of {champion.rows:,})"
    bad = candidate.alone > policy.max_error_rate * candidate.rows
    return Check("errors", "fail" if bad else "pass", message + (f", for example {candidate.error}" if bad else ""))


def distribution(candidate: Counts, champion: Counts, policy: RolloutPolicy) -> Check:
    """Are its scores altogether elsewhere? Bound in standard deviations of the champion's scores."""
    if min(candidate.rows - candidate.errors, champion.rows - champion.errors) < policy.step_requests:
        return Check("distribution", "inconclusive", f"fewer than {policy.step_requests} scores of each")
    shift = abs(candidate.mean - champion.mean) / max(champion.sd, 1e-12)
    message = f"mean score {candidate.mean:.4g} against {champion.mean:.4g}: {shift:.2f} standard deviations (allowed: {policy.max_shift:g})"
    return Check("distribution", "fail" if shift > policy.max_shift else "pass", message)


def latency(candidate: pd.DataFrame, champion: pd.DataFrame, policy: RolloutPolicy) -> Check:
    """How many times slower is it at least? The median over its calls, each against the champion's calls of
    the nearest size.

    A call of n rows costs something fixed and something for each row, so the champion would need at most
    t0 * max(1, n / n0) for it, if it needs t0 for n0 rows: this can only flatter the candidate. It
    matters in shadow, where copies are scored in batches; in the canary both get calls of like size.
    """
    if min(candidate["rows"].sum(), champion["rows"].sum()) < policy.step_requests:
        return Check("latency", "inconclusive", f"fewer than {policy.step_requests} answers of each")
    size = np.log2(champion["rows"]).round()
    usual = champion.groupby(size)[["ms", "rows"]].median()
    at = np.abs(np.log2(candidate["rows"].to_numpy())[:, None] - usual.index.to_numpy()).argmin(axis=1)
    ms, rows, weight = candidate["ms"].to_numpy(), candidate["rows"].to_numpy(), candidate["rows"].to_numpy()
    expected = usual["ms"].to_numpy()[at] * np.maximum(1.0, rows / usual["rows"].to_numpy()[at])
    slower = _median(ms / np.maximum(expected, 1e-9), weight)
    by = _median((ms - expected) / rows, weight)
    message = f"at least {slower:.1f} times the champion's, {by:+.2f} ms a row (allowed: {policy.max_slowdown:g} times or {SLOWER_BY_MS:+g} ms)"
    return Check("latency", "fail" if slower > policy.max_slowdown and by > SLOWER_BY_MS else "pass", message)


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def harm(y: np.ndarray, candidate: np.ndarray, champion: np.ndarray, policy: RolloutPolicy) -> Check:
    """Is it grossly worse than the champion would have been on the very cases that it answered?"""
    if len(y) < policy.min_outcomes:
        return Check(
            "harm", "pass", f"not judged yet, {len(y)} of {policy.min_outcomes} outcomes: the bake waits for them"
        )
    name, bound = problem.PRIMARY_METRIC, HARM_FACTOR * gate.rules().max_harm
    mine, theirs = problem.evaluate(y, candidate), problem.evaluate(y, champion)
    worse = mine[name] - theirs[name]
    message = f"{name} {worse:+.4f} against the champion on the same {len(y):,} cases (allowed: {bound:+g})"
    bad = not worse <= bound
    if "calibration" in mine:
        off, usual = (abs(np.log(np.clip(of["calibration"], 1e-6, 1e6))) for of in (mine, theirs))
        message += f", observed / expected {mine['calibration']:.2f} against {theirs['calibration']:.2f}"
        bad |= bool(off - usual > np.log(HARM_CALIBRATION))
    return Check("harm", "fail" if bad else "pass", message)


def canary_harm(
    store: Store, candidate: Arm, champion: Path, now: datetime, policy: RolloutPolicy
) -> tuple[Check, int]:
    """`harm` on the canary's matured outcomes, re-scored with the champion's bundle; and how many these are. Cases on
    which the champion fails are left out: a candidate that mends them would else never be judged."""
    records, rows = queries.records(store, candidate, matured(now), HARM_ROWS)
    theirs = _scores(load_bundle(champion), records) if len(rows) >= policy.min_outcomes else np.zeros(len(rows))
    y, mine = rows[problem.TARGET].to_numpy(), rows["score"].to_numpy()
    both = np.isfinite(theirs)
    return harm(y[both], mine[both], theirs[both], policy), int(both.sum())


def _scores(model: Bundle, records: list[dict[str, Any]]) -> np.ndarray:
    """What a model says about each record; NaN where it raises."""
    try:
        return model.predict(records)
    except Exception:  # whatever a model does wrong, which of the records is it?
        if len(records) == 1:
            return np.array([np.nan])
        half = len(records) // 2
        return np.concatenate([_scores(model, records[:half]), _scores(model, records[half:])])


def shadow_pairs(store: Store, candidate: Arm, champion: Arm, now: datetime) -> pd.DataFrame:
    """What both said about the same cases of whole, matured days; `first` is the champion, `second` the candidate.

    Days with less than a quarter of the fullest day's rows (the day of the start, say) are left out:
    every day counts alike in the comparison.
    """
    whole = pd.Timestamp(matured(now)).tz_convert(problem.TIMEZONE).normalize().tz_convert("UTC").to_pydatetime()
    rows = queries.pairs(store, champion, candidate, whole)
    if rows.empty:
        return rows
    day = days(rows)
    size = np.bincount(day)
    return rows[size[day] >= size.max() / 4].reset_index(drop=True)


def quality(rows: pd.DataFrame, policy: RolloutPolicy) -> tuple[list[Check], int]:
    """The gate's rule on the shadow's days, looked at day by day; and how many days these are.

    A pass needs a mean daily gain, a bounded harm and no harmed slice. It fails only when it is worse
    with 90 % confidence (a slice: from a week on); anything between waits for more days.
    """
    n = len(np.unique(days(rows))) if len(rows) else 0
    if n < policy.shadow_days:
        return [Check("quality", "inconclusive", f"{n} of {policy.shadow_days} whole days have their outcomes")], n
    champion, candidate = rows["first"].to_numpy(), rows["second"].to_numpy()
    seen, rule = compare(rows, champion, candidate), gate.rules()
    if seen.identical:
        return [Check("quality", "fail", "predictions are identical to the champion's: no gain")], n
    message = f"mean daily gain {seen.gain:+.5f} on {n} days (needed: {rule.min_gain:+}), {seen.flips:,} of {len(rows):,} decisions flip"
    gain: Status = "fail" if seen.clearly_worse else "pass" if seen.gain >= rule.min_gain else "inconclusive"
    bounded: Status = "pass" if seen.harm_bound < rule.max_harm else "inconclusive"
    slices = gate.no_slice_harmed(rows, candidate, champion, "champion")
    if slices.status == "fail" and n < gate.MIN_DAYS:
        slices = Check(slices.name, "inconclusive", f"{slices.message}; counts from {gate.MIN_DAYS} days on")
    return [
        Check("quality", gain, message),
        Check(
            "bounded harm",
            bounded,
            f"with 90 % confidence at most {seen.harm_bound:+.5f} worse (allowed: {rule.max_harm:+})",
        ),
        slices,
    ], n


def effect(candidate: pd.DataFrame, champion: pd.DataFrame) -> str:
    """The difference of the two arms as a trial (different cases, same days), or that it cannot be seen.

    Args:
        candidate: EVENT_TIME, TARGET and `score` of the canary's answers with outcomes.
        champion: the same of the champion's.
    """
    from scipy.stats import t

    daily = [_daily(rows) for rows in (champion, candidate)]
    gain = (daily[0] - daily[1]).dropna()
    n = len(gain)
    if n < 2:
        return f"canary against champion: underpowered, {n} whole days of outcomes"
    half = float(t.ppf(0.975, n - 1) * gain.std(ddof=1) / np.sqrt(n))
    message = f"canary against champion: {problem.PRIMARY_METRIC} gain {gain.mean():+.4f} ± {half:.4f} on {n} days"
    return message + (" (underpowered)" if half > gate.rules().max_harm else "")


def _daily(rows: pd.DataFrame) -> pd.Series:
    day = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    figures = {
        name: problem.evaluate(part[problem.TARGET].to_numpy(), part["score"].to_numpy())[problem.PRIMARY_METRIC]
        for name, part in rows.groupby(day)
    }
    return pd.Series(figures, dtype=float)


def matured(now: datetime) -> datetime:
    """Before this, every outcome that will ever come is there; younger ones are the early, good-looking ones."""
    return now - timedelta(hours=gate.rules().maturity_hours)
