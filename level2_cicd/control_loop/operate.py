"""The control loop: take in outcomes, monitor, diagnose, decide, act, audit; then again.

Level-triggered: every cycle derives its next step from what is stored (route, rollout, audit log, newest
pass). A loop that was killed anywhere goes on where it stood, and two loops cannot act at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from level1_pipeline import problem
from level1_pipeline.errors import BundleRefused, LeaseHeld, LeaseLost, PromotionRefused
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change
from level2_cicd.control_loop import outcome_inbox, retraining_budget, training_job
from level2_cicd.control_loop.next_action import REFUSED, NextAction, champions, next_action, unfinished
from level2_cicd.control_loop.situation import Order, Situation
from level2_cicd.control_loop.triggers import MONITORING, due, order_for
from level2_cicd.rollout.advance import advance, start
from monitoring import after_run, history
from monitoring.alerting import tickets
from monitoring.data.prediction_window import last_days
from monitoring.history import DAYS
from monitoring.results import MonitoringRun
from monitoring.run import run_monitoring

logger = logging.getLogger(__name__)

MOST_STEPS = 6  # of one cycle: an order, its training, the start of its rollout, and looks at it
Trainer = Callable[[Settings, Order], int]


@dataclass
class Operator:
    """One holder of the loop's lease. The trainer is handed in, so that a test can bring a light one."""

    settings: Settings
    train: Trainer = training_job.run

    def __post_init__(self) -> None:
        self.registry = Registry(self.settings)
        self.store = self.registry.store

    def cycle(self) -> list[str]:
        """One pass of the loop. Returns what it did, in words.

        Raises:
            LeaseHeld: another loop is at work, or somebody changes the route at this moment.
        """
        with leases.hold(self.store, f"operate {problem.NAME}", self.settings.lease_seconds):
            did = [
                message
                for phase in (self._take_in, self._monitor, self._follow, self._order)
                for message in self._try(phase)
            ]
            for _ in range(MOST_STEPS):
                step = next_action(self._situation())
                message = self._try_step(step)
                did += [f"{step.kind}: {message}"] if message else []
                if not message or step.kind == "advance":
                    break
            self.registry.reconcile()  # MLflow may have been away, or a process killed before it was told
        return did

    def _try(self, phase: Callable[[], list[str]]) -> list[str]:
        """A phase that fails must not keep the loop from a rollback: it is said, and tried again in the next cycle."""
        try:
            return phase()
        except LeaseHeld:
            raise
        except Exception as error:
            name = phase.__name__.strip("_").replace("_", " ")
            logger.exception("the control loop could not %s", name)
            message = f"{type(error).__name__}: {error}"
            tickets.ask_a_person(self.store, f"the control loop cannot {name}", message, clock.now(self.settings))
            return [f"{name}: failed ({message})"]

    def _take_in(self) -> list[str]:
        return outcome_inbox.take_in(self.settings, self.store)

    def _monitor(self) -> list[str]:
        """A pass over the newest window, when it is due."""
        now, newest = clock.now(self.settings), self._newest()
        end = last_days(now, DAYS).end
        if self.registry.route().champion is None:
            return []
        if newest and end - newest.window.end < timedelta(days=self.settings.loop.monitor_every_days):
            return []
        found = run_monitoring(self.settings, now, DAYS)
        self._follow()
        after_run.publish(self.settings, self.store, found)
        return [f"monitor: {found.diagnosis.cause} ({found.diagnosis.message})"]

    def _follow(self) -> list[str]:
        """The tickets of the newest pass, in every cycle: the one that made it may have been killed."""
        if newest := self._newest():
            after_run.tell(self.settings, self.store, newest)
        return []

    def _newest(self) -> MonitoringRun | None:
        return history.newest(self.store)

    def _situation(self) -> Situation:
        return Situation(
            route=self.registry.route(),
            rolling=self.store.rollout(problem.NAME) is not None,
            history=self.store.history(problem.NAME),
            newest=self._newest(),
        )

    def _order(self) -> list[str]:
        """Trainings that are due by the calendar or by new data."""
        order = due(self.settings, self._situation())
        return [f"order: {self._ask(order)}"] if order else []

    def _try_step(self, step: NextAction) -> str | None:
        """A step that is refused is written down once and left to a person, so that the next one can be taken."""
        try:
            return self._carry_out(step)
        except (BundleRefused, PromotionRefused) as refusal:
            message = f"{step.kind} is refused: {refusal}"
            tickets.ask_a_person(self.store, f"{step.kind} is refused", message, clock.now(self.settings))
            self._record(REFUSED, message, step.evidence)
            return message

    def _carry_out(self, step: NextAction) -> str | None:
        """Do it; words about what came out, or None when nothing can be done now."""
        match step.kind:
            case "nothing":
                return None
            case "advance":
                decision = advance(self.settings)
                return f"{decision.kind} {decision.step}: {decision.reason}" if decision else None
            case "train":
                assert step.order
                return self._train(step.order)
            case "start" | "switch back":
                return self._start(step)
            case "roll back":
                return self._roll_back(step)
            case "ask":
                assert step.found
                if MONITORING in self.settings.loop.triggers:
                    return self._ask(order_for(self.settings, step.found))
                message = (
                    f"{step.reason}; MLOPS_TRIGGERS does not name {MONITORING}, so only a person may order a training"
                )
                self._record("operate: note", message, step.evidence)
                return message
        self._record(f"operate: {step.kind}", step.reason, step.evidence)
        return step.reason

    def _ask(self, order: Order) -> str:
        answer = retraining_budget.ask(
            self.settings, training_job.need(self.settings, self.store, order), order=order.as_dict()
        )
        if answer.ticket:
            tickets.ask_a_person(self.store, "no candidate is good enough", answer.reason, clock.now(self.settings))
        return ("allowed: " if answer.allowed else "refused: ") + answer.reason

    def _train(self, order: Order) -> str | None:
        watch = time.perf_counter()
        code = self.train(self.settings, order)
        if code not in training_job.ANSWERS:
            # Without this line a training that always crashes would be tried for ever.
            facts = {"order": order.id, "seconds": round(time.perf_counter() - watch, 1), **order.evidence}
            self._record("train: crashed", f"exit code {code}; its log: {training_job.log(self.settings)}", facts)
            return f"crashed with exit code {code}"
        open_order = unfinished(self.store.history(problem.NAME))
        if open_order and open_order.id == order.id:
            logger.info("another training is going on; the order of %s waits for the next cycle", order.trigger)
            return None
        return f"ended with exit code {code} (trigger: {order.trigger})"

    def _roll_back(self, step: NextAction) -> str:
        """To the version that is named or, where its bundle is damaged, to the champion before it."""
        reason, serving = step.reason, self.registry.route().champion
        earlier = [version for version in champions(self.store.history(problem.NAME)) if version != serving]
        for version in dict.fromkeys([str(step.version), *earlier]):
            try:
                return f"champion {self.registry.rollback(reason, version, step.evidence).champion}"
            except BundleRefused as damaged:
                reason += f" (not version {version}: {damaged})"
        raise BundleRefused(f"no earlier champion can serve: {reason}")

    def _start(self, step: NextAction) -> str:
        assert step.version
        decision = start(self.settings, step.version, step.reason, step.evidence, automatic=True)
        return f"version {step.version}: {decision.step}"

    def _record(self, action: str, reason: str, evidence: dict[str, Any]) -> None:
        change = Change(self.settings.who, action, reason, clock.now(self.settings), evidence)
        self.store.record(problem.NAME, change)


def run(settings: Settings, tell: Callable[[datetime, list[str]], None]) -> None:
    """Cycles until stopped. A failed cycle is logged and tried again: everything it needs is stored."""
    operator = Operator(settings)
    while True:
        try:
            tell(clock.now(settings), operator.cycle())
        except (LeaseHeld, LeaseLost) as held:
            tell(clock.now(settings), [f"skipped: somebody else is at work ({held})"])
        except Exception:
            logger.exception("a cycle failed; the next one goes on from what is stored")
        time.sleep(settings.loop.operate_seconds)
