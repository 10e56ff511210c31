"""Advances a rollout: starts one, looks at its evidence, decides the next state, and has it written.

The lease is held while something is written, never while evidence is read. MLflow's aliases follow with the
caller's `Registry.reconcile`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from level1_pipeline import problem
from level1_pipeline.errors import LeaseHeld, LeaseLost, PromotionRefused
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.audit import RolloutEndedByHand, RolloutStarted
from level1_pipeline.store.audit_queries import rolled_back_in_a_row
from level1_pipeline.store.routes import Route
from level2_cicd.rollout import record
from level2_cicd.rollout.evidence import gather
from level2_cicd.rollout.state_machine import Decision, Rollout, next_state, rules_for
from level2_cicd.rollout.states import BLESSED, REGISTERED, ROLLED_BACK, Step
from monitoring.alerting import webhook

RECIPE = ("source_digest", "lock_digest", "parameters")  # of a manifest: what is equal in a refresh


def start(
    settings: Settings,
    version: str,
    reason: str,
    evidence: dict[str, Any] | None = None,
    automatic: bool = False,
    now: datetime | None = None,
) -> Decision:
    """Begin the rollout of a published version, and take its first steps.

    Raises:
        PromotionRefused: no champion to compare with, another rollout is going on, or too many were
            rolled back in a row (then only a person may start one: `automatic` is False).
        RouteSetByHand: a person has given a version traffic without a rollout.
        BundleRefused: the version is damaged or was never published.
        LeaseHeld, LeaseLost: another process changes the route at this moment; nothing was written.
    """
    registry, now = Registry(settings), now or clock.now(settings)
    with registry.promotion() as lease:
        champion = _champion_to_beat(registry, version, automatic)
        refresh, moved = _is_refresh(registry, version, champion), _is_moved(registry, version, champion)
        rollout = Rollout(version, champion, Step(REGISTERED), now, now, now, refresh=refresh, moved=moved)
        started = RolloutStarted(version, automatic)
        record.Writer(registry, lease, now).write(rollout, started, reason, evidence, {"challenger": version})
    message = "begun; another process acts on it at this moment: see rollout status, or the history"
    return look_again(settings, now) or Decision("stay", Step(REGISTERED), "inconclusive", message)


def _champion_to_beat(registry: Registry, version: str, automatic: bool) -> str:
    registry.refuse_during_a_trial()
    champion = registry.route().champion
    if champion is None:
        raise PromotionRefused("there is no champion to compare with; the first one comes from Level 1: make level1")
    if champion == version:
        raise PromotionRefused(f"version {version} is the champion already")
    registry.published.verify(version)
    failed = rolled_back_in_a_row(registry.store.audit_log(problem.NAME))
    allowed = registry.settings.rollout.max_rollbacks
    if automatic and failed >= allowed:
        raise PromotionRefused(
            f"{failed} rollouts were rolled back in a row (allowed: {allowed}): a person must look, and then: "
            "python -m level2_cicd reset --reason …"
        )
    return champion


def _is_refresh(registry: Registry, version: str, champion: str) -> bool:
    """Whether a version is the champion's recipe, made by the same code with the same packages on newer rows."""
    candidate, current = (registry.published.verify(name) for name in (version, champion))
    complete = all(name in manifest for manifest in (candidate, current) for name in (*RECIPE, "as_of"))
    return complete and candidate["as_of"] > current["as_of"] and all(candidate[n] == current[n] for n in RECIPE)


def _is_moved(registry: Registry, version: str, champion: str) -> bool:
    """Whether a version is a recalibration of the champion."""
    return bool(registry.published.verify(version).get("recalibration", {}).get("parent") == champion)


def advance(settings: Settings, now: datetime | None = None) -> Decision | None:
    """One look at the rollout that is going on: go a step further, stay, wait for a person, or roll back.

    Returns None when there is none. Safe to call at any time, by anybody, as often as wanted.

    Raises:
        LeaseHeld, LeaseLost: another process changes the route at this moment; nothing was written.
    """
    registry, now = Registry(settings), now or clock.now(settings)
    decision = _look(registry, now)
    while decision and decision.kind == "advance" and decision.step.state == BLESSED:
        decision = _look(registry, now)
    return decision


def look_again(settings: Settings, now: datetime) -> Decision | None:
    """`advance` after something was recorded; None when another process is quicker: it takes the step, or ended all."""
    try:
        return advance(settings, now)
    except (LeaseHeld, LeaseLost):
        return None


def _look(registry: Registry, now: datetime) -> Decision | None:
    """Judge without the lease, which takes seconds; write under it, if what was judged still stands. Else look again."""
    while True:
        rollout, route = record.current(registry.store), registry.route()
        if rollout is None:
            return None
        by_hand = record.changed_by_hand(rollout, route)
        decision = _ended_by_hand(route) if by_hand else _judge(registry, rollout, now)
        with registry.promotion() as lease:
            if (record.current(registry.store), registry.route()) == (rollout, route):
                needs_a_person = _write(record.Writer(registry, lease, now), rollout, decision, by_hand)
                break
    if needs_a_person:  # told without the lease, for which others would wait
        title = f"the rollout of version {rollout.version} waits for a person: {decision.step}"
        webhook.tell(registry.settings.webhook, "waits", title, decision.reason)
    return decision


def _judge(registry: Registry, rollout: Rollout, now: datetime) -> Decision:
    policy = rules_for(rollout, registry.settings.rollout)
    return next_state(rollout, gather(registry, rollout, policy, now), policy, now)


def _ended_by_hand(route: Route) -> Decision:
    """Somebody changed the route: that person wins, and the evidence no longer fits what is served."""
    now = f"champion {route.champion}, mode {route.mode}, share {route.share:g}"
    message = f"the route was changed by hand ({now}): it stays so, and the rollout is over"
    return Decision("roll back", Step(ROLLED_BACK), "error", message)


def _write(writer: record.Writer, rollout: Rollout, decision: Decision, by_hand: bool) -> bool:
    """Returns whether a person is needed from now on."""
    if by_hand:
        writer.move(rollout, decision, RolloutEndedByHand(rollout.version), {})
    elif decision.kind in ("advance", "roll back"):
        writer.move(rollout, decision)
    else:
        return writer.note(rollout, decision)
    return False
