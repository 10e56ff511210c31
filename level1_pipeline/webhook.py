"""Telling a webhook. One that is slow, wrong or gone never stops the work that it would hear of."""

from __future__ import annotations

import json
import logging
import time
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

TRIES = 3


def post(url: str, message: dict[str, Any], about: str, timeout: float = 5.0, pause: float = 1.0) -> bool:
    """POST a message as JSON, three times at most.

    Args:
        url: of the setting `webhook`; not empty.
        message: what happened.
        about: what the log calls it if nobody takes it, such as `ticket 7`.
        timeout: seconds for one try.
        pause: seconds before the second try, twice that before the third.

    Returns:
        Whether it was taken (an answer 2xx).
    """
    content = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(message).encode(), content, method="POST")  # noqa: S310 (Settings checks it)
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
    logger.error("the webhook at %s did not take %s after %d tries: %s", host, about, TRIES, trouble)
    return False
