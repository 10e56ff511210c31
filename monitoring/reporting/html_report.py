"""The report of a run: one HTML page for people, complete in itself, without rows and without the network.

The page's markup and style stand in `report.html`; here is what it shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import monitoring_runs
from monitoring.history import counts
from monitoring.reporting import plots
from monitoring.reporting import text as report_text
from monitoring.reporting.plots import Picture
from monitoring.reporting.text import interval
from monitoring.results import DayFigures, MonitoringRun, Performance

LOOK = {"nothing": "fine", "covariate shift": "fine", "inconclusive": "unsure"}  # of the box; the others: act
HEADLINE = {
    "nothing": "All is well",
    "covariate shift": "The inputs moved, and the model copes: nothing to do",
    "data fault": "The data are broken: mend the source, do not retrain",
    "label fault": "The labels are broken: mend their source, do not retrain",
    "concept drift": "The world changed: train again",
    "bad release": "The new version is worse: roll back",
    "recurring concept": "An earlier model fits better now: switch back",
    "inconclusive": "Nobody can tell yet: wait, and get what is missing",
}
RUNS_DRAWN = 60  # earlier runs whose days are drawn

Distances = dict[str, tuple[float, str]]  # Evidently's distance of each column, with the name of its measure
Row = Sequence[str]


@dataclass(frozen=True)
class Section:
    """A part of the page: a picture, a table, a note, or several of them."""

    title: str
    picture: Picture | None = None
    note: str = ""
    head: Row = ()
    rows: Sequence[Row] = ()
    summary: str = ""  # of a table that opens when it is clicked


def path(settings: Settings, run: MonitoringRun) -> Path:
    """The page of this run; the same window again replaces it. A window of another length has a page of its own."""
    length = "" if counts(run.window) else f"-from-{report_text.day(run.window.start)}"
    return settings.home / "reports" / "monitor" / problem.NAME / f"{report_text.day(run.window.end)}{length}.html"


def write(
    settings: Settings,
    store: Store,
    run: MonitoringRun,
    tickets: list[dict[str, Any]],
    evidently: Distances | None = None,
) -> Path:
    """Write the page, whole or not at all; returns where it is."""
    target = path(settings, run)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_page = target.with_suffix(f".{os.getpid()}")
    partial_page.write_text(page(run, days_so_far(store, run), tickets, evidently or {}), encoding="utf-8")
    partial_page.replace(target)
    return target


def days_so_far(store: Store, run: MonitoringRun) -> list[DayFigures]:
    """The days of this run and of those before it, oldest first; of the same day the newest figures."""
    before = (monitoring_runs.c.problem == problem.NAME) & (monitoring_runs.c.window_end < run.window.end)
    newest_first = sa.select(monitoring_runs.c.figures).where(before).order_by(monitoring_runs.c.window_end.desc())
    with store.engine.connect().execution_options(reads_only=True) as connection:
        earlier = [MonitoringRun.from_dict(figures) for figures in connection.scalars(newest_first.limit(RUNS_DRAWN))]
    performances = [champion(each) for each in (*reversed(earlier), run)]
    days = {day.day: day for performance in performances if performance for day in performance.days}
    return [days[day] for day in sorted(days)]


def champion(run: MonitoringRun) -> Performance | None:
    """How the champion did, among its own answers."""
    own = [performance for performance in run.performances if performance.version == run.champion]
    return next((performance for performance in own if performance.arm == "champion"), own[0] if own else None)


def page(run: MonitoringRun, days: list[DayFigures], tickets: list[dict[str, Any]], evidently: Distances) -> str:
    """The whole page. Every text in it is escaped."""
    own, cause = champion(run), run.diagnosis.cause
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        title=f"{run.problem}: {report_text.verdict(run)}",
        headline=HEADLINE[cause],
        look=LOOK.get(cause, "act"),
        diagnosis=run.diagnosis,
        commands=report_text.commands(run),
        facts=list(_facts(run, own)),
        sections=[
            *_performance(run, own, days),
            *_drift(run, evidently),
            *_coverage(own),
            _versions(run),
            _tickets(tickets),
        ],
    )


def _facts(run: MonitoringRun, own: Performance | None) -> Iterator[Row]:
    start, end = report_text.day(run.window.start), report_text.day(run.window.end)
    yield "Window", f"{start} to {end} 00:00 ({problem.TIMEZONE})"
    yield "Champion", f"version {run.champion}" if run.champion else "none yet"
    yield "Coverage", report_text.coverage(run.coverage)
    for name, value in (own.metrics if own else {}).items():
        promised = f"; at promotion {own.promised[name]:.4f}" if own and name in own.promised else ""
        yield name, interval(value) + promised
    if dollars := report_text.dollars(run):
        yield "Dollars since the promotion", dollars
    drift, skew = run.drift, run.skew
    yield "Before outcomes come", report_text.estimated(run) or "no estimate"
    yield "Drift", f"{drift.verdict} ({drift.persisted} of {drift.windows} windows): {drift.message}"
    yield "Training-serving skew", f"{skew.verdict}: {skew.mismatched} of {skew.checked} differ"


def _performance(run: MonitoringRun, own: Performance | None, days: list[DayFigures]) -> Iterator[Section]:
    if days:
        promised = own.promised.get(problem.PRIMARY_METRIC) if own else None
        draw = partial(plots.over_time, days=days, releases=run.releases, promised=promised)
        note = "A week of bad weather is hard for every model: look at observed against expected, too."
        yield Section("Performance over time", plots.picture(draw, "performance by day", 5, 2), note)
    if any(day.shares for day in days):
        draw = partial(plots.shares, days=days)
        yield Section("How often does each class come?", plots.picture(draw, "share of each class by day", 3.5))
    if own and own.calibration:
        draw = partial(plots.calibration, bins=own.calibration)
        yield Section("Do predictions mean what they say?", plots.picture(draw, "calibration", 4))
    if own and own.slices:
        draw = partial(plots.slices, performance=own)
        note = "An interval that covers the line is no finding. Slices are ranked by the metric, worst first."
        names = list(own.metrics)
        rows = [
            (
                part.slice,
                f"{part.share:.1%}",
                report_text.coverage(part.coverage),
                *(interval(part.metrics.get(name)) for name in names),
            )
            for part in own.slices
        ]
        head = ["slice", "share", "coverage", *names]
        yield Section("For whom?", plots.picture(draw, "metric by slice", 4.5), note, head, rows, "all figures")


def _drift(run: MonitoringRun, evidently: Distances) -> Iterator[Section]:
    if not run.drift.effects:
        return
    draw = partial(plots.drift, effects=run.drift.effects)
    decision = f"One decision for the whole data set: {run.drift.message}."
    ranked = sorted(evidently.items(), key=lambda column: -column[1][0])
    yield Section(
        "What looks different?",
        plots.picture(draw, "columns by effect", 4.5),
        f"{decision} Seasonal inputs always move; without harm that is a note.",
        ["column", "distance", "measure"],
        [(name, f"{value:.3f}", measure) for name, (value, measure) in ranked],
        "every column, by Evidently (diagnosis, never an alarm)",
    )


def _coverage(own: Performance | None) -> Iterator[Section]:
    if own and own.days:
        draw = partial(plots.coverage, days=list(own.days))
        yield Section("How much of this window is known by now?", plots.picture(draw, "coverage by day", 3))


def _versions(run: MonitoringRun) -> Section:
    """One column a version and arm, since people compare them line by line."""
    if not run.performances:
        return Section("Versions and arms", note="No predictions in this window.")
    head = ["", *(f"version {performance.version}, {performance.arm}" for performance in run.performances)]
    rows = [(name, *cells) for name, cells in report_text.table(run.performances).items()]
    return Section("Versions and arms", head=head, rows=rows)


def _tickets(tickets: list[dict[str, Any]]) -> Section:
    if not tickets:
        return Section("Open tickets", note="None.")
    rows = [(str(t["number"]), t["title"], report_text.day(t["opened_at"]), f"by {t['seen']} runs") for t in tickets]
    return Section("Open tickets", head=["", "incident", "opened", "seen"], rows=rows)
