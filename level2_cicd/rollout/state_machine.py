"""The next state of a rollout: a pure function of where it is, what was seen, the policy and the time.

    registered -> blessed -> shadow -> canary (share by share) -> bake -> champion
    from each of them -> rolled back

The worst check decides. A failure rolls back; an inconclusive or broken check pauses and says what is
missing, and after a limit the version is rolled back as not proved; only a pass goes on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from level1_pipeline.evaluation.gate import SEVERITY, Check, Status
from level1_pipeline.policies import RolloutPolicy
from level2_cicd.rollout.states import BAKE, BLESSED, CANARY, REGISTERED, ROLLED_BACK, SHADOW, Step, following

Kind = Literal["advance", "stay", "wait", "roll back"]
STOPPED = "stopped"  # a person wants to look before anything goes on
CLOCK_ERROR = timedelta(hours=1)  # more than clocks of several machines differ
ALARMS = ("errors", "latency", "distribution", "harm")  # all of them watch every canary


@dataclass(frozen=True)
class Evidence:
    """What was seen of the candidate in its present step: checks with their messages, and the counts they rest on."""

    checks: tuple[Check, ...] = ()  # blessings, alarms, quality: whatever applies to the step
    candidate: int = 0  # answers of the candidate in shadow or, over all its steps, in the canary
    champion: int = 0  # of the champion in the same period
    in_step: int = 0  # of the candidate since this step began
    outcomes: int = 0  # canary answers whose outcome has matured
    days: int = 0  # of the shadow with matured outcomes
    notes: tuple[str, ...] = ()  # what a person wants to read, and nothing depends on


@dataclass(frozen=True)
class Decision:
    """What happens next and why; JSON-ready with `as_dict`."""

    kind: Kind
    step: Step
    verdict: Status
    reason: str
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For the audit log and the rollout's row."""
        return asdict(self)


@dataclass(frozen=True)
class Rollout:
    """Where a rollout is. Two are equal when the next state follows from the same: the last decision is only shown."""

    version: str  # the candidate
    champion: str  # that serves beside it
    step: Step
    opened_at: datetime
    since: datetime  # in this step
    began: datetime  # of the answers that are compared: when the shadow or, for later steps, the canary began
    waiting: str | None = None  # the step that needs a person, or STOPPED
    approved: tuple[str, ...] = ()  # the steps that a person has agreed to
    refresh: bool = False  # the champion's recipe on newer rows
    moved: bool = False  # the champion with an offset on its scores
    decision: Decision | None = field(default=None, compare=False)


def rules_for(rollout: Rollout, policy: RolloutPolicy) -> RolloutPolicy:
    """The rules of this rollout: those of a refresh, or the usual ones. An offset moves the mean score on purpose, and the
    gate has seen it, so the mean says nothing then."""
    rules = policy.of_refresh() if rollout.refresh else policy
    return rules.model_copy(update={"max_shift": math.inf}) if rollout.moved else rules


def next_state(rollout: Rollout, evidence: Evidence, policy: RolloutPolicy, now: datetime) -> Decision:
    """The next step of a rollout. Pure: the same arguments give the same decision."""
    checks = (*evidence.checks, *_enough(rollout, evidence, policy, now))
    verdict: Status = max((check.status for check in checks), key=SEVERITY.index, default="inconclusive")
    after = following(rollout.step, policy)

    def decided(kind: Kind, step: Step, reason: str) -> Decision:
        return Decision(kind, step, verdict, reason, checks, evidence.notes)

    failed = _messages(checks, "fail")
    if failed:
        return decided("roll back", Step(ROLLED_BACK), failed)
    if rollout.waiting == STOPPED:
        return decided("wait", rollout.step, "stopped by a person: approve or reject it")
    if rollout.since > now + CLOCK_ERROR:
        message = f"its step began on {rollout.since:%Y-%m-%d %H:%M} UTC, which is in the future: a clock was wrong"
        return decided("roll back", Step(ROLLED_BACK), f"{message}, so nothing after it can be compared")
    if verdict == "pass":
        if after.state in policy.approvals and str(after) not in rollout.approved:
            return decided("wait", after, f"ready for {after}, which needs a person: approve or reject it")
        return decided("advance", after, _messages(checks, "pass"))
    missing = _messages(checks, "error", "inconclusive")
    limit = _limit(rollout, policy)
    if now - rollout.since >= limit:
        message = f"not proved within {limit.total_seconds() / 86400:g} days in {rollout.step}: {missing}"
        return decided("roll back", Step(ROLLED_BACK), message)
    return decided("stay", rollout.step, missing)


def _limit(rollout: Rollout, policy: RolloutPolicy) -> timedelta:
    return timedelta(days=policy.canary_max_days if rollout.step.state in (CANARY, BAKE) else policy.shadow_max_days)


def _messages(checks: tuple[Check, ...], *statuses: Status) -> str:
    return "; ".join(f"{check.name}: {check.message}" for check in checks if check.status in statuses)


def _enough(rollout: Rollout, evidence: Evidence, policy: RolloutPolicy, now: datetime) -> list[Check]:
    """The minimum samples of the step. Both arms count: nothing can be compared with an idle champion."""
    if rollout.step.state in (REGISTERED, BLESSED):
        return []
    hours = (now - rollout.since).total_seconds() / 3600
    if rollout.step.state == SHADOW:
        return [
            _at_least("hours in this step", hours, 0 if policy.shadow_days else policy.canary_hours),
            _at_least("copies", evidence.candidate, policy.min_requests),
            _at_least("champion's answers", evidence.champion, policy.min_requests),
            _at_least("days with outcomes", evidence.days, policy.shadow_days),
        ]
    asleep = set(ALARMS) - {check.name for check in evidence.checks}
    checks = [
        Check(
            "alarms", "inconclusive" if asleep else "pass", f"nobody watched {sorted(asleep)}" if asleep else "awake"
        ),
        _at_least("hours in this step", hours, policy.canary_hours),
        _at_least("answers in this step", evidence.in_step, 1 if rollout.step.state == BAKE else policy.step_requests),
    ]
    if rollout.step.state == BAKE:
        checks += [
            _at_least("candidate's answers", evidence.candidate, policy.min_requests),
            _at_least("champion's answers", evidence.champion, policy.min_requests),
            _at_least("outcomes", evidence.outcomes, policy.min_outcomes),
        ]
    return checks


def _at_least(name: str, have: float, needed: float) -> Check:
    message = f"{have:,.0f}" if have >= needed else f"{have:,.0f} of {needed:,g}"
    return Check(name, "pass" if have >= needed else "inconclusive", message)
