"""Load for a server on this machine: raw keep-alive connections, so that the client costs less than any server."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import uvloop

MARK = b"############"  # in a body: the number of the request, so that ids are never asked twice


@dataclass
class Measured:
    """What came of one load."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)  # seconds, of each answer
    answers: list[tuple[int, bytes]] = field(default_factory=list)  # number of the body, and what came back

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.answers) / self.seconds

    def percentile(self, share: float) -> float:
        """Of the latencies, in milliseconds."""
        return 1000 * sorted(self.latencies)[int(share * (len(self.latencies) - 1))]


def drive(port: int, path: str, bodies: list[bytes], connections: int, seconds: float, first: int = 0) -> Measured:
    """Ask in turn for each body on some connections, each of which waits for its answer before it asks again.

    Raises:
        ConnectionError: the server answered with something else than 200, or hung up.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    measured, numbers = Measured(), count(first)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        protocols = [Connection(requests, numbers.__next__, measured, started + seconds) for _ in range(connections)]
        for protocol in protocols:
            await loop.create_connection(lambda protocol=protocol: protocol, "127.0.0.1", port)  # type: ignore[misc]
        await asyncio.gather(*(protocol.done for protocol in protocols))
        measured.seconds = time.perf_counter() - started

    gc.disable()  # our own pauses are not the server's
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    finally:
        gc.enable()
    return measured


class Connection(asyncio.Protocol):
    """One caller."""

    def __init__(self, requests: list[bytes], number: Callable[[], int], measured: Measured, until: float):
        self.requests, self.next_number, self.measured, self.until = requests, number, measured, until
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.ask()

    def ask(self) -> None:
        self.started = time.perf_counter()
        if self.started >= self.until:
            self.done.set_result(None)
            self.transport.close()
            return
        self.number = self.next_number()
        request = self.requests[self.number % len(self.requests)]
        self.transport.write(request.replace(MARK, b"%012d" % self.number))

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        head, ended, body = self.waiting.partition(b"\r\n\r\n")
        if not ended:
            return
        message = head.lower()
        if not message.startswith(b"http/1.1 200"):
            self.fail(self.waiting.decode(errors="replace")[:1000])
            return
        size = int(message.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < size:
            return
        self.measured.latencies.append(time.perf_counter() - self.started)
        self.measured.answers.append((self.number % len(self.requests), body))
        self.waiting = b""
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(f"the server hung up ({error})")

    def fail(self, message: str) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError(message))
