"""The whole body of a request, bounded in size, in time and in its shape, and read alike at every address."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Generator, Mapping
from typing import Any

from pydantic_core import from_json
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from level1_pipeline import problem
from serving.errors import Refusal, not_json

BODY_SECONDS = 20.0  # for a whole body to arrive
BODIES = 40  # of the largest size that are in memory at once
BOM = b"\xef\xbb\xbf"  # what some programs write before UTF-8 (RFC 8259: it may be ignored)
# Pydantic writes down every unknown field: a megabyte of them takes it a second and 230 MB. So a body in which that
# many could be (each has a colon) is looked at first; fewer, of about a hundred rows, cannot do harm.
FEW_FIELDS = 3000
MAX_FIELDS = 100 + 2 * len(problem.Record.model_fields)  # of one object
Steps = Generator[Any, Any, bytes]


class Bodies:
    """Reads bodies, and counts the bytes of all that are being read or answered."""

    def __init__(self, limit: int):
        self.limit, self.held = limit, 0

    async def read(self, receive: Receive) -> bytes:
        """A body of at most `limit` bytes. Whoever gets it says so when it is answered: `release`.

        Nearly every body is there when the request begins, and is read without a timer: a timer for each request would
        cost it 6 µs.

        Raises:
            Refusal: the body is too large (413), did not arrive in time (408), or there are too many at once (503).
            ClientDisconnect: the caller hung up before its end.
        """
        steps: Steps = self._read(receive).__await__()
        try:
            awaited = next(steps)  # runs until it has to wait for the network
        except StopIteration as end:
            return end.value
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await _rest(awaited, steps)
        except TimeoutError as error:
            raise Refusal(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from error

    def release(self, size: int) -> None:
        """A body is not needed any more."""
        self.held -= size

    async def _read(self, receive: Receive) -> bytes:
        size, parts, more = 0, [], True
        try:
            while more and size <= 10 * self.limit:  # read on a while, so that the sender gets the answer; then cut
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                content, more = message.get("body", b""), message.get("more_body", False)
                size += len(content)
                if size <= self.limit:
                    parts.append(content)
                    self.held += len(content)
                if self.held > BODIES * self.limit:
                    raise Refusal(503, "too many large bodies at once; send it again", headers={"Retry-After": "5"})
            if size > self.limit:
                refused = f"the body is larger than {self.limit:,} bytes; send fewer rows in one request"
                raise Refusal(413, refused)
        except BaseException:
            self.release(sum(map(len, parts)))
            raise
        return b"".join(parts)


@types.coroutine
def _rest(awaited: Any, steps: Steps) -> Steps:
    """The rest of a coroutine that has begun and waits for `awaited`."""
    yield awaited
    return (yield from steps)


def check_kind(headers: Mapping[bytes, bytes]) -> None:
    """Refuse (415) what is not plain JSON."""
    kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, f"the body must be sent as application/json, not as '{kind[:80] or 'nothing'}'")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding != "identity":
        message = f"the body must be sent as it is, not encoded as '{encoding[:80]}'"
        raise Refusal(415, message, headers={"Accept-Encoding": "identity"})


def check_shape(body: bytes, parsed_later: bool = False) -> bytes:
    """The JSON of a body, after a look at how much of it there is.

    Args:
        body: as it came.
        parsed_later: pydantic will parse the bytes itself, so that a small body need not be parsed here.

    Raises:
        Refusal: it is no JSON in UTF-8 (400), or an object in it has too many fields (422).
    """
    body = body.removeprefix(BOM)
    if parsed_later and body.count(b":") <= FEW_FIELDS:
        return body
    try:
        content = from_json(body)
    except ValueError as error:
        raise not_json(str(error), body) from error
    items = content if isinstance(content, list) else [content]
    objects = [item for item in items if isinstance(item, dict)]
    objects += [value for item in objects if len(item) <= MAX_FIELDS for value in item.values() if type(value) is dict]
    most = max(map(len, objects), default=0)
    if most > MAX_FIELDS:
        raise Refusal(422, f"{most:,} fields in one object; at most {MAX_FIELDS} are read")
    return body
