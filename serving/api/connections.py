"""What one connection may cost before a request is even there: bytes, headers, time, and how many connections.

The parser (httptools) and the server (uvicorn) bound none of these. Every bound is a figure of docs/serving.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_BYTES = 32_768  # of a request beside its body: request line, headers, marks of chunks, trailers
HEADERS = 100
HEAD_SECONDS = 10.0  # from a connection, or the first byte of a next request, to the end of its headers
WRITE_SECONDS = 30.0  # that a caller may leave an answer unread
PIPELINED = 20  # requests that wait behind another one of the same connection


class Connections:
    """The open connections of one worker, by address. Where there are too many, the oldest that waits for its caller
    makes room; one whose request is being answered stays."""

    def __init__(self, most: int, most_of_address: int):
        self.most, self.most_of_address = most, most_of_address
        self._all: dict[BoundedProtocol, str] = {}  # oldest first, as a dictionary keeps them
        self._of_address: dict[str, dict[BoundedProtocol, None]] = {}

    def add(self, connection: BoundedProtocol, address: str) -> bool:
        """Count a connection; False if there is no room for it."""
        same = self._of_address.get(address, {})
        if not (self._make_room(same, self.most_of_address) and self._make_room(self._all, self.most)):
            return False
        self._all[connection] = address
        self._of_address.setdefault(address, {})[connection] = None
        return True

    def discard(self, connection: BoundedProtocol) -> None:
        """Count it no more."""
        address = self._all.pop(connection, None)
        if address is not None:
            same = self._of_address[address]
            del same[connection]
            if not same:
                del self._of_address[address]

    def _make_room(self, connections: Mapping[BoundedProtocol, Any], most: int) -> bool:
        if len(connections) < most:
            return True
        oldest = next((connection for connection in connections if connection.waits_for_caller), None)
        if oldest is None:
            return False
        self.discard(oldest)
        oldest.drop()
        return True


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with bounds. Its own timers run only while a caller is slow, so a request costs no more."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._counted: Connections = self.config.counted_connections  # type: ignore[attr-defined]
        self._beside_body = 0  # bytes of the present request
        self._too_large = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @property
    def waits_for_caller(self) -> bool:
        """Whether nothing is going on here but waiting: for a request, its rest, or for its answer to be read."""
        return self._idle or self.cycle.more_body

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def drop(self) -> None:
        """Close it, without what the caller has not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and give its first request a time limit."""
        super().connection_made(transport)
        if self._counted.add(self, self.client[0] if self.client else ""):
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.drop)
        else:
            self._answer(503, "too many connections; try again")

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._counted.discard(self)
        self._stop_timers()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bound what comes beside the body, and the time of the next head."""
        if self.transport.is_closing():
            return
        self._beside_body += len(data)
        super().data_received(data)
        if self._beside_body > HEAD_BYTES and not self.transport.is_closing():
            self._too_large = True
            self.send_400_response("")
        elif self._idle and not (self._head_timer or self.timeout_keep_alive_task):
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.drop)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header (a trailer, too)."""
        if len(self.headers) >= HEADERS:
            self._refuse()
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse()
        self._stop_timers()
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINED:
            self._refuse()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which has bounds of its own."""
        self._beside_body -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next request begins to count."""
        self._beside_body = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The caller does not read its answer: not for ever."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller reads."""
        if self._write_timer:
            self._write_timer.cancel()
        self._write_timer = None
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """No other request came."""
        self.drop()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be taken, and close."""
        if self._too_large:
            most = f"at most {HEADERS} headers and {HEAD_BYTES:,} bytes beside the body are read"
            self._answer(431, f"{most}, and {PIPELINED} requests ahead")
        else:
            self._answer(400, msg)

    def _answer(self, status: int, message: str) -> None:
        lines = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
        self.transport.write(STATUS_LINE[status] + lines % (len(message), message.encode("ascii")))
        self.transport.close()
        self._stop_timers()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)  # if nobody reads it

    def _refuse(self) -> None:
        self._too_large = True
        raise ValueError("the head of the request is too large")  # ends the parsing: `send_400_response` answers

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer:
                timer.cancel()
        self._head_timer = self._write_timer = None
