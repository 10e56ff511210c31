"""The row of a rollout in the store: read, and moved on together with the route and the audit log.

Each transition is one transaction under the fenced lease of promotions, so a process that is killed anywhere
leaves one version serving, and the next look goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from level1_pipeline import problem
from level1_pipeline.errors import NoRollout
from level1_pipeline.registry import Registry
from level1_pipeline.store import audit
from level1_pipeline.store.database import Lease, Store
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import rollouts
from level2_cicd.rollout.state_machine import STOPPED, Decision, Rollout
from level2_cicd.rollout.states import BAKE, CANARY, CHAMPION, ROLLED_BACK, SHADOW, Step

DECISION: TypeAdapter[Decision | None] = TypeAdapter(Decision | None)


def current(store: Store) -> Rollout | None:
    """The rollout that is going on, if there is any."""
    row = store.rollout(problem.NAME)
    if row is None:
        return None
    facts = row["evidence"]
    return Rollout(
        version=row["version"],
        champion=facts["champion"],
        step=Step(row["state"], row["share"]),
        opened_at=row["opened_at"],
        since=row["since"],
        began=datetime.fromisoformat(facts["began"]),
        refresh=facts.get("refresh", False),
        moved=facts.get("moved", False),
        waiting=row["waiting"],
        approved=tuple(facts["approved"]),
        decision=_decision(facts["decision"]),
    )


def _decision(data: dict[str, Any] | None) -> Decision | None:
    """The last decision, which is only shown: one that other code wrote in another form is left out."""
    try:
        return DECISION.validate_python(data)
    except ValidationError:
        return None


def desired_route(rollout: Rollout) -> dict[str, Any]:
    """What the route has to be in this step. A rollback restores nothing, because the champion never changed."""
    if rollout.step.state == CHAMPION:
        served = {"champion": rollout.version, "previous": rollout.champion}
        return {**served, "challenger": None, "mode": None, "share": 0.0}
    if rollout.step.state == ROLLED_BACK:
        return {"challenger": None, "mode": None, "share": 0.0}
    mode = {SHADOW: SHADOW, CANARY: CANARY, BAKE: CANARY}.get(rollout.step.state)
    return {"challenger": rollout.version, "mode": mode, "share": rollout.step.share}


def changed_by_hand(rollout: Rollout, route: Route) -> bool:
    """Whether somebody set the route to something else than this step wants."""
    wanted = desired_route(rollout) | {"champion": rollout.champion}
    return any(getattr(route, name) != value for name, value in wanted.items())


@dataclass(frozen=True)
class Writer:
    """One holder of the lease, at one time."""

    registry: Registry
    lease: Lease
    now: datetime

    def current(self) -> Rollout:
        """The rollout that is going on. Raises NoRollout when there is none."""
        rollout = current(self.registry.store)
        if rollout is None:
            raise NoRollout("no rollout is going on; begin one: python -m level2_cicd rollout start VERSION --reason …")
        return rollout

    def write(
        self,
        rollout: Rollout,
        action: audit.Rollout,
        reason: str,
        evidence: dict[str, Any] | None = None,
        route: dict[str, Any] | None = None,
    ) -> None:
        """Replace the row, change the route and write the audit line: all or nothing."""
        change = audit.Change(self.registry.settings.who, action, reason, self.now, evidence or {})
        statements = [rollouts.delete().where(_same(rollout)), rollouts.insert().values(_row(rollout))]
        self.registry.store.change_route(problem.NAME, self.lease, change, statements, **(route or {}))

    def move(
        self,
        rollout: Rollout,
        decision: Decision,
        action: audit.Rollout | None = None,
        route: dict[str, Any] | None = None,
    ) -> None:
        """To the step of a decision, with the route that this step wants, or the given one."""
        step, before = decision.step, rollout.step
        moved = replace(rollout, step=step, since=self.now, waiting=None, decision=decision)
        if step.state in (SHADOW, CANARY) and step.state != before.state:
            moved = replace(moved, began=self.now)
        action = action or audit.RolloutMoved(rollout.version, str(step))
        route = desired_route(moved) if route is None else route
        self.write(moved, action, decision.reason, {"decision": decision.as_dict()}, route)

    def note(self, rollout: Rollout, decision: Decision) -> bool:
        """Keep what was seen, for `rollout status`; the audit log hears of it when a person is needed.

        Returns whether that begins now.
        """
        waiting = None
        if decision.kind == "wait":
            waiting = STOPPED if rollout.waiting == STOPPED else str(decision.step)
        noted = replace(rollout, waiting=waiting, decision=decision)
        if waiting and waiting != rollout.waiting:
            evidence = {"decision": decision.as_dict()}
            self.write(noted, audit.RolloutWaits(rollout.version), decision.reason, evidence)
            return True
        update = rollouts.update().where(_same(noted)).values(waiting=waiting, evidence=_row(noted)["evidence"])
        self.registry.store.write(self.lease, [update])
        return False


def _same(rollout: Rollout) -> sa.ColumnElement[bool]:
    return (rollouts.c.problem == problem.NAME) & (rollouts.c.version == rollout.version)


def _row(rollout: Rollout) -> dict[str, Any]:
    return {
        "problem": problem.NAME,
        "version": rollout.version,
        "state": rollout.step.state,
        "share": rollout.step.share,
        "waiting": rollout.waiting,
        "opened_at": rollout.opened_at,
        "since": rollout.since,
        "evidence": {
            "champion": rollout.champion,
            "began": rollout.began.isoformat(),
            "refresh": rollout.refresh,
            "moved": rollout.moved,
            "approved": list(rollout.approved),
            "decision": rollout.decision.as_dict() if rollout.decision else None,
        },
    }
