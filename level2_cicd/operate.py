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

from level1_pipeline import leases, problem
from level1_pipeline.leases import LeaseHeld
from level1_pipeline.registry import PromotionRefused, Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import Change
from level2_cicd import driver, governor, training
from level2_cicd.decide import Next, Situation, next_step
from level2_cicd.triggers import Order, due, order_for
from monitoring import journal, outcomes, privacy, prometheus, report, tickets, webhook
from monitoring.findings import Pass
from monitoring.observe import observe
from monitoring.window import last_days

logger = logging.getLogger(__name__)

DAYS = 7  # of a window
MOST_STEPS = 6  # of one cycle: an order, its training, the start of its rollout, and looks at it
Trainer = Callable[[Settings, Order], int]


@dataclass
class Operator:
    """One holder of the loop's lease. The trainer is handed in, so that a test can bring a light one."""

    settings: Settings
    train: Trainer = training.run

    def __post_init__(self) -> None:
        self.registry = Registry(self.settings)
        self.store = self.registry.store

    def cycle(self) -> list[str]:
        """One pass of the loop. Returns what it did, in words.

        Raises:
            LeaseHeld: another loop is at work.
        """
        with leases.hold(self.store, f"operate {problem.NAME}", self.settings.lease_seconds):
            did = [*self._take_in(), *self._monitor(), *self._order()]
            for _ in range(MOST_STEPS):
                step = next_step(self._situation())
                words = self._carry_out(step)
                did += [f"{step.kind}: {words}"] if words else []
                if not words or step.kind == "advance":
                    break
        return did

    def _take_in(self) -> list[str]:
        """Outcomes that lie as files in the inbox; a file is put aside once all of it is kept."""
        inbox, did = self.settings.home / "outcomes", []
        for file in sorted([*inbox.glob("*.csv"), *inbox.glob("*.parquet")]):
            found = outcomes.ingest(self.store, file, self.settings.now())
            (inbox / "done").mkdir(exist_ok=True)
            file.rename(inbox / "done" / file.name)
            did.append(f"outcomes: {found.new:,} new ones from {file.name}, {sum(found.bad.values()):,} bad rows")
        return did

    def _monitor(self) -> list[str]:
        """A pass over the newest window, when it is due."""
        now, newest = self.settings.now(), self._newest()
        end = last_days(now, DAYS).end
        if self.registry.route().champion is None:
            return []
        if newest and end - newest.window.end < timedelta(days=self.settings.monitor_every_days):
            return []
        found = observe(self.settings, now, DAYS)
        events = tickets.follow(self.store, found)
        webhook.send(self.settings.webhook, events)
        privacy.retain(self.settings, self.store, found.at)
        open_now = tickets.open_tickets(self.store)
        prometheus.write(self.settings, found, len(open_now))
        report.write(self.settings, self.store, found, open_now, {})
        return [f"monitor: {found.diagnosis.cause} ({found.diagnosis.words})"]

    def _newest(self) -> Pass | None:
        return journal.newest(self.store)

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

    def _carry_out(self, step: Next) -> str | None:
        """Do it; words about what came out, or None when nothing can be done now."""
        match step.kind:
            case "nothing":
                return None
            case "advance":
                decision = driver.advance(self.settings)
                return f"{decision.kind} {decision.step}: {decision.reason}" if decision else None
            case "train":
                assert step.order
                return self._train(step.order)
            case "start" | "switch back":
                return self._start(step)
            case "roll back":
                return f"champion {self.registry.rollback(step.reason, step.version).champion}"
            case "ask":
                assert step.found
                return self._ask(order_for(self.settings, step.found))
        self._record(f"operate: {step.kind}", step.reason, step.evidence)
        return step.reason

    def _ask(self, order: Order) -> str:
        answer = governor.ask(self.settings, training.need(self.settings, self.store, order), order=order.as_dict())
        if answer.ticket:
            tickets.ask_a_person(self.store, "no candidate is good enough", answer.reason, self.settings.now())
        asked = {**order.evidence, "asked": [order.trigger, order.as_of]}
        self._record("operate: answered", answer.reason, asked)
        return ("allowed: " if answer.allowed else "refused: ") + answer.reason

    def _train(self, order: Order) -> str:
        code = self.train(self.settings, order)
        if code in training.ANSWERS:
            return f"ended with exit code {code} (trigger: {order.trigger})"
        # Without this line a training that always crashes would be tried for ever.
        self._record("train: crashed", f"exit code {code}; its log: {training.log(self.settings)}", order.evidence)
        return f"crashed with exit code {code}"

    def _start(self, step: Next) -> str | None:
        assert step.version
        try:
            decision = driver.start(self.settings, step.version, step.reason, step.evidence, automatic=True)
        except PromotionRefused as refusal:
            tickets.ask_a_person(self.store, "too many rollbacks", str(refusal), self.settings.now())
            if all(line["reason"] != str(refusal) for line in self.store.history(problem.NAME)):
                self._record("operate: waits for a person", str(refusal), step.evidence)
            return None
        return f"version {step.version}: {decision.step}"

    def _record(self, action: str, reason: str, evidence: dict[str, Any]) -> None:
        change = Change(self.settings.who, action, reason, self.settings.now(), evidence)
        self.store.record(problem.NAME, change)


def run(settings: Settings, tell: Callable[[datetime, list[str]], None]) -> None:
    """Cycles until stopped. A failed cycle is logged and tried again: everything it needs is stored."""
    operator = Operator(settings)
    while True:
        try:
            tell(settings.now(), operator.cycle())
        except LeaseHeld as held:
            tell(settings.now(), [f"skipped: another loop is at work ({held})"])
        except Exception:
            logger.exception("a cycle failed; the next one goes on from what is stored")
        time.sleep(settings.operate_seconds)
