"""The report of a pass: one HTML page for people, complete in itself, without rows and without the network."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import monitoring_runs
from monitoring.history import counts
from monitoring.reporting import plots
from monitoring.reporting import text as report_text
from monitoring.reporting.text import interval
from monitoring.results import DayFigures, MonitoringRun, Performance

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.6rem;margin-bottom:.5rem}h2{font-size:1.2rem;margin-top:2.2rem}img{width:100%;height:auto}
table{border-collapse:collapse;margin:1rem 0;font-size:.92rem}th,td{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.scroll{overflow-x:auto}
.verdict{border-left:.5rem solid;padding:.6rem 1rem;background:#f6f6f6}.fine{border-color:#176f2c}.act{border-color:#b3261e}
.unsure{border-color:#b7791f}.note{color:#555;font-size:.92rem}pre{background:#f3f3f3;padding:.6rem;overflow-x:auto}"""
LOOK = {"nothing": "fine", "covariate shift": "fine", "inconclusive": "unsure"}
HEADLINE = {
    "nothing": "All is well",
    "covariate shift": "The inputs moved, and the model copes: nothing to do",
    "data fault": "The data are broken: mend the source, do not retrain",
    "concept drift": "The world changed: train again",
    "bad release": "The new version is worse: roll back",
    "recurring concept": "An earlier model fits better now: switch back",
    "inconclusive": "Nobody can tell yet: wait, and get what is missing",
}
MEMORY = 60  # earlier passes whose days are drawn


def path(settings: Settings, found: MonitoringRun) -> Path:
    """The page of this pass; the same window again replaces it. A look at another length has a page of its own."""
    length = "" if counts(found.window) else f"-from-{report_text.day(found.window.start)}"
    return settings.home / "reports" / "monitor" / problem.NAME / f"{report_text.day(found.window.end)}{length}.html"


def write(
    settings: Settings,
    store: Store,
    found: MonitoringRun,
    tickets: list[dict[str, Any]],
    evidently: dict[str, tuple[float, str]] | None = None,
) -> Path:
    """Write the page, whole or not at all; returns where it is."""
    target = path(settings, found)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_page = target.with_suffix(f".{os.getpid()}")
    partial_page.write_text(page(found, history(store, found), tickets, evidently or {}), encoding="utf-8")
    partial_page.replace(target)
    return target


def history(store: Store, found: MonitoringRun) -> list[DayFigures]:
    """The days of this pass and of those before it, oldest first; of the same day the newest figures."""
    mine = (monitoring_runs.c.problem == problem.NAME) & (monitoring_runs.c.window_end < found.window.end)
    rows = sa.select(monitoring_runs.c.figures).where(mine).order_by(monitoring_runs.c.window_end.desc()).limit(MEMORY)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        earlier = [MonitoringRun.from_dict(figures) for figures in connection.scalars(rows)]
    days = {day.day: day for one in [*reversed(earlier), found] for day in _days(one)}
    return [days[day] for day in sorted(days)]


def champion(found: MonitoringRun) -> Performance | None:
    """How the champion did, among its own answers."""
    mine = [one for one in found.performances if one.version == found.champion]
    return next((one for one in mine if one.arm == "champion"), mine[0] if mine else None)


def _days(found: MonitoringRun) -> tuple[DayFigures, ...]:
    own = champion(found)
    return own.days if own else ()


def page(
    found: MonitoringRun, days: list[DayFigures], tickets: list[dict[str, Any]], evidently: dict[str, tuple[float, str]]
) -> str:
    """The whole page."""
    own, said = champion(found), found.diagnosis
    parts = [f"<h1>{_safe(HEADLINE[said.cause])}</h1>", _verdict(found), _facts(found, own)]
    if days:
        promised = own.promised.get(problem.PRIMARY_METRIC) if own else None
        draw = partial(plots.over_time, days=days, releases=found.releases, promised=promised)
        note = "A week of bad weather is hard for every model: look at observed against expected, too."
        parts += _section("Performance over time", plots.picture(draw, "performance by day", 5, 2), note)
    if own and own.calibration:
        draw = partial(plots.calibration, bins=own.calibration)
        parts += _section("Do predictions mean what they say?", plots.picture(draw, "calibration", 4))
    if own and own.slices:
        note = "An interval that covers the line is no finding. Slices are ranked by the metric, worst first."
        draw = partial(plots.slices, performance=own)
        parts += _section("For whom?", plots.picture(draw, "metric by slice", 4.5) + _slices(own), note)
    parts += _drift(found, evidently)
    if own and own.days:
        draw = partial(plots.coverage, days=list(own.days))
        parts += _section("How much of this window is known by now?", plots.picture(draw, "coverage by day", 3))
    parts += _section("Versions and arms", _versions(found))
    title = f"{found.problem}: {report_text.verdict(found)}"
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{_safe(title)}</title>"
    return f"{head}<style>{STYLE}</style>{''.join(parts)}{_tickets(tickets)}</html>\n"


