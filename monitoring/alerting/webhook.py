"""Telling others about tickets, and about whatever else needs a person."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from level1_pipeline import problem, webhook
from monitoring.alerting.tickets import Event


def send(url: str, events: list[Event], timeout: float = 5.0, pause: float = 1.0) -> int:
    """POST each event as JSON (`problem`, `event`, `number`, `incident`, `title`, `body`, `seen`).

    Args:
        url: of the setting `webhook`; empty tells nobody.
        events: what the run did with tickets.
        timeout: seconds for one try.
        pause: seconds before the second of three tries, twice that before the third.

    Returns:
        How many were taken (an answer 2xx). The others are logged: the ticket in the store is the truth.
    """
    if not url:
        return 0
    taken = 0
    for event in events:
        message = {"problem": problem.NAME, **asdict(event)}
        if not webhook.post(url, message, f"ticket {event.number}", timeout, pause):
            break  # what does not answer now would only cost the next event the same time
        taken += 1
    return taken


def tell(url: str, event: Literal["failed", "waits"], title: str, body: str) -> bool:
    """POST something that needs a person and is no ticket, as JSON (`problem`, `event`, `title`, `body`).

    Returns whether it was taken; an empty `url` tells nobody.
    """
    message = {"problem": problem.NAME, "event": event, "title": title, "body": body}
    return bool(url) and webhook.post(url, message, title)
