"""One table decides who may ask for what: whatever form a path has, the guard and the router never disagree."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

import httpx2
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from starlette.routing import Match

from level1_pipeline.settings import Settings
from serving.api import security
from serving.api.app import create_app
from serving.api.security import ADDRESSES
from tests.support.serving import edit_manifest, eventually, known_outcomes, logged, serve, set_route

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BREW")
KEYS = {scope: security.new_key() for scope in ("predict", "admin")}
HASHES = {f"{scope}_key_hash": fingerprint for scope, (_, fingerprint) in KEYS.items()}
SECRETS: dict[str | None, str] = {None: "", "wrong": "wrong", **{scope: secret for scope, (secret, _) in KEYS.items()}}
# What is put before, into and after a path, as it stands in the request line.
PARTS = (
    *("%0a", "%0d", "%0d%0a", "%00", "%20", "%09", "%2f", "%2F", "%2e", "%5c", "%252f", "%250a", "%3f", "%23", "%ff"),
    *("%c2%85", "%e2%80%a8", "/", "//", "/.", "/..", "/../", "/./", ".", ";", ";a=1", "?a=1", "#a", "*", "+", "~", "A"),
)
LOCKED = create_app(Settings(rate_limit=0.0).changed(HASHES))
ROUTES = LOCKED.app.router.routes  # type: ignore[attr-defined]


def scope_of(method: str, path: str, key: str = "") -> dict[str, Any]:
    headers = [(b"host", b"service"), *([(b"authorization", f"Bearer {key}".encode())] if key else [])]
    client = ("10.0.0.7", 1)
    return {"type": "http", "method": method, "path": path, "root_path": "", "headers": headers, "client": client}


def routed(method: str, path: str) -> bool:
    """Whether the router has an endpoint for it."""
    return any(route.matches(scope_of(method, path))[0] == Match.FULL for route in ROUTES)


def through(method: str, path: str, key: str) -> tuple[int, Any]:
    """The status that the guard answers, or 0 and what arrived behind it."""
    arrived: list[Any] = []
    statuses: list[int] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        arrived.append((scope["method"], scope["path"]))

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LOCKED, "app", behind)
        with suppress(StopIteration):  # nothing here waits for anything
            LOCKED(scope_of(method, path, key), receive, send).send(None)
    return (0, arrived[0]) if arrived else (statuses[0], None)


def expected(method: str, path: str, holder: str | None) -> int:
    """What the table says; 0 for a request that gets through."""
    address = ADDRESSES.get(path)
    if not address:
        return 404
    if address.scope and holder not in KEYS:
        return 401
    if address.scope and holder != address.scope:
        return 403
    return 0 if method in address.methods else 405


def spoilt_paths() -> st.SearchStrategy[str]:
    """Paths as a request line holds them: those of the table, then spoilt by parts, capitals and percent signs."""
    real = st.sampled_from([*ADDRESSES, "/", ""])
    escaped = st.builds(
        lambda path, at: path[:at] + "".join(f"%{ord(c):02x}" for c in path[at:]), real, st.integers(0, 9)
    )
    whole = real | real.map(str.upper) | real.map(str.title) | escaped
    parts = st.lists(st.sampled_from(PARTS), max_size=2).map("".join)
    cut = st.builds(lambda path, at, part: path[:at] + part + path[at:], whole, st.integers(1, 12), parts)
    return cut | st.builds(lambda path, part: path + part, whole, parts) | st.text(max_size=20).map(quote)


@examples(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(raw=spoilt_paths(), method=st.sampled_from(METHODS), holder=st.sampled_from(list(SECRETS)))
@example(raw="/predict", method="POST", holder="predict")
def test_no_form_of_a_path_gets_past_the_guard_to_the_router(raw: str, method: str, holder: str | None) -> None:
    path = unquote(raw.partition("?")[0])  # as uvicorn decodes it
    for form in {path, raw, f"{path}\n", path.rstrip("/")}:
        status, arrived = through(method, form, SECRETS[holder])
        due = expected(method, form, holder)
        if form == "/predict" and not due:
            assert status == 400  # the middleware answers it itself: an empty body is no JSON
        else:
            assert (status, arrived) == (due, None if due else ("GET" if method == "HEAD" else method, form))
        if routed(method, form) and form not in ADDRESSES:
            assert status == 404, "the router would have answered"


@pytest.mark.parametrize("path", [path for path in ADDRESSES if ADDRESSES[path].scope])
def test_the_router_alone_takes_a_newline_so_the_guard_has_something_to_refuse(path: str) -> None:
    assert routed(ADDRESSES[path].methods[0], f"{path}\n")


def test_the_table_and_the_router_know_the_same_addresses() -> None:
    documented = LOCKED.app.openapi()["paths"]  # type: ignore[attr-defined]
    for path, operations in documented.items():
        assert {name.upper() for name in operations} == set(ADDRESSES[path].methods) - {"HEAD"}, path
    pages = {path for path in ADDRESSES if path.startswith("/docs") or path == "/openapi.json"}
    assert set(ADDRESSES) == pages | set(documented)
    assert all(routed("GET", path) for path in pages)


@pytest.mark.parametrize("kind", ["websocket", "something else"])
def test_only_http_reaches_the_application(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOCKED, "app", None)  # a call would fail
    asyncio.run(LOCKED({**scope_of("GET", "/metrics"), "type": kind}, None, None))  # type: ignore[arg-type]


def over_the_wire(client: httpx2.Client, line: str, *headers: str, body: str = "") -> str:
    """The status line of the answer to a request that is written by hand."""
    head = [f"{line} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=10) as caller:
        caller.sendall("\r\n".join([*head, f"Content-Length: {len(body)}", "", body]).encode())
        return caller.recv(10_000).split(b"\r\n")[0].decode()


@pytest.mark.parametrize("form", ["{}%0a", "{}%0A", "{}%0d%0a", "{}/", "/{}", "{}%00", "/.{}", "{}/.", "{};x", "{}%20"])
def test_no_form_of_an_address_is_answered_without_a_key_over_the_wire(served: Settings, form: str) -> None:
    outcome = json.dumps({"id": "x", "value": 1})
    with serve(served.changed(HASHES)) as client:
        for path, address in ADDRESSES.items():
            if address.scope:
                line = f"{address.methods[0]} {form.format(path)}"
                status = over_the_wire(client, line, "Content-Type: application/json", body=outcome)
                assert status.startswith("HTTP/1.1 404"), line
        absolute = over_the_wire(client, "GET http://localhost/metrics")
        encoded = over_the_wire(client, "GET /%6detrics")
        assert [absolute, encoded] == ["HTTP/1.1 401 Unauthorized"] * 2
    assert (logged(served), known_outcomes(served)) == ([], {})


def test_head_is_answered_wherever_get_is_and_without_a_body(client: httpx2.Client) -> None:
    for path, address in ADDRESSES.items():
        if "GET" in address.methods:
            answer = client.head(path)
            assert (answer.status_code, answer.content) == (200, b""), path
    assert client.head("/predict").status_code == 405


def test_an_address_has_one_form_so_nobody_is_sent_elsewhere(client: httpx2.Client) -> None:
    for path in ("/metrics/", "/docs/", "/predict/"):
        answer = client.get(path, headers={"X-Forwarded-Proto": "https", "X-Forwarded-Host": "public.example"})
        assert (answer.status_code, "location" in answer.headers) == (404, False)


@pytest.mark.parametrize("path", ["/predict", "/explain", "/outcomes"])
def test_a_preflight_is_refused_in_words(client: httpx2.Client, path: str) -> None:
    answer = client.options(path, headers={"Origin": "https://elsewhere.example"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/predict", "/explain", "/outcomes"])
def test_a_body_is_read_alike_at_every_address(client: httpx2.Client, records: list[dict[str, Any]], path: str) -> None:
    text = json.dumps({"id": "x", "value": 1} if path == "/outcomes" else {"record": records[0]})
    kind = {"Content-Type": "application/json"}
    assert client.post(path, content=b"\xef\xbb\xbf" + text.encode(), headers=kind).status_code == 200
    for encoding in ("utf-16", "utf-32", "utf-16-le"):
        answer = client.post(path, content=text.encode(encoding), headers=kind)
        assert (answer.status_code, answer.json()["error"]) == (400, "the body is not JSON")
    for encoding in ("gzip", "br", "x"):
        packed = client.post(path, content=gzip.compress(text.encode()), headers={**kind, "Content-Encoding": encoding})
        assert (packed.status_code, packed.headers["accept-encoding"]) == (415, "identity")
        assert "not encoded as" in packed.json()["error"]
    assert client.post(path, content=gzip.compress(text.encode()), headers=kind).status_code == 400
    assert client.post(path, content=text.encode(), headers={**kind, "Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("name", ["Host", "Authorization", "Content-Type"])
def test_a_header_that_decides_may_come_only_once(client: httpx2.Client, name: str) -> None:
    assert over_the_wire(client, "GET /model", f"{name}: localhost", f"{name}: localhost").startswith("HTTP/1.1 400")


@pytest.mark.parametrize("host", ["LOCALHOST", "LocalHost:8000", "localhost.", "127.0.0.1", "[::1]", "[0:0::1]:80"])
def test_a_name_of_this_machine_may_be_written_in_any_way(client: httpx2.Client, host: str) -> None:
    assert client.get("/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["localhost@evil.example", "evil.example", "localhost.evil.example", "::1", "", "[::2]"]
)
def test_another_name_is_not_this_machine(client: httpx2.Client, host: str) -> None:
    assert client.get("/model", headers={"Host": host}).status_code == 403


def test_the_reasons_of_the_health_name_files_only_to_a_caller_with_a_key(served: Settings) -> None:
    edit_manifest(served.bundles / "2", verdict="fail")
    set_route(served, challenger="2", mode="shadow")
    with serve(served.changed(HASHES)) as client:
        eventually(lambda: client.get("/readyz").json()["state"] == "degraded")
        shut = client.get("/readyz").json()["reasons"]
        keys = {"Authorization": f"Bearer {KEYS['admin'][0]}"}
        assert shut == ["ask with a key, or read the log of the service"]
        assert "challenger 2 is refused" in client.get("/readyz", headers=keys).json()["reasons"][0]
