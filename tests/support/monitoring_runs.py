"""Monitoring runs as they could be, for what comes after them: tickets, report, figures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from level1_pipeline import problem
from level1_pipeline.evaluation.decisions import Decisions, SincePromotion
from monitoring.results import (
    AffectedSlice,
    Bin,
    Coverage,
    DayFigures,
    Diagnosis,
    Drift,
    Effect,
    Estimate,
    Interval,
    MonitoringRun,
    Performance,
    Release,
    Skew,
    SliceFigures,
    Span,
    Window,
)

END = datetime(2013, 7, 8, 4, tzinfo=UTC)
WEEK = timedelta(days=7)
KNOWN = Coverage(predictions=6000, matured=5400, open=400, never=200)
METRIC = problem.PRIMARY_METRIC
# Ten days; with prices of 60 and 20: 100 x 60 + 200 x 20 are lost, and never to act would cost 300 x 60.
DOLLARS = SincePromotion(END - 14 * WEEK / 7, END - 4 * WEEK / 7, Decisions(2000, 300, 100, 200), END, Decisions())
NOTHING = Diagnosis("nothing", "none", "high", "Performance is as promised.")
SPAN = Span(END - WEEK, END - WEEK / 2, "origin=JFK", "temp is stuck at 41.0")
FAULT = Diagnosis(
    "data fault",
    "quarantine",
    "high",
    "The temperature at one airport is stuck.",
    evidence=("temp|std of origin=JFK fell to 0", "the other airports are steady"),
    slices=(AffectedSlice("origin=JFK", 0.35, 0.4, 0.14),),
    columns=(Effect("temp|std", 7.5),),
    quarantine=(SPAN,),
)
CHANGE = Diagnosis(
    "concept drift",
    "retrain",
    "medium",
    "More flights are late than the model expects.",
    evidence=("calibration 1.43",),
)
RELEASE = Diagnosis("bad release", "roll back", "high", "Version 2 is worse than 1 on the same days.", version="1")
RETURN = Diagnosis("recurring concept", "switch back", "medium", "Version 1 fits better again.", version="1")
UNSURE = Diagnosis("inconclusive", "wait", "low", "No outcomes yet.", missing=("outcomes of the last 7 days",))
SHIFT = Diagnosis("covariate shift", "note", "high", "It is warmer; the model copes.")


def days(count: int = 7, end: datetime = END) -> tuple[DayFigures, ...]:
    """Daily figures that end before `end`."""
    return tuple(
        DayFigures(
            day=f"{end - timedelta(days=count - n):%Y-%m-%d}",
            predictions=900,
            matured=880 - 60 * n,
            metrics={METRIC: 0.45 + 0.02 * (n % 4)},
            observed=0.22 + 0.03 * (n % 3),
            expected=0.24,
        )
        for n in range(count)
    )


def performance(version: str = "2", arm: str = "champion", ratio: float = 1.02, **changes: Any) -> Performance:
    """How a version did."""
    metrics = {
        METRIC: Interval(0.48, 0.44, 0.52),
        "calibration": Interval(ratio, ratio - 0.08, ratio + 0.08),
        "skill": Interval(0.11, 0.05, 0.17),
        "roc_auc": Interval(None),
    }
    by_slice = [(f"origin={name}", 0.3 + 0.1 * n) for n, name in enumerate(("EWR", "JFK", "LGA"))]
    values = {
        "coverage": KNOWN,
        "metrics": metrics,
        "promised": {METRIC: 0.47, "calibration": 1.0},
        "slices": tuple(
            SliceFigures(name, KNOWN, share, {METRIC: Interval(0.5 - share / 5, 0.4, 0.52)}) for name, share in by_slice
        ),
        "days": days(),
        "calibration": tuple(Bin(n / 10, n / 10 * ratio, 500 - 40 * n) for n in range(1, 8)),
        "estimate": Estimate({METRIC: Interval(0.47, 0.45, 0.49)}, 6000, "It cannot see concept drift."),
        "latency_ms": 0.42,
    }
    return Performance(version, arm, **{**values, **changes})


def a_run(diagnosis: Diagnosis = NOTHING, weeks: int = 0, **changes: Any) -> MonitoringRun:
    """A monitoring run over the week that ends `weeks` after END."""
    end = END + weeks * WEEK
    values: dict[str, Any] = {
        "at": end + timedelta(hours=2),
        "window": Window(end - WEEK, end),
        "reference": Window(end - 13 * WEEK, end - WEEK),
        "champion": "2",
        "coverage": KNOWN,
        "performances": (performance(days=days(end=end)), performance("3", "shadow")),
        "drift": Drift("moved", 0.001, (Effect("temp|mean", 3.1), Effect("UA|carrier", 1.2)), 2, 3, "temp|mean moved"),
        "skew": Skew("equal", 200, 0, (), "200 requests give the same inputs"),
        "releases": (Release("2", end - timedelta(days=3), "promote", "1"),),
        "diagnosis": diagnosis,
    }
    return MonitoringRun(problem=problem.NAME, **{**values, **changes})


def later(run: MonitoringRun, hours: float) -> MonitoringRun:
    """The same window, looked at later."""
    return replace(run, at=run.at + timedelta(hours=hours))
