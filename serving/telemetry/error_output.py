"""Standard error, which nobody may be reading: a line is written at once or waits, but never holds up who writes it.

A pipe that is full stops a plain `print` for ever, and with it the thread that answers. So what does not fit waits in
memory, up to a bound; the rest is dropped, and a later line says how many lines that were.
"""

from __future__ import annotations

import os
import select
import threading
import time

from pydantic_core import to_json

STANDARD_ERROR = 2
MOST_BYTES = 1_000_000  # that wait
AT_ONCE = 4096  # a pipe that takes anything takes so much, and two processes do not mix their lines (POSIX: PIPE_BUF)


class ErrorOutput:
    """A stream for `logging.StreamHandler`, and for lines that are ready."""

    def __init__(self, descriptor: int = STANDARD_ERROR):
        self.descriptor, self.dropped = descriptor, 0
        self._waiting = bytearray()
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        """Take whole lines; `flush` writes them."""
        line = text.encode(errors="backslashreplace")
        with self._lock:
            if self.dropped and len(self._waiting) < MOST_BYTES // 2:
                note = {
                    "level": "warning",
                    "message": f"{self.dropped} lines of the log were dropped: nobody read them",
                }
                self._waiting += to_json(note) + b"\n"
                self.dropped = 0
            if len(self._waiting) + len(line) > MOST_BYTES:
                self.dropped += line.count(b"\n")
            else:
                self._waiting += line

    def flush(self, seconds: float = 0.0) -> None:
        """Write what can be written now, or within some seconds."""
        until = time.monotonic() + seconds
        with self._lock:
            while self._waiting and self._ready(max(0.0, until - time.monotonic())):
                end = self._waiting.rfind(b"\n", 0, AT_ONCE) + 1 or AT_ONCE
                try:
                    written = os.write(self.descriptor, self._waiting[:end])
                except OSError:  # closed, or whoever read it is gone
                    written = len(self._waiting)
                del self._waiting[:written]

    def _ready(self, seconds: float) -> bool:
        try:
            return bool(select.select([], [self.descriptor], [], seconds)[1])
        except (OSError, ValueError):  # cannot be asked (Windows): then it is written to
            return True


OUTPUT = ErrorOutput()
