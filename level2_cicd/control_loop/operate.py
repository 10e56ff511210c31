"""The control loop. One cycle: take in outcomes, monitor, order trainings that are due, then act until nothing is left.

Level-triggered: every cycle derives its next action from what is stored (route, rollout, audit log, newest
monitoring run). A loop that was killed anywhere goes on where it stood, and two loops cannot act at once.
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
from level1_pipeline.store import audit, clock, leases
from level1_pipeline.store.audit import Order
from level1_pipeline.store.audit_queries import open_order
from level1_pipeline.store.database import Store
from level2_cicd.control_loop import (
    expected_gain,
    outcome_inbox,
    recalibration,
    retraining_budget,
    situation,
    training_job,
)
from level2_cicd.control_loop.next_action import NextAction, next_action
from level2_cicd.control_loop.switch_or_train import order_instead
from level2_cicd.control_loop.triggers import MONITORING, due, order_for
from level2_cicd.rollout.advance import advance, start
from monitoring import after_run, history
from monitoring.alerting import tickets, webhook
from monitoring.data.prediction_window import last_days
from monitoring.results import MonitoringRun
from monitoring.run import run_monitoring
from monitoring.thresholds import WINDOW_DAYS

logger = logging.getLogger(__name__)

MOST_ACTIONS = 6  # of one cycle: an order, its training, the start of its rollout, and looks at it
Trainer = Callable[[Settings, Order], int]
Publisher = Callable[[Settings, Store, MonitoringRun], object]


@dataclass
class Operator:
    """One holder of the loop's lease. Who trains and who publishes reports is handed in: a simulation has lighter ones."""

    settings: Settings
    train: Trainer = training_job.run
    publish: Publisher = after_run.publish

    def __post_init__(self) -> None:
        self.registry = Registry(self.settings)
        self.store = self.registry.store
        self.failed: list[str] = []  # phases and trainings of the last cycle that did not end as they should

    def cycle(self) -> list[str]:
        """One cycle. Returns a message for each thing that it did; `failed` names what could not be done.

        Raises:
            LeaseHeld: another loop is at work, or somebody changes the route at this moment.
        """
        phases = {
            "take in outcomes": lambda: outcome_inbox.take_in(self.settings, self.store),
            "monitor": self._monitor,
            "bring the tickets up to date": self._follow,
            "order a training": self._order,
        }
        self.failed.clear()
        clock.refuse_another(self.settings, self.store)
        with leases.hold(self.store, f"operate {problem.NAME}", self.settings.lease_seconds):
            messages = [message for name, phase in phases.items() for message in self._try(name, phase)]
            for _ in range(MOST_ACTIONS):
                action = next_action(situation.read(self.store, clock.now(self.settings)))
                message = self._try_action(action)
                messages += [f"{action.kind}: {message}"] if message else []
                if not message or action.kind == "advance":
                    break
            self.registry.reconcile()  # MLflow may have been away, or a process killed before it was told
        return messages

    def _try(self, name: str, phase: Callable[[], list[str]]) -> list[str]:
        """A phase that fails must not keep the loop from a rollback: it is tried again in the next cycle."""
        try:
            return phase()
        except LeaseHeld:
            raise
        except Exception as error:
            logger.exception("the control loop could not %s", name)
            self.failed.append(name)
            message = f"{type(error).__name__}: {error}"
            self._ask_a_person(f"the control loop cannot {name}", message)
            return [f"{name}: failed ({message})"]

    def _monitor(self) -> list[str]:
        """A monitoring run over the newest window, when it is due."""
        now = clock.now(self.settings)
        newest = history.newest(self.store, now)
        if self.registry.route().champion is None:
            return []
        every = timedelta(days=self.settings.loop.monitor_every_days)
        if newest and last_days(now, WINDOW_DAYS).end - newest.window.end < every:
            return []
        clock.live_by(self.settings, self.store)
        run = run_monitoring(self.settings, now, WINDOW_DAYS)
        self._follow()
        self.publish(self.settings, self.store, run)
        return [f"monitor: {run.diagnosis.cause} ({run.diagnosis.message})"]

    def _follow(self) -> list[str]:
        """The tickets of the newest monitoring run, in every cycle: the loop that made it may have been killed."""
        if newest := history.newest(self.store, clock.now(self.settings)):
            after_run.tell(self.settings, self.store, newest)
        return []

    def _order(self) -> list[str]:
        """Trainings that are due by the calendar, by new data or by the champion's age."""
        now = situation.read(self.store, clock.now(self.settings))
        order = due(self.settings, now) or retraining_budget.due_to_age(self.settings, self.registry, now)
        return [f"order: {self._ask_the_budget(order)}"] if order else []

    def _try_action(self, action: NextAction) -> str | None:
        """An action that is refused is written down once and left to a person, so that the next one can be taken."""
        try:
            return self._carry_out(action)
        except (BundleRefused, PromotionRefused) as refusal:
            message = f"{action.kind} is refused: {refusal}"
            self._ask_a_person(f"{action.kind} is refused", message)
            candidate = action.version if action.kind == "start" else None
            self._record(audit.StepRefused(candidate), message, action.evidence)
            return message

    def _carry_out(self, action: NextAction) -> str | None:
        """Do it; a message about what came out, or None when nothing can be done now."""
        match action:
            case NextAction("advance"):
                decision = advance(self.settings)
                return f"{decision.kind} {decision.step}: {decision.reason}" if decision else None
            case NextAction("train", order=Order() as order):
                return self._train(order)
            case NextAction("switch back", run=MonitoringRun() as run) if instead := order_instead(self.registry, run):
                return self._ask_the_budget(instead)
            case NextAction("start" | "switch back", reason, str(version)):
                decision = start(self.settings, version, reason, action.evidence, automatic=True)
                return f"version {version}: {decision.step}"
            case NextAction("roll back", reason, str(version)):
                return self._roll_back(version, reason, action.evidence)
            case NextAction("ask") if action.run:
                return self._ask(action)
            case NextAction("quarantine"):
                return self._record(audit.DataQuarantined(), action.reason, action.evidence)
            case NextAction("note"):
                return self._record(audit.FindingNoted(), action.reason, action.evidence)
        return None

    def _ask(self, action: NextAction) -> str:
        """The monitoring asks for a training, where the settings allow it to."""
        assert action.run
        if MONITORING in self.settings.loop.triggers:
            return self._ask_the_budget(order_for(self.settings, action.run), recalibrate=True)
        why = f"MLOPS_TRIGGERS does not name {MONITORING}, so only a person may order a training"
        return self._record(audit.FindingNoted(), f"{action.reason}; {why}", action.evidence)

    def _ask_the_budget(self, order: Order, recalibrate: bool = False) -> str:
        """Where a training has to wait or does not pay, an offset on the champion's scores may do meanwhile."""
        need = expected_gain.need(self.registry, order)
        answer = retraining_budget.ask(self.settings, need, order=order)
        if answer.needs_a_person:
            self._ask_a_person("no candidate is good enough", answer.reason)
        if recalibrate and answer.refused_by in retraining_budget.NOT_YET:
            about = {"cause": order.evidence["cause"]}
            made = self._try(
                "recalibrate the champion",
                lambda: [recalibration.recalibrate_champion(self.registry, order.reason, about)],
            )
            return f"refused: {answer.reason}; {made[0]}"
        return ("allowed: " if answer.allowed else "refused: ") + answer.reason

    def _train(self, order: Order) -> str | None:
        watch = time.perf_counter()
        code = self.train(self.settings, order)
        if code not in training_job.ANSWERS:
            # Without this line a training that always crashes would be tried for ever.
            crashed = audit.TrainingCrashed(seconds=round(time.perf_counter() - watch, 1), order=order.id)
            why = f"exit code {code}; its log: {training_job.log(self.settings)}"
            self._record(crashed, why, order.evidence)
            webhook.tell(self.settings.webhook, "failed", f"a training crashed (trigger: {order.trigger})", why)
            self.failed.append("train")
            return f"crashed with exit code {code}"
        waiting = open_order(self.store.audit_log(problem.NAME))
        if waiting and waiting.id == order.id:
            logger.info("another training is going on; the order of %s waits for the next cycle", order.trigger)
            return None
        return f"ended with exit code {code} (trigger: {order.trigger})"

    def _roll_back(self, version: str, reason: str, evidence: dict[str, Any]) -> str:
        """To the version that is named or, where that cannot serve, to the champion before it."""
        return f"champion {self.registry.rollback(reason, version, evidence, or_earlier=True).champion}"

    def _ask_a_person(self, about: str, message: str) -> None:
        events = tickets.ask_a_person(self.store, about, message, clock.now(self.settings))
        webhook.send(self.settings.webhook, events)

    def _record(self, action: audit.Action, reason: str, evidence: dict[str, Any]) -> str:
        change = audit.Change(self.settings.who, action, reason, clock.now(self.settings), evidence)
        self.store.record(problem.NAME, change)
        return reason


def run(settings: Settings, tell: Callable[[datetime, list[str]], None]) -> None:
    """Cycles until stopped. A failed cycle is logged and tried again: everything it needs is stored."""
    operator = Operator(settings)
    clock.refuse_another(settings, operator.store)  # refused now, and not in each cycle
    while True:
        try:
            tell(clock.now(settings), operator.cycle())
        except (LeaseHeld, LeaseLost) as held:
            tell(clock.now(settings), [f"skipped: somebody else is at work ({held})"])
        except Exception:
            logger.exception("a cycle failed; the next one goes on from what is stored")
        time.sleep(settings.loop.operate_seconds)
