"""A thread that does one thing every so often until it is stopped, and survives its own errors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0  # that a stop waits for an action; a thread that hangs ends with the process


class BackgroundThread:
    """Calls `action` every `seconds` (counted from start to start)."""

    def __init__(self, name: str, seconds: float, action: Callable[[], None]):
        self.name, self.seconds, self.action = name, seconds, action
        self._stopped, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the action that is going on, unless that hangs."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                logger.error("%s did not end within %g s; the stop goes on without it", self.name, STOP_SECONDS)

    def hurry(self) -> None:
        """Do not wait for the next time, but act now."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            started = time.monotonic()
            try:
                self.action()
            except Exception:  # a thread that dies unseen would be worse than any error of its action
                logger.exception("%s failed; it tries again", self.name)
            self._wake.wait(max(0.0, self.seconds - (time.monotonic() - started)))
            self._wake.clear()
