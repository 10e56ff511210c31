"""Collects the evidence that the present step of a rollout calls for, from the log, the outcomes and the bundles."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from level1_pipeline.evaluation.gate import Check
from level1_pipeline.settings import RolloutPolicy, Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import CANARY, CHAMPION
from level2_cicd.rollout import checks as rollout_checks
from level2_cicd.rollout import queries
from level2_cicd.rollout.policy import BLESSED, REGISTERED, SHADOW
from level2_cicd.rollout.queries import Arm
from level2_cicd.rollout.state_machine import Evidence, State

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sources:
    """Where evidence is read from."""

    store: Store
    bundles: Path  # folder of the published versions
    policy: RolloutPolicy

    @classmethod
    def of(cls, settings: Settings, store: Store) -> Sources:
        """Those of a home."""
        return cls(store, settings.bundles, settings.rollout)


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
            return Evidence(tuple(rollout_checks.blessings(sources.bundles / state.version)))
        answering = Arm(champion, CHAMPION, began)
        if state.step.state == SHADOW:
            return _shadow(sources, Arm(state.version, SHADOW, began), answering, now)
        return _canary(sources, state, Arm(state.version, CANARY, began), answering, now)
    except Exception as error:  # a monitor that fails pauses the rollout; it must not end it, nor pass it
        logger.exception("the evidence about version %s cannot be read", state.version)
        return Evidence((Check("evidence", "error", f"cannot be read: {type(error).__name__}: {error}"),))


def _alarms(sources: Sources, candidate: Arm, champion: Arm) -> tuple[list[Check], int, int]:
    mine, theirs = queries.counts(sources.store, candidate), queries.counts(sources.store, champion)
    fast, usual = queries.calls(sources.store, candidate), queries.calls(sources.store, champion)
    checks = [
        rollout_checks.errors(mine, theirs, sources.policy),
        rollout_checks.distribution(mine, theirs, sources.policy),
        rollout_checks.latency(fast, usual, sources.policy),
    ]
    return checks, mine.rows, theirs.rows


def _shadow(sources: Sources, candidate: Arm, champion: Arm, now: datetime) -> Evidence:
    checks, mine, theirs = _alarms(sources, candidate, champion)
    pairs = rollout_checks.shadow_pairs(sources.store, candidate, champion, now)
    judged, days = rollout_checks.quality(pairs, sources.policy)
    return Evidence((*checks, *judged), mine, theirs, mine, len(pairs), days)


def _canary(sources: Sources, state: State, candidate: Arm, champion: Arm, now: datetime) -> Evidence:
    checks, mine, theirs = _alarms(sources, candidate, champion)
    harm, outcomes = rollout_checks.canary_harm(
        sources.store, candidate, sources.bundles / champion.version, now, sources.policy
    )
    in_step = queries.counts(sources.store, Arm(candidate.version, candidate.arm, state.since)).rows
    before = rollout_checks.matured(now)
    trial = rollout_checks.effect(
        queries.judged(sources.store, candidate, before), queries.judged(sources.store, champion, before)
    )
    return Evidence((*checks, harm), mine, theirs, in_step, outcomes, notes=(trial,))
