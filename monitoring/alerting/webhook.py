"""Telling others about tickets. A webhook that is slow, wrong or gone never stops a monitoring run."""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from dataclasses import asdict
from http.client import HTTPException
from urllib.parse import urlsplit

from level1_pipeline import problem
from monitoring.alerting.tickets import Event

logger = logging.getLogger(__name__)

TRIES = 3


def send(url: str, events: list[Event], timeout: float = 5.0, pause: float = 1.0) -> int:
    """POST each event as JSON (`problem`, `event`, `number`, `incident`, `title`, `body`, `seen`), three times at most.

    Args:
        url: of the setting `webhook`; empty tells nobody.
        events: what the run did with tickets.
        timeout: seconds for one try.
        pause: seconds before the second try, twice that before the third.

    Returns:
        How many were taken (an answer 2xx). The others are logged: the ticket in the store is the truth.
    """
    if not url:
        return 0
    taken = 0
    for event in events:
        if not _delivered(url, {"problem": problem.NAME, **asdict(event)}, timeout, pause):
            break  # what does not answer now would only cost the next event the same time
        taken += 1
    return taken


def _delivered(url: str, event: dict[str, object], timeout: float, pause: float) -> bool:
    content = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(event).encode(), content, method="POST")  # noqa: S310 (Settings checks it)
    trouble = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(request, timeout=timeout):  # noqa: S310
                return True
        except (OSError, HTTPException) as error:  # refused, timed out, an HTTP error, or not HTTP at all
            trouble = str(error) or type(error).__name__
    # Only the host: the rest of such an address is often a secret.
    host = urlsplit(url).hostname
    logger.error("the webhook at %s did not take ticket %s after %d tries: %s", host, event["number"], TRIES, trouble)
    return False
