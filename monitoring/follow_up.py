"""What comes after the finding, for the command and for the control loop alike: tickets first, since people wait for them."""

from __future__ import annotations

from pathlib import Path

from level1_pipeline.settings import Settings
from level1_pipeline.store import Store
from monitoring import journal, privacy, prometheus, report, tickets, webhook
from monitoring.findings import Pass
from monitoring.tickets import Event


def tell(settings: Settings, store: Store, found: Pass) -> list[Event]:
    """Bring the tickets up to date and send what changed, before anything else can fail; nothing for a mere look."""
    events = tickets.follow(store, found) if journal.usual(found.window) else []
    webhook.send(settings.webhook, events)
    return events


def publish(settings: Settings, store: Store, found: Pass, columns: dict[str, tuple[float, str]] | None = None) -> Path:
    """Write the figures and the report, then delete what is too old; returns the page.

    Args:
        settings: where to.
        store: the operations store.
        found: the pass; of a mere look only the page is written.
        columns: Evidently's distance of each column, with the name of its measure.
    """
    open_now = tickets.open_tickets(store)
    if journal.usual(found.window):
        prometheus.write(settings, found, len(open_now))
    page = report.write(settings, store, found, open_now, columns)
    privacy.retain(settings, store, found.at)
    return page
