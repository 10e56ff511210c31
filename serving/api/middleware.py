"""What every request passes before the application sees it: request id, key, rate, type and size of its
body. And what every answer passes after it: no traceback, one log line, the metrics."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.body import Bodies, check_kind, check_shape
from serving.api.routes import answer
from serving.api.security import ADDRESSES, Caller, RateLimit, Security, check_method
from serving.errors import Refusal
from serving.service.service import Service, new_id
from serving.telemetry.access_log import Answer
from serving.telemetry.json_logging import REQUEST_ID

logger = logging.getLogger(__name__)

SAFE_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
JSON = (b"content-type", b"application/json")
PREDICT, READY = ("/predict", "POST"), "/readyz"
FAILED = Refusal(500, "something went wrong inside the service; its log tells more under this request id")
HUNG_UP = 499  # what logs and metrics show for a caller who was gone before the whole request had come
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
# Two of these would be read by one program in one way and by the next in another.
SINGLE = (b"host", b"authorization", b"content-type", b"content-encoding")


class Middleware:
    """The ASGI application: FastAPI's, with the checks around it."""

    def __init__(self, app: ASGIApp, service: Service):
        self.app, self.service, self.bodies = app, service, Bodies(service.settings.max_body_bytes)
        self.access, self.rate = Security(service.settings), RateLimit(service.settings.rate_limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the server."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":  # there is no websocket here, and so none that could pass unchecked
                await self.app(scope, receive, send)
            return None
        started, status, complete, body = time.perf_counter(), 0, False, b""
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given if SAFE_ID.fullmatch(given) else new_id()
        REQUEST_ID.set(request_id)

        async def tagged(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), *HEADERS]
            complete = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        try:
            self._admit(scope, headers)
            body = await self.bodies.read(receive)
            content = self._content(scope, headers, body)
            if (scope["path"], scope["method"]) == PREDICT:  # without FastAPI; see docs/serving.md for what that means
                answered = await answer(self.service, content)
                await tagged({"type": "http.response.start", "status": 200, "headers": [JSON, _length(answered)]})
                await tagged({"type": "http.response.body", "body": answered})
            else:
                # The router knows GET; for HEAD the server leaves out the body.
                method = "GET" if scope["method"] == "HEAD" else scope["method"]
                await self.app({**scope, "method": method}, _given(content, receive), tagged)
        except ClientDisconnect:
            status = status or HUNG_UP  # nobody is there to be answered, and half a request is none
        except Refusal as refusal:
            await refusal.response(request_id)(scope, receive, tagged)
        except Exception:
            logger.exception("a request failed")
            if status and not complete:
                raise  # half an answer is out: the server must cut the connection
            if not status:
                await FAILED.response(request_id)(scope, receive, tagged)
        finally:
            self.bodies.release(len(body))
            self._log(scope, request_id, status, time.perf_counter() - started)
        return None

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Check what can be checked before the body is read."""
        path, address = scope["path"], scope["client"][0] if scope.get("client") else ""
        host, shown = (headers.get(name, b"").decode("latin-1") for name in (b"host", b"authorization"))
        caller = Caller(address, host, shown)
        self._check_access(path, caller)
        check_method(path, scope["method"])
        if len(headers) < len(scope["headers"]):
            _check_single([name for name, _ in scope["headers"]])
        if path == READY:
            scope.setdefault("state", {})["trusted"] = self.access.trusts(caller)

    def _content(self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
        """The JSON in a body."""
        if body:
            check_kind(headers)
        return check_shape(body, parsed_later=scope["path"] == PREDICT[0]) if body else body

    def _check_access(self, path: str, caller: Caller) -> None:
        """The rate counts for whoever shows no valid key, too: nobody may guess quickly."""
        try:
            who = self.access.admit(path, caller)
        except Refusal:
            self.rate.take(caller.address)
            raise
        if ADDRESSES[path].scope:
            self.rate.take(who)

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in ADDRESSES else "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.service.access_log.answered(
            Answer(
                time.time(), request_id, method, path, status, seconds, path == "other" or bool(ADDRESSES[path].scope)
            )
        )


def _check_single(names: list[bytes]) -> None:
    twice = next((name for name in SINGLE if names.count(name) > 1), None)
    if twice:
        raise Refusal(400, f"the header {twice.decode()} came more than once; send it once")


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


def _given(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, which was already read, as a whole."""
    given = False

    async def whole() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return whole
