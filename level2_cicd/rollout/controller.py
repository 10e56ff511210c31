"""Brings a rollout about: reads the desired state, the route and the evidence, decides, and writes what follows.

Each transition is one transaction (route, row of the rollout, audit line) under the fenced lease of
promotions, so a process killed anywhere leaves one version serving, and the next call goes on from there.
The lease is held while something is written, never while evidence is read. MLflow's aliases follow with the
caller's `Registry.reconcile`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.load import verify_bundle
from level1_pipeline.errors import LeaseHeld, LeaseLost, NoRollout, PromotionRefused
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit, clock
from level1_pipeline.store.audit import Change
from level1_pipeline.store.database import Lease
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import rollouts
from level2_cicd.rollout.evidence import Sources, gather
from level2_cicd.rollout.policy import BAKE, BLESSED, CANARY, CHAMPION, REGISTERED, ROLLED_BACK, SHADOW, Step
from level2_cicd.rollout.state_machine import STOPPED, Decision, State, next_state

ACTION = "rollout: "


@dataclass(frozen=True)
class _Control:
    """One holder of the lease, at one time."""

    registry: Registry
    lease: Lease
    now: datetime

    def row(self) -> dict[str, Any]:
        found = self.registry.store.rollout(problem.NAME)
        if found is None:
            raise NoRollout("no rollout is going on; begin one: python -m level2_cicd rollout start VERSION --reason …")
        return found

    def write(
        self, row: dict[str, Any], action: str, reason: str, facts: dict[str, Any], route: dict[str, Any]
    ) -> None:
        """Replace the row of the rollout, change the route and write the audit line: all or nothing."""
        same = (rollouts.c.problem == problem.NAME) & (rollouts.c.version == row["version"])
        statements: list[sa.Executable] = [rollouts.delete().where(same), rollouts.insert().values(row)]
        who = self.registry.settings.who
        change = Change(who, ACTION + action, reason, self.now, {"candidate": row["version"], **facts})
        self.registry.store.change_route(problem.NAME, self.lease, change, statements, **route)


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
        _may_start(registry, version, automatic)
        champion = registry.route().champion
        known: dict[str, Any] = {"champion": champion, "began": now.isoformat(), "approved": [], "decision": None}
        times = {"opened_at": now, "since": now, "evidence": known, "waiting": None}
        row = {"problem": problem.NAME, "version": version, "state": REGISTERED, "share": 0.0, **times}
        facts = {**(evidence or {}), "automatic": automatic}
        _Control(registry, lease, now).write(row, "start", reason, facts, {"challenger": version})
    message = "begun; another process acts on it at this moment: see rollout status, or the history"
    return _go_on(settings, now) or Decision("stay", Step(REGISTERED), "inconclusive", message)


def _go_on(settings: Settings, now: datetime) -> Decision | None:
    """A look after something was recorded; None when another process was quicker: it took the step, or ended all."""
    try:
        return advance(settings, now)
    except (LeaseHeld, LeaseLost):
        return None


def _may_start(registry: Registry, version: str, automatic: bool) -> None:
    registry.refuse_during_a_trial()
    route = registry.route()
    if route.champion in (None, version):
        raise PromotionRefused(
            f"version {version} is the champion already"
            if route.champion
            else "there is no champion to compare with; the first one comes from Level 1: make level1"
        )
    verify_bundle(registry.bundle_folder(version))
    failed, allowed = (
        rolled_back_in_a_row(registry.store.history(problem.NAME)),
        registry.settings.rollout.max_rollbacks,
    )
    if automatic and failed >= allowed:
        raise PromotionRefused(
            f"{failed} rollouts were rolled back in a row (allowed: {allowed}): a person must look, and then: python -m level2_cicd reset --reason …"
        )


def rolled_back_in_a_row(history: list[dict[str, Any]]) -> int:
    """How many rollouts failed since one succeeded, or since a person began one by hand or said `reset`."""
    count = 0
    for line in history:
        by_hand = line["action"] == f"{ACTION}start" and not line["evidence"].get("automatic")
        if line["action"] in (ACTION + CHAMPION, audit.RESET) or by_hand:
            count = 0
        count += line["action"] == ACTION + ROLLED_BACK
    return count


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


def _look(registry: Registry, now: datetime) -> Decision | None:
    """Judge without the lease, which takes seconds; write under it, if what was judged still stands. Else look again."""
    while True:
        row, route = registry.store.rollout(problem.NAME), registry.route()
        if row is None:
            return None
        by_hand = _changed_by_hand(row, route)
        decision = _ended_by_hand(route) if by_hand else _judge(registry, row, now)
        with registry.promotion() as lease:
            fresh = registry.store.rollout(problem.NAME)
            if fresh and (state_of(fresh), registry.route()) == (state_of(row), route):
                _write(_Control(registry, lease, now), fresh, decision, by_hand)
                return decision


def _judge(registry: Registry, row: dict[str, Any], now: datetime) -> Decision:
    sources, state = Sources.of(registry.settings, registry.store), state_of(row)
    began = datetime.fromisoformat(row["evidence"]["began"])
    seen = gather(sources, state, row["evidence"]["champion"], began, now)
    return next_state(state, seen, sources.policy, now)


def _write(control: _Control, row: dict[str, Any], decision: Decision, by_hand: bool) -> None:
    if by_hand:
        _move(control, row, decision, "ended by hand", {})
    elif decision.kind in ("advance", "roll back"):
        _move(control, row, decision)
    else:
        _note(control, row, decision)


def state_of(row: dict[str, Any]) -> State:
    """The row of a rollout as the state machine knows it."""
    step, approved = Step(row["state"], row["share"]), tuple(row["evidence"]["approved"])
    return State(row["version"], step, row["opened_at"], row["since"], row["waiting"], approved)


def _move(
    control: _Control,
    row: dict[str, Any],
    decision: Decision,
    action: str = "",
    route: dict[str, Any] | None = None,
) -> None:
    """To another step: the row, the route (as the step wants it, or as given) and the audit line together."""
    step, known = decision.step, {**row["evidence"], "decision": decision.as_dict()}
    if step.state != row["state"] and step.state in (SHADOW, CANARY):
        known["began"] = control.now.isoformat()
    row = {**row, "state": step.state, "share": step.share, "since": control.now, "waiting": None, "evidence": known}
    route = _route(step, row["version"], row["evidence"]["champion"]) if route is None else route
    control.write(row, action or str(step), decision.reason, {"decision": decision.as_dict()}, route)


def _route(step: Step, version: str, champion: str) -> dict[str, Any]:
    """What is served in a step; a rollback restores nothing, because the champion never changed."""
    if step.state == CHAMPION:
        return {"champion": version, "previous": champion, "challenger": None, "mode": None, "share": 0.0}
    if step.state == ROLLED_BACK:
        return {"challenger": None, "mode": None, "share": 0.0}
    mode = {SHADOW: SHADOW, CANARY: CANARY, BAKE: CANARY}.get(step.state)
    return {"challenger": version, "mode": mode, "share": step.share}


def _note(control: _Control, row: dict[str, Any], decision: Decision) -> None:
    """Keep what was seen, for `status`; the audit log hears of it when a person is needed."""
    waiting = None
    if decision.kind == "wait":
        waiting = STOPPED if row["waiting"] == STOPPED else str(decision.step)
    new = {**row, "waiting": waiting, "evidence": {**row["evidence"], "decision": decision.as_dict()}}
    if waiting and waiting != row["waiting"]:
        return control.write(new, "waits for a person", decision.reason, {"decision": decision.as_dict()}, {})
    mine = (rollouts.c.problem == problem.NAME) & (rollouts.c.version == row["version"])
    changes = {"waiting": waiting, "evidence": new["evidence"]}
    control.registry.store.write(control.lease, [rollouts.update().where(mine).values(changes)])


def _changed_by_hand(row: dict[str, Any], route: Route) -> bool:
    champion = row["evidence"]["champion"]
    wanted = _route(Step(row["state"], row["share"]), row["version"], champion)
    return route.champion != champion or any(getattr(route, name) != value for name, value in wanted.items())


def _ended_by_hand(route: Route) -> Decision:
    """Somebody changed the route: that person wins, and the evidence no longer fits what is served."""
    now = f"champion {route.champion}, mode {route.mode}, share {route.share:g}"
    message = f"the route was changed by hand ({now}): it stays so, and the rollout is over"
    return Decision("roll back", Step(ROLLED_BACK), "error", message)


def approve(settings: Settings, reason: str, now: datetime | None = None) -> Decision | None:
    """A person agrees to the step that waits (or lets a stopped rollout go on); alarms still count.

    Returns None when the approval is recorded and another process acts on the rollout: the loop takes the step.

    Raises:
        NoRollout: nothing waits for a person.
    """
    registry, now = Registry(settings), now or clock.now(settings)
    with registry.promotion(urgent=True) as lease:
        control = _Control(registry, lease, now)
        row = control.row()
        step = row["waiting"]
        if not step:
            raise NoRollout(f"version {row['version']} ({row['state']}) waits for nobody; see: rollout status")
        approved = [*row["evidence"]["approved"], *([step] if step != STOPPED else [])]
        new = {**row, "waiting": None, "evidence": {**row["evidence"], "approved": approved}}
        control.write(new, "approved", reason, {"step": step}, {})
    return _go_on(settings, now)


def reject(settings: Settings, reason: str, now: datetime | None = None) -> Decision:
    """A person ends the rollout. Raises NoRollout when there is none."""
    registry, now = Registry(settings), now or clock.now(settings)
    with registry.promotion(urgent=True) as lease:
        control = _Control(registry, lease, now)
        decision = Decision("roll back", Step(ROLLED_BACK), "fail", reason)
        _move(control, control.row(), decision, "rejected")
    return decision


def stop(settings: Settings, reason: str, now: datetime | None = None) -> None:
    """Keep the rollout where it is until a person approves or rejects; alarms go on. Raises NoRollout."""
    registry, now = Registry(settings), now or clock.now(settings)
    with registry.promotion(urgent=True) as lease:
        control = _Control(registry, lease, now)
        control.write({**control.row(), "waiting": STOPPED}, "stop", reason, {}, {})
