"""Who may ask for a training, all through one entry: a person, a release, the calendar, new data, and the
monitoring (a performance drop, or a change of distribution). Each order carries its evidence to the run's tags."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from level1_pipeline.orchestration.new_data import new_month
from level1_pipeline.orchestration.run import today
from level1_pipeline.settings import TRIGGERS, Settings
from level1_pipeline.store import clock
from level1_pipeline.store.audit import ALLOWED, REFUSED

if TYPE_CHECKING:
    from level2_cicd.control_loop.situation import Situation
    from monitoring.results import MonitoringRun
from level2_cicd.control_loop.situation import BLOCKING, Order

MONITORING, NEW_DATA, SCHEDULE = TRIGGERS
PERFORMANCE, DISTRIBUTION = BY_MONITORING = "performance drop", "distribution change"


def order_for(settings: Settings, found: MonitoringRun) -> Order:
    """What the monitoring asks for. A loss above its expectation over the windows that the diagnosis rests on is a
    drop of performance; if only the rate of outcomes moved, the distribution changed, and there is no drop."""
    said, excess = found.diagnosis, found.figures.get("excess_over") or 0.0
    trigger = PERFORMANCE if excess > 0 else DISTRIBUTION
    evidence = {
        "window_end": found.window.end.isoformat(),
        "cause": said.cause,
        "confidence": said.confidence,
        "drop": excess if trigger == PERFORMANCE else None,
        "figures": found.figures,
        "columns": [effect.column for effect in said.columns],
    }
    return Order(trigger, said.message, today(settings).isoformat(), evidence)


def by_hand(settings: Settings, trigger: str, reason: str) -> Order:
    """What a person asks for; a release is fired by whoever deployed it."""
    return Order(trigger, reason, today(settings).isoformat(), {"cause": trigger})


def due(settings: Settings, now: Situation) -> Order | None:
    """What the calendar or new data ask for, among the triggers that the settings name.

    Nothing while a rollout goes on, or while the newest pass says that the data are broken.
    """
    on = settings.loop.triggers
    broken = now.newest is not None and now.newest.diagnosis.cause == BLOCKING
    if now.rolling or broken or now.route.champion is None:
        return None
    if NEW_DATA in on and not _asked(now, NEW_DATA, day := today(settings).isoformat()):
        month = new_month(settings)
        if month:
            return Order(NEW_DATA, f"all of {month} has its outcomes", day, {"cause": NEW_DATA, "month": month})
    last = max((line["at"] for line in now.history if line["action"].startswith("train: ")), default=None)
    if SCHEDULE in on and last and _older(settings, last) and not _asked(now, SCHEDULE, today(settings).isoformat()):
        why = f"the last training was at {last:%Y-%m-%d}, and one is due every {settings.loop.schedule_days:g} days"
        return Order(SCHEDULE, why, today(settings).isoformat(), {"cause": SCHEDULE})
    return None


def _older(settings: Settings, last: datetime) -> bool:
    return clock.now(settings) - last >= timedelta(days=settings.loop.schedule_days)


def _asked(now: Situation, trigger: str, as_of: str) -> bool:
    """Whether the same was asked for today: the governor's answer holds until tomorrow."""
    orders = [line["evidence"].get("order") for line in now.history if line["action"] in (ALLOWED, REFUSED)]
    return any(order and (order["trigger"], order["as_of"]) == (trigger, as_of) for order in orders)
