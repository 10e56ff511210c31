"""Each control of the service, shown by somebody who tries to get around it."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from serving import server
from serving.api import security
from serving.api.app import create_app
from serving.api.security import Caller, RateLimit, Security
from serving.errors import Refusal
from serving.models import routing
from tests.support import ROOT
from tests.support.bundles import demand_compiled
from tests.support.serving import Models, ServiceProcess, eventually, known_outcomes, logged, serve

ADDRESSES = [
    ("POST", "/predict", "predict"),
    ("POST", "/explain", "predict"),
    ("GET", "/model", "predict"),
    ("POST", "/outcomes", "admin"),
    ("GET", "/metrics", "admin"),
]


@pytest.fixture
def keys(served: Settings) -> tuple[Settings, dict[str, str]]:
    """Settings with a key for each scope, and the keys."""
    made = {scope: security.new_key() for scope in ("predict", "admin")}
    hashes = {f"{scope}_key_hash": fingerprint for scope, (_, fingerprint) in made.items()}
    return served.changed(hashes), {scope: secret for scope, (secret, _) in made.items()}


def bodies(record: dict[str, Any]) -> dict[str, Any]:
    return {"/predict": {"record": record}, "/explain": {"record": record}, "/outcomes": {"id": "x", "value": 1}}


def ask(client: httpx2.Client, method: str, path: str, record: dict[str, Any], key: str | None) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    return client.request(method, path, json=bodies(record).get(path), headers=headers)


def test_every_address_wants_a_key_of_its_own_scope(
    keys: tuple[Settings, dict[str, str]], records: list[dict[str, Any]]
) -> None:
    settings, secrets = keys
    with serve(settings) as client:
        for method, path, scope in ADDRESSES:
            other = "admin" if scope == "predict" else "predict"
            tries = {
                None: 401,
                "wrong": 401,
                secrets[scope][:-1]: 401,
                secrets[other]: 403,
                secrets[scope]: 200,
            }
            result = {key: ask(client, method, path, records[0], key).status_code for key in tries}
            assert result == tries, path
        assert client.post("/predict", json={"record": records[0]}).headers["www-authenticate"] == "Bearer"
        for path in ("/livez", "/readyz", "/docs", "/docs/swagger-ui-bundle.js", "/openapi.json"):
            assert client.get(path).status_code == 200


def test_the_hash_of_a_key_opens_nothing(keys: tuple[Settings, dict[str, str]], records: list[dict[str, Any]]) -> None:
    settings, _ = keys
    with serve(settings) as client:
        assert ask(client, "POST", "/predict", records[0], settings.predict_key_hash).status_code == 401


def test_several_keys_may_be_valid_so_that_they_can_be_changed(served: Settings, records: list[dict[str, Any]]) -> None:
    (old, old_hash), (new, new_hash) = security.new_key(), security.new_key()
    with serve(served.changed({"predict_key_hash": f"{old_hash}, {new_hash}"})) as client:
        assert [ask(client, "POST", "/predict", records[0], key).status_code for key in (old, new)] == [200, 200]
        assert ask(client, "GET", "/metrics", records[0], new).status_code == 403  # no admin key: closed, not open


def test_a_setting_that_holds_the_key_itself_is_refused_without_showing_it(home: Settings) -> None:
    secret, _ = security.new_key()
    with pytest.raises(ValidationError, match="python -m serving key") as error:
        Settings(predict_key_hash=secret)
    assert secret not in str(error.value)


@pytest.mark.parametrize(
    ("address", "host", "admitted"),
    [
        ("127.0.0.1", "127.0.0.1:8000", True),
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.1", "localhost", True),
        ("::1", "[::1]:8000", True),
        ("10.0.0.7", "localhost:8000", False),  # somebody else, whatever name they write
        ("127.0.0.1", "evil.example:8000", False),  # a page in a browser whose name was bent to this machine
        ("127.0.0.1", "", False),
        ("", "localhost", False),
        ("not an address", "localhost", False),
    ],
)
def test_without_a_key_only_this_machine_may_ask(address: str, host: str, admitted: bool) -> None:
    caller = Caller(address, host, "")
    if admitted:
        assert Security(Settings()).admit("/predict", caller) == address
        return
    with pytest.raises(Refusal, match="python -m serving key") as refusal:
        Security(Settings()).admit("/predict", caller)
    assert refusal.value.status == 403


def test_without_a_key_the_server_binds_to_this_machine_only_and_says_so(start: Any, served: Settings) -> None:
    service: ServiceProcess = start(served, serving_host="0.0.0.0")
    assert service.url.startswith("http://127.0.0.1:")
    assert "no API key is configured, so only this machine may ask" in service.errors.read_text()
    port = int(service.url.rpartition(":")[2])
    addresses = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=1).close()


def test_with_a_key_the_server_binds_where_it_is_told(served: Settings) -> None:
    locked = served.changed({"serving_host": "0.0.0.0", "admin_key_hash": security.new_key()[1]})
    assert server._config(locked, "app").host == "0.0.0.0"
    assert server._config(served.changed({"serving_host": "0.0.0.0"}), "app").host == "127.0.0.1"


@pytest.mark.evidence("a request is wrong or hostile")
def test_too_large_a_body_is_refused_whether_or_not_its_length_is_declared(
    served: Settings, records: list[dict[str, Any]]
) -> None:
    with serve(served.changed({"max_body_bytes": 2000})) as client:
        headers = {"Content-Type": "application/json"}
        declared = client.post("/predict", content=b" " * 2001, headers=headers)
        chunked = client.post("/predict", content=(b" " * 500 for _ in range(5)), headers=headers)
        assert [declared.status_code, chunked.status_code] == [413, 413]
        assert "2,000 bytes" in declared.json()["error"]
        padded = client.build_request("POST", "/predict", json={"record": records[0]}).content
        assert client.post("/predict", content=padded.ljust(2000), headers=headers).status_code == 200


def test_too_many_rows_are_refused(served: Settings, records: list[dict[str, Any]]) -> None:
    with serve(served.changed({"max_rows": 3})) as client:
        body = [{"record": record} for record in records[:4]]
        assert client.post("/predict", json=body[:3]).status_code == 200
        answer = client.post("/predict", json=body)
        assert (answer.status_code, "at most 3" in answer.json()["error"]) == (422, True)
        outcomes = [{"id": f"{n}", "value": 1} for n in range(4)]
        assert client.post("/outcomes", json=outcomes).status_code == 422


def test_a_body_that_never_ends_is_cut_off(served: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.body.BODY_SECONDS", 0.3)
    with serve(served) as client, socket.create_connection(("127.0.0.1", client.base_url.port)) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        slow.sendall(b"Content-Length: 100\r\n\r\n{")
        assert b" 408 " in slow.recv(1000)


@pytest.mark.parametrize("path", ["/predict", "/outcomes"])
def test_half_a_request_of_a_caller_who_hangs_up_is_not_carried_out(
    served: Settings, records: list[dict[str, Any]], path: str
) -> None:
    body = json.dumps({"id": "x", **({"record": records[0]} if path == "/predict" else {"value": 1})}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with serve(served) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port)) as caller:
            caller.sendall(f"{head}Content-Length: {len(body) + 500}\r\n\r\n".encode() + body)
        line = f'mlops_requests_total{{method="POST",path="{path}",status="499"}} 1.0'
        eventually(lambda: line in client.get("/metrics").text)
    assert (logged(served), known_outcomes(served)) == ([], {})


def test_who_writes_other_addresses_into_a_header_is_counted_as_one_caller(start: Any, served: Settings) -> None:
    service: ServiceProcess = start(served, rate_limit=1.0)
    with httpx2.Client(base_url=service.url) as client:
        result = [client.get("/model", headers={"X-Forwarded-For": f"127.0.0.{n}"}).status_code for n in range(2, 22)]
    assert result[0] == 200
    assert result.count(429) > 10


@pytest.mark.parametrize(("scheme", "status"), [("bearer", 200), ("BEARER", 200), ("Bearer", 200), ("Basic", 401)])
def test_the_name_of_the_scheme_may_be_written_in_any_case(
    keys: tuple[Settings, dict[str, str]], scheme: str, status: int
) -> None:
    settings, secrets = keys
    with serve(settings) as client:
        headers = {"Authorization": f"{scheme} {secrets['predict']}"}
        assert client.get("/model", headers=headers).status_code == status


def test_a_caller_who_asks_too_often_is_told_to_wait(served: Settings) -> None:
    with serve(served.changed({"rate_limit": 1.0})) as client:
        answers = [client.get("/model") for _ in range(15)]
        assert [answer.status_code for answer in answers[:2]] == [200] * 2
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert {client.get("/readyz").status_code for _ in range(20)} == {200}  # probes are not limited


def test_guessing_keys_is_limited_too(keys: tuple[Settings, dict[str, str]]) -> None:
    settings, secrets = keys
    with serve(settings.changed({"rate_limit": 0.1})) as client:
        result = [ask(client, "GET", "/model", {}, f"guess {n}").status_code for n in range(15)]
        assert (result[0], result[-1]) == (401, 429)
        assert ask(client, "GET", "/model", {}, secrets["predict"]).status_code == 200  # its owner goes on


def test_a_bucket_fills_again_and_one_caller_does_not_empty_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("serving.api.security.time.monotonic", lambda: now[0])
    limit = RateLimit(2.0)
    for _ in range(4):
        limit.take("a")
    with pytest.raises(Refusal) as refusal:
        limit.take("a")
    assert refusal.value.headers == {"Retry-After": "1"}
    limit.take("b")
    now[0] = 0.5
    limit.take("a")
    with pytest.raises(Refusal):
        limit.take("a")
    now[0] = 1000.0
    for _ in range(4):
        limit.take("a")
    with pytest.raises(Refusal):
        limit.take("a")  # it never holds more than two seconds' worth


def test_many_callers_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.api.security.MAX_CLIENTS", 100)
    limit = RateLimit(1.0)
    for number in range(1000):
        limit.take(str(number))
    assert len(limit._buckets) <= 100


def test_an_error_inside_gives_a_request_id_and_no_traceback(
    client: httpx2.Client,
    records: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(routing, "answer", fail)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/predict", json={"record": records[0]}, headers={"X-Request-ID": "find-me"})
    assert (answer.status_code, answer.json()["request_id"]) == (500, "find-me")
    assert "secret" not in answer.text
    assert "a secret of the inside" in caplog.text
    assert client.get("/readyz").json()["state"] == "ready"


def test_answers_may_not_be_cached_or_sniffed(client: httpx2.Client) -> None:
    for path in ("/readyz", "/model", "/nowhere"):
        headers = client.get(path).headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert "server" not in headers or headers["server"] == "uvicorn"  # `server._config` turns it off


@pytest.mark.evidence("Data 5")
@pytest.mark.slow
def test_logs_are_json_lines_with_the_request_id_and_without_keys(
    start: Any, keys: tuple[Settings, dict[str, str]], records: list[dict[str, Any]]
) -> None:
    settings, secrets = keys
    hashes = {name: getattr(settings, name) for name in ("predict_key_hash", "admin_key_hash")}
    service: ServiceProcess = start(settings, **hashes)
    with httpx2.Client(base_url=service.url) as client:
        answer = ask(client, "POST", "/predict", records[0], secrets["predict"])
        assert "server" not in answer.headers
        ask(client, "POST", "/predict", records[0], "wrong-key-of-somebody")
    service.stop()
    lines = service.log()
    (line,) = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
    assert (line["path"], line["method"], line["status"], line["message"]) == ("/predict", "POST", 200, "answered")
    text = service.errors.read_text()
    assert secrets["predict"] not in text
    assert "wrong-key" not in text


def test_nothing_is_opened_or_started_before_the_server_runs_the_application(tmp_path: Path) -> None:
    create_app(Settings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


@pytest.mark.integration
def test_importing_the_application_loads_no_tool_of_training_or_monitoring() -> None:
    code = """
