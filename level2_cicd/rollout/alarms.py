"""The alarms that watch a candidate: errors, latency, distribution of its scores, and gross harm."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.gate import Check
from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.schema.scores import finite, from_columns, shape
from level1_pipeline.schema.task import task
from level1_pipeline.store.database import Store
from level2_cicd.rollout import queries
from level2_cicd.rollout.queries import Arm, Counts, matured

HARM_FACTOR = 10  # gross harm: this many times the gate's `max_harm`, because a canary's days are few
HARM_CALIBRATION = 2.0  # gross harm: observed / expected is off by so much more than the champion's
HARM_ROWS = 2000  # the newest outcomes that harm is judged on
SLOWER_BY_MS = 1.0  # a row: less is noticed by nobody
TAIL_MS = 50.0  # a single call: the same
PERCENTILES = (0.5, 0.99, 0.999)  # of the champion's calls, where enough of them lie beyond
CALLS_BEYOND = 10
SHARE_MAX_ODDS = 3.0  # of the candidate's real share against the one asked for, either way: 5 % may be 2 % to 14 %
CHANCE = 0.001  # of more slow calls than the champion by chance: a rollout is judged some ten times


def errors(candidate: Counts, champion: Counts, policy: RolloutPolicy) -> Check:
    """Does it fail (raise, or say NaN) where the champion answers? Case by case: in a canary the arms see different
    cases, and chance alone would make one of them fail more often on what breaks both."""
    message = f"{candidate.alone:,} of {candidate.rows:,} answers failed where the champion's did not"
    message += f" (all failures: {candidate.errors:,}, the champion's: {champion.errors:,} of {champion.rows:,})"
    bad = candidate.alone > policy.max_error_rate * candidate.rows
    return Check("errors", "fail" if bad else "pass", message + (f", for example {candidate.error}" if bad else ""))


def distribution(candidate: Counts, champion: Counts, policy: RolloutPolicy) -> Check:
    """Are its scores altogether elsewhere?  The standardised mean difference, with the standard deviation of both models:
    where the champion misses a change, a better candidate has wider scores, too. (Cohen, Statistical Power Analysis,
    1988, 2.2.) Of several classes the one counts that is shifted most."""
    few = min(candidate.rows - candidate.errors, champion.rows - champion.errors) < policy.step_requests
    if few or not candidate.mean or not champion.mean:
        return Check("distribution", "inconclusive", f"fewer than {policy.step_requests} scores of each")
    shift, name, mean, usual = max(
        (abs(mean - usual) / max(math.hypot(*sds) / math.sqrt(2), 1e-12), name, mean, usual)
        for name, mean, usual, *sds in zip(
            task().columns(), candidate.mean, champion.mean, candidate.sd, champion.sd, strict=True
        )
    )
    message = f"mean {name} {mean:.4g} against {usual:.4g}: "
    message += f"{shift:.2f} standard deviations (allowed: {policy.max_shift:g})"
    return Check("distribution", "fail" if shift > policy.max_shift else "pass", message)


def real_share(candidate: Counts, champion: Counts, wanted: float, policy: RolloutPolicy) -> Check:
    """Does the candidate answer about the share of the cases that the step names? An entity keeps its arm, so few
    entities, or a large one, give it far more or far less, and then one of the arms has no sample.

    Args:
        candidate, champion: what each answered in this step; the champion also answers where the candidate fails.
        wanted: the share of the step.
        policy: how many answers a step needs.
    """
    total = candidate.rows + champion.rows - candidate.alone
    if total < policy.step_requests:
        return Check("share", "inconclusive", f"{total:,} answers of both arms, {policy.step_requests:,} are needed")
    real = candidate.rows / total
    message = f"{real:.1%} of {total:,} cases went to the candidate, {wanted:.0%} were asked for"
    low, high = ((factor * wanted) / (factor * wanted + 1 - wanted) for factor in (1 / SHARE_MAX_ODDS, SHARE_MAX_ODDS))
    if low <= real <= high:
        return Check("share", "pass", message)
    todo = "give each case a finer ENTITY in problem.py (its ID, if nothing has to stay in one arm)"
    return Check("share", "inconclusive", f"{message}: a few values of {problem.ENTITY} have most of the cases; {todo}")


def latency(candidate: pd.DataFrame, champion: pd.DataFrame, policy: RolloutPolicy, tails: bool = True) -> Check:
    """Is it slower: as a rule (the median over its calls), or now and then (calls beyond the champion's percentiles)?

    A call of n rows costs something fixed and something for each row, so the champion would need at most
    t0 * max(1, n / n0) for it, if it needs t0 for n0 rows: this can only flatter the candidate. It
    matters in shadow, where copies are scored in batches; in the canary both get calls of like size.

    Args:
        candidate: the latency `ms` and the number of `rows` of each call, those included that were given up.
        champion: the same in the same period.
        policy: how much slower is allowed.
        tails: whether single calls compare; in shadow they do not.
    """
    if min(candidate["rows"].sum(), champion["rows"].sum()) < policy.step_requests:
        return Check("latency", "inconclusive", f"fewer than {policy.step_requests} answers of each")
    usual = champion.groupby(np.log2(champion["rows"]).round())[["ms", "rows"]].median()
    ms, rows, expected = _expected(candidate, usual)
    slower = _median(ms / expected, rows)
    by = _median((ms - expected) / rows, rows)
    message = f"at least {slower:.1f} times the champion's, {by:+.2f} ms a row "
    message += f"(allowed: {policy.max_slowdown:g} times or {SLOWER_BY_MS:+g} ms)"
    bad = slower > policy.max_slowdown and by > SLOWER_BY_MS
    if tails:
        usual_ms, _, usually = _expected(champion, usual)
        rings, tail = _tail((ms, expected), (usual_ms, usually), policy.max_slowdown)
        bad, message = bad or rings, f"{message}; {tail}"
    return Check("latency", "fail" if bad else "pass", message)


def _expected(calls: pd.DataFrame, usual: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latency and rows of each call, and what the champion would usually need for so many rows."""
    ms, rows = calls["ms"].to_numpy(), calls["rows"].to_numpy()
    at = np.abs(np.log2(rows)[:, None] - usual.index.to_numpy()).argmin(axis=1)
    expected = usual["ms"].to_numpy()[at] * np.maximum(1.0, rows / usual["rows"].to_numpy()[at])
    return ms, rows, np.maximum(expected, 1e-9)


def _tail(
    candidate: tuple[np.ndarray, np.ndarray], champion: tuple[np.ndarray, np.ndarray], most: float
) -> tuple[bool, str]:
    """Whether more calls of the candidate than chance allows lie far beyond a percentile of the champion's, and how
    many do. Each arm: latency, and what is usual for a call of that size. Equal arms share whatever makes both slow."""
    from scipy.stats import binom

    n, n0 = len(candidate[0]), len(champion[0])
    factor, results = champion[0] / champion[1], []
    for level in (level for level in PERCENTILES if n0 * (1 - level) >= CALLS_BEYOND):
        times = most * float(np.quantile(factor, level))
        beyond, usually = (int((ms > times * usual + TAIL_MS).sum()) for ms, usual in (candidate, champion))
        chance = float(binom.sf(beyond - 1, beyond + usually, n / (n + n0)))
        message = (
            f"{beyond:,} of {n:,} calls (the champion's: {usually:,} of {n0:,}) took {most:g} times the champion's "
        )
        results.append((chance, f"{message}{100 * level:g}th percentile and {TAIL_MS:g} ms more"))
    chance, message = min(results, default=(1.0, "too few calls for percentiles"))
    return chance < CHANCE, message


def _median(values: np.ndarray, weight: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def harm(y: np.ndarray, candidate: np.ndarray, champion: np.ndarray, policy: RolloutPolicy) -> Check:
    """Is it grossly worse than the champion would have been on the very cases that it answered?"""
    if len(y) < policy.min_outcomes:
        message = f"not judged yet, {len(y)} of {policy.min_outcomes} outcomes: the bake waits for them"
        return Check("harm", "pass", message)
    name, bound = problem.PRIMARY_METRIC, HARM_FACTOR * gate.rules().max_harm
    metrics, usual = problem.evaluate(y, candidate), problem.evaluate(y, champion)
    worse = metrics[name] - usual[name]
    message = f"{name} {worse:+.4f} against the champion on the same {len(y):,} cases (allowed: {bound:+g})"
    bad = not worse <= bound
    if "calibration" in metrics:
        off, usually_off = (abs(np.log(np.clip(of["calibration"], 1e-6, 1e6))) for of in (metrics, usual))
        message += f", observed / expected {metrics['calibration']:.2f} against {usual['calibration']:.2f}"
        bad |= bool(off - usually_off > np.log(HARM_CALIBRATION))
    return Check("harm", "fail" if bad else "pass", message)


def canary_harm(
    store: Store, candidate: Arm, champion: Callable[[], Bundle], now: datetime, policy: RolloutPolicy
) -> tuple[Check, int]:
    """`harm` on the canary's matured outcomes, re-scored with the champion's bundle; and how many these are. Cases on
    which the champion fails are left out: a candidate that mends them would else never be judged."""
    records, rows = queries.records(store, candidate, matured(now), HARM_ROWS)
    enough = len(rows) >= policy.min_outcomes
    usual = _scores(champion(), records) if enough else np.zeros(shape(len(rows)))
    both = finite(usual)
    y, scores = rows[problem.TARGET].to_numpy(), from_columns(rows)
    return harm(y[both], scores[both], usual[both], policy), int(both.sum())


def _scores(model: Bundle, records: list[dict[str, Any]]) -> np.ndarray:
    """The score of each record; NaN where the model raises."""
    try:
        return model.predict(records)
    except Exception:  # whatever a model does wrong, which of the records is it?
        if len(records) == 1:
            return np.full(shape(1), np.nan)
        half = len(records) // 2
        return np.concatenate([_scores(model, records[:half]), _scores(model, records[half:])])
