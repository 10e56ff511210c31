"""What follows a monitoring run, for the command and for the control loop alike: tickets first, since people wait for them."""

from __future__ import annotations

import logging
from pathlib import Path

from level1_pipeline.errors import DeletionRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from monitoring import history
from monitoring.alerting import tickets, webhook
from monitoring.alerting.tickets import Event
from monitoring.data import retention
from monitoring.reporting import evidently_snapshot, html_report, prometheus
from monitoring.results import MonitoringRun

logger = logging.getLogger(__name__)


def tell(settings: Settings, store: Store, run: MonitoringRun) -> list[Event]:
    """Bring the tickets up to date and send what changed, before anything else can fail; nothing for a window of another length."""
    events = tickets.follow(store, run) if history.counts(run.window) else []
    webhook.send(settings.webhook, events)
    return events


def snapshot(
    settings: Settings, store: Store, run: MonitoringRun, rows: int = evidently_snapshot.SAMPLE_ROWS
) -> dict[str, tuple[float, str]]:
    """Evidently's view of the columns, for `publish`; nothing for a window of another length. It decides nothing, so
    its failure is logged and must not hide the diagnosis."""
    if not history.counts(run.window):
        return {}
    try:
        written = evidently_snapshot.write(settings, store, run, rows)
    except Exception:
        logger.exception("the snapshot failed; the monitoring run itself is complete")
        return {}
    return written.columns if written else {}


def publish_with_snapshot(settings: Settings, store: Store, run: MonitoringRun, rows: int) -> Path:
    """`publish` with Evidently's view of at most so many rows, for a loop that has the seconds: they pass before its
    next action."""
    return publish(settings, store, run, snapshot(settings, store, run, rows))


def publish(
    settings: Settings, store: Store, run: MonitoringRun, columns: dict[str, tuple[float, str]] | None = None
) -> Path:
    """Write the figures and the report, then delete what is too old; returns the page.

    Args:
        settings: where to.
        store: the operations store.
        run: the run; of a window of another length only the page is written.
        columns: Evidently's distance of each column, with the name of its measure.
    """
    open_now = tickets.open_tickets(store)
    if history.counts(run.window):
        prometheus.write(settings, run, len(open_now))
    page = html_report.write(settings, store, run, open_now, columns)
    try:
        retention.retain(settings, store, run.at)
    except DeletionRefused as refusal:
        events = tickets.ask_a_person(store, "old rows are not deleted", str(refusal), run.at)
        webhook.send(settings.webhook, events)
    return page