import sys, threading
import serving.api.app
heavy = {"prefect", "great_expectations", "evidently", "mlflow"} & set(sys.modules)
assert not heavy, heavy
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_compiled_model_is_served_without_scikit_learn_and_pandas(served: Settings, models: Models) -> None:
    demand_compiled(models.folder / "0")
    code = """
import json, sys
from level1_pipeline.settings import Settings
from serving.service.service import Service
from serving.api.routes import REQUEST
service = Service(Settings())
service.hot_swap.look()
(said,) = service.predict([REQUEST.validate_json(sys.stdin.read())])
service.stop()
loaded = {"sklearn", "pandas", "scipy", "skops", "treelite", "pyarrow"} & set(sys.modules)
assert not loaded, loaded
print(said["score"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps({"record": models.records[0]}),
        env=os.environ | {"MLOPS_HOME": str(served.home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert float(done.stdout) == models.scores[0][0]


@pytest.mark.evidence("nothing is there yet")
def test_a_problem_without_a_champion_gets_503_with_the_command_to_run(home: Settings, models: Models) -> None:
    with serve(home) as client:
        answer = client.post("/predict", json={"record": models.records[0]})
        assert (answer.status_code, "make level1" in answer.json()["error"]) == (503, True)
        assert answer.headers["retry-after"]
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["state"], ready.json()["reasons"]) == (
            503,
            "not ready",
            ["there is no champion yet; train one: make level1"],
        )
        assert client.get("/livez").status_code == 200
        assert problem.NAME in client.get("/openapi.json").text
