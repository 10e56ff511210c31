"""Logs as one JSON object a line on standard error, each with the id of the request that it belongs to."""

from __future__ import annotations

import logging
from contextvars import ContextVar
from datetime import UTC, datetime

from pydantic_core import to_json

from serving.telemetry.error_output import OUTPUT

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; `extra={"facts": {...}}` adds fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "from": record.name,
            "message": record.getMessage(),
            "request_id": REQUEST_ID.get() or None,
            "process": record.process,
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return to_json({name: value for name, value in line.items() if value is not None}, fallback=str).decode()


def write_json_lines(level: int = logging.INFO) -> None:
    """Send all logs of this process to standard error as JSON lines. Called by entry points only."""
    # What no line of ours shows need not be found out (logging's own advice on optimization).
    logging.logThreads = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler(OUTPUT)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
