"""Collects the evidence that the present step of a rollout calls for, from the log, the outcomes and the bundles."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.gate import Check
from level1_pipeline.settings import Settings
from level1_pipeline.store import Store
from level2_cicd import evidence, logged
from level2_cicd.logged import Arm
from level2_cicd.policy import BLESSED, REGISTERED, SHADOW, Policy
from level2_cicd.rollout import Evidence, State
from serving import arms

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Where evidence is read from."""

    store: Store
    bundles: Path  # folder of the published versions
    policy: Policy

    @classmethod
    def of(cls, settings: Settings, store: Store) -> Sources:
        """Those of a home."""
        return cls(store, settings.home / "bundles" / problem.NAME, Policy.of(settings))


def gather(sources: Sources, state: State, champion: str, began: datetime, now: datetime) -> Evidence:
    """The evidence for one step; whatever goes wrong while reading it is evidence of verdict *error*.

    Args:
        sources: store, bundles and rules.
        state: where the rollout is.
        champion: the version that serves beside the candidate.
        began: when the shadow or, for later steps, the canary began.
        now: on the clock of decisions; only what has matured by then is judged.
    """
    try:
        if state.step.state in (REGISTERED, BLESSED):
            return Evidence(tuple(evidence.blessings(sources.bundles / state.version)))
        answering = Arm(champion, arms.CHAMPION, began)
        if state.step.state == SHADOW:
            return _shadow(sources, Arm(state.version, arms.SHADOW, began), answering, now)
        return _canary(sources, state, Arm(state.version, arms.CANARY, began), answering, now)
    except Exception as error:  # a monitor that fails pauses the rollout; it must not end it, nor pass it
        logger.exception("the evidence about version %s cannot be read", state.version)
        return Evidence((Check("evidence", "error", f"cannot be read: {type(error).__name__}: {error}"),))


def _alarms(sources: Sources, candidate: Arm, champion: Arm) -> tuple[list[Check], int, int]:
    mine, theirs = logged.counts(sources.store, candidate), logged.counts(sources.store, champion)
    fast, usual = logged.calls(sources.store, candidate), logged.calls(sources.store, champion)
    checks = [
        evidence.errors(mine, theirs, sources.policy),
        evidence.distribution(mine, theirs, sources.policy),
        evidence.latency(fast, usual, sources.policy),
    ]
    return checks, mine.rows, theirs.rows


def _shadow(sources: Sources, candidate: Arm, champion: Arm, now: datetime) -> Evidence:
    checks, mine, theirs = _alarms(sources, candidate, champion)
    pairs = evidence.shadow_pairs(sources.store, candidate, champion, now)
    judged, days = evidence.quality(pairs, sources.policy)
    return Evidence((*checks, *judged), mine, theirs, mine, len(pairs), days)


def _canary(sources: Sources, state: State, candidate: Arm, champion: Arm, now: datetime) -> Evidence:
    checks, mine, theirs = _alarms(sources, candidate, champion)
    harm, outcomes = evidence.canary_harm(
        sources.store, candidate, sources.bundles / champion.version, now, sources.policy
    )
    in_step = logged.counts(sources.store, Arm(candidate.version, candidate.arm, state.since)).rows
    before = evidence.matured(now)
    trial = evidence.effect(
        logged.judged(sources.store, candidate, before), logged.judged(sources.store, champion, before)
    )
    return Evidence((*checks, harm), mine, theirs, in_step, outcomes, notes=(trial,))
