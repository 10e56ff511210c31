"""What every request passes before the application sees it: request id, key, rate, type and size of its
body. And what every answer passes after it: no traceback, one log line, the metrics."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.access import OPEN, SCOPES, Access, Caller, RateLimit
from serving.errors import Refusal
from serving.service import Service
from serving.structured import REQUEST_ID

logger = logging.getLogger(__name__)

BODY_SECONDS = 20.0  # for a whole body to arrive
SAFE_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Guard:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service = app, service
        self.access, self.rate = Access(service.settings), RateLimit(service.settings.rate_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.perf_counter(), 0
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if SAFE_ID.fullmatch(given) else uuid4().hex
        REQUEST_ID.set(request_id)

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({"X-Request-ID": request_id, **HEADERS})
            await send(message)

        try:
            await self.app(scope, await self._admit(scope, receive), tagged)
        except Refusal as refusal:
            await refusal.response(request_id)(scope, receive, tagged)
        except Exception:
            logger.exception("a request failed")
            if status:
                raise  # half an answer is out: the server must cut the connection
            words = "something went wrong inside the service; its log tells more under this request id"
            await Refusal(500, words).response(request_id)(scope, receive, tagged)
        finally:
            self._note(scope, status, time.perf_counter() - started)
        return None

    async def _admit(self, scope: Scope, receive: Receive) -> Receive:
        """Check the request; returns a `receive` that gives its whole body."""
        headers, path = Headers(scope=scope), scope["path"]
        if path not in OPEN:
            address = scope["client"][0] if scope.get("client") else ""
            caller = Caller(address, headers.get("host", ""), headers.get("authorization", ""))
            self._check_access(path, caller)
        body = await self._body(headers, receive)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            words = f"the body must be sent as application/json, not as '{kind[:80] or 'nothing'}'"
            raise Refusal(415, words)
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return whole

    def _check_access(self, path: str, caller: Caller) -> None:
        """The rate counts for whoever shows no valid key, too: nobody may guess quickly."""
        try:
            who = self.access.admit(path, caller)
        except Refusal:
            self.rate.take(caller.address)
            raise
        self.rate.take(who)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limit, size, parts = self.service.settings.max_body_bytes, 0, []
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while size <= 10 * limit:  # read on a while, so that the sender gets the answer; then cut
                    message = await receive()
                    size += len(message.get("body", b""))
                    if size <= limit:
                        parts.append(message.get("body", b""))
                    if not message.get("more_body"):
                        break
        except TimeoutError as error:
            raise Refusal(408, f"the body did not arrive within {BODY_SECONDS:g} seconds") from error
        if size > limit:
            raise Refusal(413, f"the body is larger than {limit:,} bytes; send fewer rows in one request")
        return b"".join(parts)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in (*SCOPES, *OPEN) else "other"
        self.service.metrics.requests.labels(path, _method(scope), status).inc()
        self.service.metrics.seconds.labels(path).observe(seconds)
        facts = {"method": _method(scope), "path": path, "status": status, "ms": round(1000 * seconds, 2)}
        if path not in OPEN:
            logger.info("answered", extra={"facts": facts})


def _method(scope: Scope) -> str:
    known = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"
