"""What speaks for a training: new outcomes to learn from, the drop in performance, and what waiting costs in dollars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.evaluation.decisions import acted, prices
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps.split import maturity_cutoff
from level1_pipeline.store import clock, quarantine
from level1_pipeline.store.audit import Order
from level1_pipeline.store.audit_queries import last_judged_as_of
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import outcomes, predictions
from level2_cicd.control_loop.ageing import ageing
from level2_cicd.control_loop.triggers import BY_MONITORING, STALENESS
from monitoring.data.prediction_window import last_days, read
from monitoring.detectors.performance import matured

WINDOW_DAYS = 7  # that the present cost is measured on
COSTLY_DAYS = 28  # for which a drop would go on costing


@dataclass(frozen=True)
class Need:
    """What speaks for a training now."""

    cause: str  # of the diagnosis, or the trigger
    new_outcomes: int  # matured since the last training that was judged
    drop: float | None = None  # how much worse the loss is than expected; None if that is not what speaks for it
    dollars: float | None = None  # what a training is worth; None if unknown or not applicable


def need(registry: Registry, order: Order) -> Need:
    """What the retraining budget weighs when an order is made."""
    settings, store, dollars = registry.settings, registry.store, None
    if order.trigger in (STALENESS, *BY_MONITORING):
        age = ageing(registry, clock.now(settings))
        change = _dollars(settings, store) if order.trigger in BY_MONITORING else None
        amounts = [amount for amount in (age.dollars if age else None, change) if amount is not None]
        dollars = sum(amounts) if amounts else None
    return Need(order.evidence["cause"], _new_outcomes(settings, store), order.evidence.get("drop"), dollars)


def _new_outcomes(settings: Settings, store: Store) -> int:
    """Outcomes that the last judged training could not have: a rejected candidate would only be made of its rows again."""
    now = clock.now(settings)
    last, until = last_judged_as_of(store.audit_log(problem.NAME), now), maturity_cutoff(pd.Timestamp(now))
    new = (predictions.c.problem == problem.NAME) & (predictions.c.at <= until.to_pydatetime())
    if last is not None:
        new &= predictions.c.at > maturity_cutoff(pd.Timestamp(last)).to_pydatetime()
    same = (predictions.c.problem == outcomes.c.problem) & (predictions.c.id == outcomes.c.id)
    count = sa.select(sa.func.count(sa.distinct(predictions.c.id))).join(outcomes, same).where(new)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return int(connection.scalar(count) or 0)


def _dollars(settings: Settings, store: Store) -> float | None:
    """What the window's decisions cost beyond what the scores promised, carried on over `COSTLY_DAYS`."""
    now = clock.now(settings)
    window = last_days(now, WINDOW_DAYS)
    log = read(store, window, now, quarantine.spans(store))
    rows = matured(log.rows)
    if not len(rows):
        return None
    each = dollars_lost(rows[problem.TARGET].to_numpy(), rows["score"].to_numpy())
    days = (window.end - window.start).total_seconds() / 86400
    return None if each is None else each * log.coverage.matured / days * COSTLY_DAYS  # the rows may be a sample


def dollars_lost(y: np.ndarray, p: np.ndarray) -> float | None:
    """Dollars a prediction that the decisions cost beyond what the scores promised; None for a regression.

    `problem.COSTS` names first the price of a miss, then that of a needless action. Scores that were right
    on average would cost exactly what they promise, so the excess is what a better model can win back.
    """
    named = prices()
    if named is None or not len(y):
        return None
    (miss, needless), acts = named, acted(p)
    promised = np.where(acts, (1 - p) * needless, p * miss)
    paid = np.where(acts, (1 - y) * needless, y * miss)
    return float((paid - promised).mean())
