"""Collects the evidence that the present step of a rollout calls for, from the log, the outcomes and the bundles."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime

from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation.gate import Check
from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.registry import Registry
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import CANARY, CHAMPION, SHADOW
from level2_cicd.rollout import alarms, quality, queries
from level2_cicd.rollout.blessings import blessings
from level2_cicd.rollout.queries import Arm
from level2_cicd.rollout.state_machine import Evidence, Rollout
from level2_cicd.rollout.states import BAKE, BLESSED, REGISTERED

logger = logging.getLogger(__name__)


def gather(registry: Registry, rollout: Rollout, policy: RolloutPolicy, now: datetime) -> Evidence:
    """The evidence for the present step; whatever goes wrong while reading it is evidence of verdict *error*.

    `policy` holds the rules of this rollout, and `now` is the time on the clock of decisions; only what has matured by then is judged.
    """
    store = registry.store
    champion = Arm(rollout.champion, CHAMPION, rollout.began)
    try:
        if rollout.step.state in (REGISTERED, BLESSED):
            checksum = registry.published.checksum(rollout.version)
            return Evidence(tuple(blessings(registry.bundle_folder(rollout.version), policy, checksum)))
        if rollout.step.state == SHADOW:
            return _shadow(store, policy, Arm(rollout.version, SHADOW, rollout.began), champion, now)
        return _canary(registry, rollout, policy, Arm(rollout.version, CANARY, rollout.began), champion, now)
    except Exception as error:  # a monitor that fails pauses the rollout; it must not end it, nor pass it
        logger.exception("the evidence about version %s cannot be read", rollout.version)
        return Evidence((Check("evidence", "error", f"cannot be read: {type(error).__name__}: {error}"),))


def _alarms(store: Store, policy: RolloutPolicy, candidate: Arm, champion: Arm) -> tuple[list[Check], int, int]:
    counts, usual = queries.counts(store, candidate), queries.counts(store, champion)
    checks = [
        alarms.errors(counts, usual, policy),
        alarms.distribution(counts, usual, policy),
        alarms.latency(
            queries.calls(store, candidate), queries.calls(store, champion), policy, tails=candidate.arm == CANARY
        ),
    ]
    return checks, counts.rows, usual.rows


def _shadow(store: Store, policy: RolloutPolicy, candidate: Arm, champion: Arm, now: datetime) -> Evidence:
    checks, copies, answers = _alarms(store, policy, candidate, champion)
    pairs = quality.shadow_pairs(store, candidate, champion, now)
    judged, days = quality.quality(pairs, policy)
    return Evidence((*checks, *judged), copies, answers, copies, len(pairs), days)


def _canary(
    registry: Registry, rollout: Rollout, policy: RolloutPolicy, candidate: Arm, champion: Arm, now: datetime
) -> Evidence:
    store = registry.store
    checks, answers, usual = _alarms(store, policy, candidate, champion)
    harm, outcomes = alarms.canary_harm(store, candidate, lambda: registry.load(champion.version), now, policy)
    in_step, beside = (queries.counts(store, replace(arm, since=rollout.since)) for arm in (candidate, champion))
    share = alarms.real_share(in_step, beside, rollout.step.share, policy)
    trial = quality.effect(*(queries.answers(store, arm, queries.matured(now)) for arm in (candidate, champion)))
    last = [_still_serves(registry, candidate.version)] if rollout.step.state == BAKE else []
    if last and policy.shadow_days == 0:
        copies, answers_since = (replace(arm, since=rollout.opened_at) for arm in (candidate, champion))
        last.append(quality.refresh_quality(store, replace(copies, arm=SHADOW), answers_since, now, policy))
    return Evidence((*checks, harm, share, *last), answers, usual, in_step.rows, outcomes, notes=(trial,))


def _still_serves(registry: Registry, version: str) -> Check:
    """Before its last step: a worker that started now would serve it."""
    try:
        registry.published.prove(version)
    except BundleRefused as refusal:
        return Check("bundle", "fail", str(refusal))
    return Check("bundle", "pass", "loads, and repeats its golden predictions")
