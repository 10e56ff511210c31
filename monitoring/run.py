"""One monitoring run over one window, in four phases: collect, measure, diagnose, record. Each hands on plain data."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from level1_pipeline import problem
from level1_pipeline.evaluation.decisions import SincePromotion
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.database import Store
from monitoring import history
from monitoring.data import champion_decisions
from monitoring.data.collect import Collected, collect
from monitoring.data.prediction_window import last_days
from monitoring.detectors.measure import DRIFT_SIGNAL, measure
from monitoring.detectors.measured import Measured
from monitoring.diagnosis import diagnose
from monitoring.results import FAULTS, Diagnosis, MonitoringRun
from monitoring.thresholds import LAST_WINDOWS, WINDOW_DAYS


def run_monitoring(settings: Settings, now: datetime | None = None, days: int = WINDOW_DAYS) -> MonitoringRun:
    """Look at the last `days` whole local days before `now` (by default the clock's time).

    Writes the run's row and, on a data fault or a label fault, the spans in quarantine: in one transaction, so a killed run leaves
    nothing and can run again. Of a window of another length nothing is kept (`history.counts`).
    """
    store = Store(settings.operations)
    try:
        by_the_clock = now is None
        now = now or clock.now(settings)
        window = last_days(now, days)
        earlier_runs = history.earlier(store, window, days, LAST_WINDOWS - 1)
        collected = collect(settings, store, window, now, earlier_runs)
        measured = measure(collected)
        run = replace(_result(collected, measured, diagnose(measured)), dollars=_dollars(store, collected))
        if by_the_clock:
            clock.live_by(settings, store)
        history.record(store, run)
        return run
    finally:
        store.close()


def _dollars(store: Store, collected: Collected) -> SincePromotion | None:
    """What the champion's decisions have cost since its promotion, going on from the run before."""
    window = collected.current.window
    release = next((release for release in reversed(collected.releases) if release.version == collected.champion), None)
    earlier_run = history.newest(store, window.end - timedelta(seconds=1))
    return champion_decisions.since_promotion(store, window, collected.now, release, collected.quarantined, earlier_run)


def _result(collected: Collected, measured: Measured, diagnosis: Diagnosis) -> MonitoringRun:
    relation, over = measured.concept_drift, measured.concept_drift_over
    signals = {
        "change": relation.changed,
        DRIFT_SIGNAL: measured.drift.verdict == "moved",
        "fault": diagnosis.cause in FAULTS,
    }
    figures = {
        "bias": relation.bias,
        "bias_t": relation.bias_t,
        "excess": relation.excess,
        "excess_t": relation.excess_t,
        "bias_over": over.bias,
        "excess_over": over.excess,
        "past_champion_gain": measured.came_back.gain if measured.came_back else None,
    }
    return MonitoringRun(
        problem=problem.NAME,
        at=collected.now,
        window=collected.current.window,
        reference=collected.reference.window if len(collected.reference.rows) else None,
        champion=collected.champion,
        coverage=measured.coverage,
        performances=measured.performances,
        drift=measured.drift,
        skew=measured.skew,
        releases=collected.releases,
        diagnosis=diagnosis,
        signals=tuple(name for name, shown in signals.items() if shown),
        figures={name: None if measured.untested else value for name, value in figures.items()},
    )
