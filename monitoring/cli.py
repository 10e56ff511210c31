"""What the commands do: one function each, ending with one line that says what came out and where."""

from __future__ import annotations

import argparse
import logging
import os

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from sqlalchemy.exc import OperationalError

from level1_pipeline import problem
from level1_pipeline.errors import BundleRefused, LeaseHeld, OutcomeFileRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store import quarantine as apart
from level1_pipeline.store.database import Store
from monitoring import after_run, history
from monitoring.alerting import tickets as incidents
from monitoring.data import outcome_files as files
from monitoring.data import retention
from monitoring.reporting import evidently_snapshot, text
from monitoring.results import Cause, MonitoringRun
from monitoring.run import run_monitoring

logger = logging.getLogger(__name__)
console = Console(highlight=False, soft_wrap=True)

# Errors that say what to do by themselves: no traceback for them.
EXPECTED = (OutcomeFileRefused, BundleRefused, LeaseHeld, LookupError, TimeoutError, OSError, OperationalError)
FINE, FAILED, ACT, DATA_FAULT, INCONCLUSIVE = 0, 1, 3, 4, 5  # exit codes; 2 is the command line's own
CODES: dict[Cause, int] = {
    "nothing": FINE,
    "covariate shift": FINE,
    "concept drift": ACT,
    "bad release": ACT,
    "recurring concept": ACT,
    "data fault": DATA_FAULT,
    "inconclusive": INCONCLUSIVE,
}


def run(settings: Settings, asked: argparse.Namespace) -> int:
    """One pass: look, follow up with tickets, write report and figures, delete what is too old."""
    store = Store(settings.operations)
    with console.status("looking at the window"):
        found = run_monitoring(settings, days=asked.days)
    events = after_run.tell(settings, store, found)
    columns = {} if asked.no_snapshot or not history.counts(found.window) else _snapshot(settings, store, found)
    page = after_run.publish(settings, store, found, columns)
    store.close()
    show(found, events)
    start, end = text.day(found.window.start), text.day(found.window.end)
    line = f"monitor | {problem.NAME} | window {start} to {end} | verdict {text.verdict(found)} | report {os.path.relpath(page)}"
    console.print(line, markup=False)
    return CODES[found.diagnosis.cause]


def _snapshot(settings: Settings, store: Store, found: MonitoringRun) -> dict[str, tuple[float, str]]:
    """Evidently's view. It decides nothing, so its failure must not hide what the pass found."""
    try:
        with console.status("drawing the columns with Evidently"):
            written = evidently_snapshot.write(settings, store, found)
    except Exception:
        logger.exception("the snapshot failed; the pass itself is complete")
        return {}
    return written.columns if written else {}


def show(found: MonitoringRun, events: list[incidents.Event]) -> None:
    """A pass as a table for the terminal."""
    who = [f"version {one.version}, {one.arm}" for one in found.performances]
    table = Table("", *who, title=found.diagnosis.message)
    for name, cells in text.table(found.performances).items():
        table.add_row(name, *cells)
    if found.performances:
        console.print(table)
    else:
        console.print(f"  {found.diagnosis.message}", markup=False)
    notes = [
        f"drift: {found.drift.verdict}, {found.drift.message}",
        f"skew: {found.skew.verdict}, {found.skew.message}",
    ]
    notes += [f"before outcomes come: {message}"] if (message := text.estimated(found)) else []
    notes += [f"evidence: {message}" for message in found.diagnosis.evidence]
    notes += [f"missing: {message}" for message in found.diagnosis.missing]
    notes += [f"ticket {event.number} {event.event}: {event.incident}" for event in events]
    for message in notes:
        console.print(f"  {message}", markup=False)


def outcomes(settings: Settings, asked: argparse.Namespace) -> int:
    """Take in a file of outcomes; 4 if some rows were bad."""
    found = files.ingest(Store(settings.operations), asked.file, clock.now(settings))
    for reason, count in found.bad.most_common():
        console.print(f"  not kept, {count:,} rows: {reason}", markup=False)
    for example in found.examples:
        console.print(f"    {example}", markup=False)
    kinds = f"{found.new:,} new, {found.unchanged:,} unchanged, {found.corrected:,} corrected, {found.unknown:,} of no logged prediction"
    bad = found.bad.total()
    console.print(f"outcomes | {problem.NAME} | {found.rows:,} rows | {kinds} | {bad:,} bad", markup=False)
    return DATA_FAULT if bad else FINE


def tickets(settings: Settings, asked: argparse.Namespace) -> int:
    """List the open tickets, or show one."""
    store = Store(settings.operations)
    if asked.number is not None:
        console.print(Markdown(incidents.ticket(store, asked.number)["body"]))
        return FINE
    table, rows = Table("number", "incident", "opened", "last seen", "passes"), incidents.open_tickets(store)
    for row in rows:
        opened, updated = f"{row['opened_at']:%Y-%m-%d}", f"{row['updated_at']:%Y-%m-%d}"
        table.add_row(str(row["number"]), row["title"], opened, updated, str(row["seen"]))
    console.print(table)
    console.print(f"tickets | {problem.NAME} | {len(rows)} open")
    return FINE


def quarantine(settings: Settings, asked: argparse.Namespace) -> int:
    """List the spans that were set apart, or lift one."""
    store = Store(settings.operations)
    if asked.lift is not None:
        span = apart.lift(store, asked.lift, settings.who, asked.reason, clock.now(settings))
        rows = f"{span.slice or 'all rows'} from {text.local(span.start)} to {text.local(span.end)}"
        console.print(f"quarantine | {problem.NAME} | lifted | {rows}: {span.reason}", markup=False)
        return FINE
    found = apart.listed(store)
    for number, one in enumerate(found, 1):
        rows = f"{one['slice'] or 'all rows'} from {text.local(one['start'])} to {text.local(one['end'])}"
        lifted = f", lifted on {text.day(one['lifted_at'])}" if one["lifted_at"] else ""
        console.print(f"  {number}  {rows}{lifted}: {one['reason']}", markup=False)
    in_force = sum(one["lifted_at"] is None for one in found)
    console.print(f"quarantine | {problem.NAME} | {in_force} in force, {len(found) - in_force} lifted", markup=False)
    return FINE


def forget(settings: Settings, asked: argparse.Namespace) -> int:
    """Delete one entity."""
    found = retention.forget(settings, Store(settings.operations), asked.entity)
    kinds = f"{found.predictions:,} predictions, {found.outcomes:,} outcomes, {found.struck} texts, {len(found.files)} files"
    console.print(f"forget | {problem.NAME} | {kinds} | in the audit log as {found.digest[:12]}", markup=False)
    return FINE


def retain(settings: Settings, asked: argparse.Namespace) -> int:
    """Delete what is too old."""
    rows, lost = retention.retain(settings, Store(settings.operations), clock.now(settings))
    age = f"older than {settings.retention_days:g} days"
    console.print(f"retain | {problem.NAME} | {rows:,} predictions and {lost:,} outcomes {age} deleted", markup=False)
    return FINE


def ui(settings: Settings, asked: argparse.Namespace) -> int:
    """The dashboards, until Ctrl-C."""
    from monitoring.reporting import dashboards

    return dashboards.run(settings, lambda message: console.print(message, markup=False))