def _section(title: str, content: str, note: str = "") -> list[str]:
    return [f"<h2>{_safe(title)}</h2>", content, f"<p class=note>{_safe(note)}</p>" if note else ""]


def _verdict(found: MonitoringRun) -> str:
    said = found.diagnosis
    points = "".join(f"<li>{_safe(one)}</li>" for one in (*said.evidence, *said.missing))
    message = f"<b>{_safe(said.cause)}</b>, to do: <b>{_safe(said.action)}</b> (confidence {said.confidence})."
    box = f"<div class='verdict {LOOK.get(said.cause, 'act')}'><p>{message} {_safe(said.message)}</p><ul>{points}</ul></div>"
    if LOOK.get(said.cause) == "fine":
        return box
    return box + f"<p>What to run:</p><pre>{_safe(chr(10).join(report_text.commands(found)))}</pre>"


def _facts(found: MonitoringRun, own: Performance | None) -> str:
    start, end = report_text.day(found.window.start), report_text.day(found.window.end)
    facts = {
        "Window": f"{start} to {end} 00:00 ({problem.TIMEZONE})",
        "Champion": f"version {found.champion}" if found.champion else "none yet",
        "Coverage": report_text.coverage(found.coverage),
    }
    for name, value in (own.metrics if own else {}).items():
        was = f"; at promotion {own.promised[name]:.4f}" if own and name in own.promised else ""
        facts[name] = interval(value) + was
    facts["Before outcomes come"] = report_text.estimated(found) or "no estimate"
    facts["Drift"] = (
        f"{found.drift.verdict} ({found.drift.persisted} of {found.drift.windows} windows): {found.drift.message}"
    )
    facts["Training-serving skew"] = f"{found.skew.verdict}: {found.skew.mismatched} of {found.skew.checked} differ"
    return _table(["", ""], facts.items())


def _slices(own: Performance) -> str:
    names = list(own.metrics)
    rows = [
        (
            one.slice,
            f"{one.share:.1%}",
            report_text.coverage(one.coverage),
            *(interval(one.metrics.get(name)) for name in names),
        )
        for one in own.slices
    ]
    return f"<details><summary>all figures</summary>{_table(['slice', 'share', 'coverage', *names], rows)}</details>"


def _drift(found: MonitoringRun, evidently: dict[str, tuple[float, str]]) -> list[str]:
    if not found.drift.effects:
        return []
    draw = partial(plots.drift, effects=found.drift.effects)
    note = f"One decision for the whole data set: {found.drift.message}. Seasonal inputs always move; without harm that is a note."
    table = ""
    if evidently:
        ranked = sorted(evidently.items(), key=lambda one: -one[1][0])
        lines = [(name, f"{value:.3f}", measure) for name, (value, measure) in ranked]
        table = "<details><summary>every column, by Evidently (diagnosis, never an alarm)</summary>"
        table += _table(["column", "distance", "measure"], lines) + "</details>"
    return _section("What looks different?", plots.picture(draw, "columns by effect", 4.5) + table, note)


def _versions(found: MonitoringRun) -> str:
    """One column a version and arm, since people compare them line by line."""
    if not found.performances:
        return "<p>No predictions in this window.</p>"
    head = ["", *(f"version {one.version}, {one.arm}" for one in found.performances)]
    return _table(head, ((name, *cells) for name, cells in report_text.table(found.performances).items()))


def _tickets(tickets: list[dict[str, Any]]) -> str:
    if not tickets:
        return "<h2>Open tickets</h2><p>None.</p>"
    rows = [(str(t["number"]), t["title"], f"{t['opened_at']:%Y-%m-%d}", f"by {t['seen']} passes") for t in tickets]
    return "<h2>Open tickets</h2>" + _table(["", "incident", "opened", "seen"], rows)


def _table(head: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{_safe(name)}</th>" for name in head) if any(head) else ""
    body = "".join("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=scroll><table>{f'<tr>{top}</tr>' if top else ''}{body}</table></div>"


def _safe(text: str) -> str:
    return html.escape(str(text))
