"""Who may ask for a training: a person, a release, the calendar, new data, the champion's age, and the monitoring (a
performance drop, or a change of distribution). Each gives an order, whose evidence goes on to the tags of the run."""

from __future__ import annotations

from datetime import timedelta

from level1_pipeline.orchestration.new_data import new_month
from level1_pipeline.orchestration.run import today
from level1_pipeline.policies import TRIGGERS
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.audit import Order
from level1_pipeline.store.audit_queries import last_training, open_order, was_ordered
from level1_pipeline.store.days import date_of
from level2_cicd.control_loop.situation import Situation
from monitoring.results import MonitoringRun

MONITORING, STALENESS, NEW_DATA, SCHEDULE = TRIGGERS
BY_HAND = ON_DEMAND, RELEASE = "on demand", "release"
BY_MONITORING = PERFORMANCE, DISTRIBUTION = "performance drop", "distribution change"


def order_for(settings: Settings, run: MonitoringRun) -> Order:
    """What the monitoring asks for. A loss above its expectation over the windows that the diagnosis rests on is a
    drop of performance; if only the rate of outcomes moved, the distribution changed, and there is no drop."""
    diagnosis, excess = run.diagnosis, run.figures.get("excess_over") or 0.0
    trigger = PERFORMANCE if excess > 0 else DISTRIBUTION
    evidence = {
        "window_end": run.window.end.isoformat(),
        "cause": diagnosis.cause,
        "confidence": diagnosis.confidence,
        "drop": excess if trigger == PERFORMANCE else None,
        "figures": run.figures,
        "columns": [effect.column for effect in diagnosis.columns],
    }
    return Order(trigger, diagnosis.message, today(settings).isoformat(), evidence)


def by_hand(settings: Settings, trigger: str, reason: str) -> Order:
    """What a person asks for; a release is fired by whoever deployed it."""
    return Order(trigger, reason, today(settings).isoformat(), {"cause": trigger})


def may_order(now: Situation) -> bool:
    """Nothing is ordered while a rollout goes on, a training waits, or the newest monitoring run says that the data are
    broken."""
    return not (now.rolling or now.data_broken or now.route.champion is None or open_order(now.log))


def due(settings: Settings, now: Situation) -> Order | None:
    """What the calendar or new data ask for, among the triggers that the settings name.

    The budget's answer to an order holds until tomorrow.
    """
    if not may_order(now):
        return None
    loop, day = settings.loop, today(settings).isoformat()
    if NEW_DATA in loop.triggers and not was_ordered(now.log, NEW_DATA, day):
        month = new_month(settings)
        if month:
            return Order(NEW_DATA, f"all of {month} has its outcomes", day, {"cause": NEW_DATA, "month": month})
    at = clock.now(settings)
    last = last_training([line for line in now.log if line.at <= at])
    if last is None or at - last < timedelta(days=loop.schedule_days):
        return None
    if SCHEDULE in loop.triggers and not was_ordered(now.log, SCHEDULE, day):
        why = f"the last training was at {date_of(last)}, and one is due every {loop.schedule_days:g} days"
        return Order(SCHEDULE, why, day, {"cause": SCHEDULE})
    return None
