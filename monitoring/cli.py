"""The command line of the monitoring: run, outcomes, tickets, quarantine, forget, retain, ui, exporter.

Exit codes: 0 fine, 1 refused, 2 not understood, 3 something is to be done, 4 data fault or bad rows, 5 inconclusive.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic_core import to_json
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.command_line import Reason, console, new_app, open_settings, print_result
from level1_pipeline.command_line import run as run_command
from level1_pipeline.store import clock
from level1_pipeline.store import quarantine as quarantined_spans
from level1_pipeline.store.database import Store
from monitoring import after_run
from monitoring.alerting import tickets as incidents
from monitoring.data import forgetting, outcome_files, retention
from monitoring.reporting import dashboards, prometheus, text
from monitoring.results import Cause, MonitoringRun
from monitoring.run import run_monitoring
from monitoring.thresholds import WINDOW_DAYS

FINE, ACT, FAULT, INCONCLUSIVE = 0, 3, 4, 5  # exit codes
CODES: dict[Cause, int] = {
    "nothing": FINE,
    "covariate shift": FINE,
    "concept drift": ACT,
    "bad release": ACT,
    "recurring concept": ACT,
    "data fault": FAULT,
    "label fault": FAULT,
    "inconclusive": INCONCLUSIVE,
}

app = new_app(
    "What is going on with the served model, how sure are we, and what should be done?\n\n"
    "Begin with: python -m monitoring run"
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return run_command(app, "python -m monitoring", arguments)


@app.command()
def run(
    days: Annotated[
        int, typer.Option(min=1, help="Length of the window in whole days; another than 7 leaves only its report.")
    ] = WINDOW_DAYS,
    no_snapshot: Annotated[
        bool, typer.Option("--no-snapshot", help="Leave out Evidently's view of the columns (seconds).")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """One monitoring run over the last window: diagnosis, tickets, report, figures for Prometheus, retention.

    Example: python -m monitoring run --no-snapshot
    """
    settings = open_settings()
    store = Store(settings.operations)
    try:
        with console.status("looking at the window"):
            result = run_monitoring(settings, days=days)
        events = after_run.tell(settings, store, result)
        with console.status("drawing the columns with Evidently"):
            columns = {} if no_snapshot else after_run.snapshot(settings, store, result)
        page = after_run.publish(settings, store, result, columns)
    finally:
        store.close()
    if as_json:
        print(to_json(result.as_dict() | {"report": str(page)}, indent=2).decode())
    else:
        _show(result, events)
        window = f"window {text.day(result.window.start)} to {text.day(result.window.end)}"
        print_result("monitor", f"{window} | verdict {text.summary(result)} | report {os.path.relpath(page)}")
    return CODES[result.diagnosis.cause]


def _show(result: MonitoringRun, events: list[incidents.Event]) -> None:
    """A run as a table for the terminal."""
    diagnosis = result.diagnosis
    heads = [f"version {performance.version}, {performance.arm}" for performance in result.performances]
    table = Table("", *heads, title=diagnosis.message)
    for name, cells in text.table(result.performances).items():
        table.add_row(name, *cells)
    if result.performances:
        console.print(table)
    lines = [] if result.performances else [diagnosis.message]
    lines += text.findings(result)
    lines += [f"ticket {event.number} {event.event}: {event.incident}" for event in events]
    for line in lines:
        console.print(f"  {line}")


@app.command()
def outcomes(
    file: Annotated[Path, typer.Argument(help="A .csv or .parquet file with id, value and, if wanted, known_at.")],
) -> int:
    """Take in what really happened, from a file. Ends with 4 if some rows were bad.

    Example: python -m monitoring outcomes arrivals.csv
    """
    settings = open_settings()
    store = Store(settings.operations)
    report = outcome_files.ingest(store, file, clock.now(settings))
    if report.kept:
        clock.live_by(settings, store)
    for reason, count in report.bad.most_common():
        console.print(f"  not kept, {count:,} rows: {reason}")
    for example in report.examples:
        console.print(f"    {example}")
    kept = f"{report.new:,} new, {report.unchanged:,} unchanged, {report.corrected:,} corrected"
    bad = report.bad.total()
    print_result("outcomes", f"{report.rows:,} rows | {kept}, {report.unknown:,} of no logged prediction | {bad:,} bad")
    return FAULT if bad else FINE


@app.command()
def tickets(
    number: Annotated[int | None, typer.Argument(help="Of the ticket to read in full.")] = None,
    as_json: AsJson = False,
) -> int:
    """List the open tickets, or show one of them.

    Example: python -m monitoring tickets 1
    """
    store = Store(open_settings().operations)
    rows = incidents.open_tickets(store) if number is None else [incidents.ticket(store, number)]
    if as_json:
        print(to_json(rows, indent=2).decode())
        return FINE
    if number is not None:
        console.print(rows[0]["body"])
        return FINE
    table = Table("number", "incident", "opened", "last seen", "runs")
    for row in rows:
        opened, updated = text.day(row["opened_at"]), text.day(row["updated_at"])
        table.add_row(str(row["number"]), row["title"], opened, updated, str(row["seen"]))
    console.print(table)
    print_result("tickets", f"{len(rows)} open")
    return FINE


@app.command()
def quarantine(
    lift: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="Of the span that shall count again.")
    ] = None,
    reason: Reason = "",
) -> int:
    """List the rows and labels that faults set apart, or let those of one span count again.

    Example: python -m monitoring quarantine --lift 1 --reason "a new sensor"
    """
    if (lift is None) != (not reason):
        raise typer.BadParameter("--lift NUMBER and --reason go together: who lifts a span says why")
    settings = open_settings()
    store = Store(settings.operations)
    if lift is not None:
        span = quarantined_spans.lift(store, lift, settings.who, reason, clock.now(settings))
        print_result("quarantine", f"lifted | {text.span(span)}: {span.reason}")
        return FINE
    spans = quarantined_spans.listed(store)
    for number, span in enumerate(spans, 1):
        lifted = f", lifted on {text.day(span.lifted_at)}" if span.lifted_at else ""
        console.print(f"  {number}  {text.span(span)}{lifted}: {span.reason}")
    in_force = sum(span.lifted_at is None for span in spans)
    print_result("quarantine", f"{in_force} in force, {len(spans) - in_force} lifted")
    return FINE


@app.command()
def forget(entity: Annotated[str, typer.Option(help=f"Its {problem.ENTITY}, as in the requests.")]) -> int:
    """Delete every row of one entity, everywhere.

    Example: python -m monitoring forget --entity UA-1545
    """
    settings = open_settings()
    deleted = forgetting.forget(settings, Store(settings.operations), entity)
    rows = f"{deleted.predictions:,} predictions, {deleted.outcomes:,} outcomes"
    print_result(
        "forget",
        f"{rows}, {deleted.struck} texts, {len(deleted.files)} files | in the audit log as {deleted.digest[:12]}",
    )
    return FINE


@app.command()
def retain(
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Also more than a tenth of all rows: the clock was looked at.")
    ] = False,
) -> int:
    """Delete what is older than MLOPS_RETENTION_DAYS. Each monitoring run does it, too.

    Example: python -m monitoring retain
    """
    settings = open_settings()
    rows, lost = retention.retain(settings, Store(settings.operations), clock.now(settings), confirm)
    print_result(
        "retain", f"{rows:,} predictions and {lost:,} outcomes older than {settings.retention_days:g} days deleted"
    )
    return FINE


@app.command()
def ui(
    show: Annotated[
        Literal["own", "summer"] | None,
        typer.Option(help="Whose; default: the summer of `make level2`, until a monitoring run of your own."),
    ] = None,
) -> int:
    """Open the dashboards of Evidently, MLflow and Prefect on 127.0.0.1, and a page that leads to all, until Ctrl-C.

    Example: python -m monitoring ui --show summer
    """
    return dashboards.run(open_settings(), console.print, show=show or "")


@app.command()
def exporter(address: Annotated[str, typer.Option(help="To listen on.")] = "127.0.0.1:9108") -> None:
    """Serve the figures of the newest monitoring run to Prometheus, until Ctrl-C.

    Example: python -m monitoring exporter --address 127.0.0.1:9108
    """
    prometheus.serve(open_settings(), address, lambda url: print_result("exporter", f"{url} | stop with Ctrl-C"))
