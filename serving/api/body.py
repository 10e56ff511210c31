"""The whole body of a request, bounded in size and in time."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from serving.errors import Refusal

BODY_SECONDS = 20.0  # for a whole body to arrive
Steps = Generator[Any, Any, bytes]


async def read_body(receive: Receive, limit: int) -> bytes:
    """The body, of at most `limit` bytes.

    Nearly every body is there when the request begins, and is read without a timer: a timer for each request would
    cost it 6 µs.

    Raises:
        Refusal: the body is too large (413), or did not arrive in time (408).
        ClientDisconnect: the caller hung up before its end.
    """
    steps: Steps = _read(receive, limit).__await__()
    try:
        awaited = next(steps)  # runs until it has to wait for the network
    except StopIteration as end:
        return end.value
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _rest(awaited, steps)
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from error


@types.coroutine
def _rest(awaited: Any, steps: Steps) -> Steps:
    """The rest of a coroutine that has begun and waits for `awaited`."""
    yield awaited
    return (yield from steps)


async def _read(receive: Receive, limit: int) -> bytes:
    size, parts, more = 0, [], True
    while more and size <= 10 * limit:  # read on a while, so that the sender gets the answer; then cut
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        content, more = message.get("body", b""), message.get("more_body", False)
        size += len(content)
        if size <= limit:
            parts.append(content)
    if size > limit:
        raise Refusal(413, f"the body is larger than {limit:,} bytes; send fewer rows in one request")
    return b"".join(parts)
