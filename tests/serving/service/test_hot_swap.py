"""The hot swap: what the route names is served within moments, after every check, or not at all."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import create_model

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import COMPILED, GOLDEN, MANIFEST, MODEL
from level1_pipeline.settings import Settings
from level1_pipeline.store.clock import Clock
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import bundles
from serving.models.explain import explain
from serving.schemas import ExplainRequest
from serving.service.hot_swap import HotSwap
from serving.telemetry.metrics import Metrics
from tests.support.bundles import is_compiled
from tests.support.serving import (
    NOW,
    Models,
    degraded,
    edit_manifest,
    eventually,
    logged_when,
    opened,
    serve,
    set_route,
)


def version(client: httpx2.Client) -> str | None:
    return client.get("/readyz").json()["version"]


def folder(settings: Settings, name: str) -> Path:
    return settings.home / "bundles" / problem.NAME / name


def watcher(settings: Settings) -> HotSwap:
    store = Store(settings.operations)
    return HotSwap(settings, store, Clock(settings, store), Metrics())


def test_a_new_champion_is_served_without_a_restart(client: httpx2.Client, served: Settings, models: Models) -> None:
    body = {"record": models.records[0]}
    assert client.post("/predict", json=body).json()["score"] == models.scores[0][0]
    set_route(served, champion="2", previous="1")
    eventually(lambda: version(client) == "2")
    answer = client.post("/predict", json=body).json()
    assert (answer["version"], answer["score"]) == ("2", models.scores[1][0])
    set_route(served, champion="1", previous=None)  # a rollback
    eventually(lambda: version(client) == "1")
    assert client.post("/predict", json=body).json()["score"] == models.scores[0][0]


def test_the_first_champion_is_served_without_a_restart(home: Settings, models: Models) -> None:
    with serve(home.changed({"watch_seconds": 0.1})) as client:
        assert client.get("/readyz").status_code == 503
        models.publish(home.home, "1", 0)
        set_route(home, champion="1")
        eventually(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/predict", json={"record": models.records[0]}).status_code == 200


def test_a_request_in_flight_finishes_on_the_model_it_began_with(served: Settings, models: Models) -> None:
    observer = watcher(served)
    observer.look()
    began_with = observer.serving
    set_route(served, champion="2")
    observer.look()
    assert began_with
    assert observer.serving
    assert (began_with.champion.version, observer.serving.champion.version) == ("1", "2")
    assert began_with.champion.bundle.predict(models.records).tolist() == models.alike(models.scores[0])


def flip_a_bit(place: Path) -> None:
    content = bytearray((place / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (place / MODEL).write_bytes(content)


def other_numbers(place: Path) -> None:
    golden = json.loads((place / GOLDEN).read_text())
    golden["predictions"][7] += 1e-6
    (place / GOLDEN).write_text(json.dumps(golden))
    edit_manifest(place)


def no_golden_records(place: Path) -> None:
    (place / GOLDEN).write_text('{"records": [], "predictions": []}')
    edit_manifest(place)


class Payload:
    """Unpickled, it makes a file: the harmless stand-in for whatever an attacker would run."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


def pickle_payload(place: Path) -> None:
    (place / COMPILED).unlink(missing_ok=True)  # with it, the file would never be opened
    (place / MODEL).write_bytes(pickle.dumps(Payload(place / "it-ran")))
    edit_manifest(place)


SPOILT = [
    flip_a_bit,
    other_numbers,
    no_golden_records,
    pickle_payload,
    lambda place: edit_manifest(place, problem="another"),
    lambda place: edit_manifest(place, verdict="fail"),
    lambda place: (place / MANIFEST).unlink(),
    lambda place: shutil.rmtree(place),
]
NAMES = [
    "a flipped bit",
    "other numbers",
    "no golden records",
    "a pickle",
    "another problem",
    "never passed the gate",
    "no manifest",
    "nothing",
]


@pytest.mark.evidence("an artifact is damaged")
@pytest.mark.parametrize("spoil", SPOILT, ids=NAMES)
def test_a_bundle_that_fails_a_check_is_never_served_and_is_reported(
    client: httpx2.Client, served: Settings, models: Models, spoil: Any
) -> None:
    spoil(folder(served, "2"))
    set_route(served, champion="2", previous="1")
    health = degraded(client)
    assert "champion 2 is refused" in health["reasons"][0]
    for _ in range(20):
        answer = client.post("/predict", json={"record": models.records[0]}).json()
        assert (answer["version"], answer["score"]) == ("1", models.scores[0][0])
    assert 'mlops_bundles_refused_total{version="2"}' in client.get("/metrics").text
    assert "mlops_degraded 1.0" in client.get("/metrics").text
    assert not list(served.home.rglob("it-ran"))


def test_a_refused_version_is_served_once_it_was_published_again(
    client: httpx2.Client, served: Settings, models: Models
) -> None:
    flip_a_bit(folder(served, "2"))
    set_route(served, champion="2", previous="1")
    degraded(client)
    shutil.rmtree(folder(served, "2"))
    models.publish(served.home, "2", 1)
    eventually(lambda: client.get("/readyz").json()["state"] == "ready")
    assert client.get("/readyz").json() == {
        "state": "ready",
        "version": "2",
        "challenger": None,
        "reasons": [],
        "lost_predictions": 0,
    }


def test_a_restart_on_a_refused_champion_serves_the_previous_one(served: Settings) -> None:
    flip_a_bit(folder(served, "2"))
    set_route(served, champion="2", previous="1")
    with serve(served) as client:
        health = client.get("/readyz").json()
        assert (health["state"], health["version"]) == ("degraded", "1")


def test_without_any_good_bundle_nothing_is_served_and_the_reason_is_said(
    served: Settings, records: list[dict[str, Any]]
) -> None:
    flip_a_bit(folder(served, "1"))
    with serve(served) as client:
        answer = client.post("/predict", json={"record": records[0]})
        assert answer.status_code == 503
        assert "champion 1 is refused" in answer.json()["error"]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives the problem another Record, by its fields."""

    def change(fields: dict[str, Any]) -> Any:
        kinds: Any = {name: (field.annotation, field) for name, field in fields.items()}
        changed = create_model("Record", __config__=problem.Record.model_config, **kinds)
        monkeypatch.setattr(problem, "Record", changed)
        schema.columns.cache_clear()
        return changed

    yield change
    monkeypatch.undo()
    schema.columns.cache_clear()


def test_a_champion_that_was_trained_for_other_inputs_is_not_ready(served: Settings, record: Any) -> None:
    renamed = schema.names()[-1]
    record(
        {f"new_{name}" if name == renamed else name: observer for name, observer in problem.Record.model_fields.items()}
    )
    with serve(served) as client:
        health = client.get("/readyz")
        assert health.status_code == 503
        assert f"trained for other inputs: the Record has no {renamed}" in health.json()["reasons"][0]


def test_an_input_that_came_after_the_champion_contributes_nothing(
    served: Settings, models: Models, record: Any
) -> None:
    number = next(column.name for column in schema.columns() if not column.text)
    changed = record({**problem.Record.model_fields, "came_later": problem.Record.model_fields[number]})
    observer = watcher(served)
    observer.look()
    assert observer.serving
    request = changed(**models.records[0], came_later=models.records[0][number])
    answer = explain(observer.serving.champion, ExplainRequest.model_construct(record=request, changes=None))
    assert answer.score == models.alike(models.scores[0][0])
    assert {part.input: part.contribution for part in answer.contributions}["came_later"] == 0


def test_the_log_says_which_engine_serves_and_why(served: Settings, caplog: pytest.LogCaptureFixture) -> None:
    slow = folder(served, "2")
    (slow / COMPILED).unlink(missing_ok=True)
    edit_manifest(slow, engine={"name": "scikit-learn", "why": "a test"})
    observer = watcher(served)
    with caplog.at_level(logging.INFO):
        observer.look()
        set_route(served, champion="2")
        observer.look()
    why = json.loads((slow.with_name("1") / MANIFEST).read_text())["engine"].get("why")
    facts = [line.facts for line in caplog.records if line.message.startswith("now serving version")]  # type: ignore[attr-defined]
    assert [(line["engine"], line["engine_reason"]) for line in facts] == [
        ("compiled", None) if is_compiled(slow.with_name("1")) else ("scikit-learn", why),
        ("scikit-learn", "a test"),
    ]


def test_the_model_card_says_why_scikit_learn_serves(served: Settings) -> None:
    slow = folder(served, "1")
    (slow / COMPILED).unlink(missing_ok=True)
    edit_manifest(slow, engine={"name": "scikit-learn", "why": "a test"})
    with serve(served) as client:
        card = client.get("/model").json()
    assert (card["engine"], card["engine_reason"]) == ("scikit-learn", "a test")


def test_a_refused_challenger_does_not_touch_the_champion(
    client: httpx2.Client, served: Settings, models: Models
) -> None:
    flip_a_bit(folder(served, "2"))
    set_route(served, challenger="2", mode="canary", share=1.0)
    health = degraded(client)
    assert health["challenger"] is None
    answer = client.post("/predict", json={"record": models.records[0]}).json()
    assert (answer["version"], answer["arm"]) == ("1", "champion")


def test_a_canary_that_the_route_ended_ends_even_if_the_new_champion_is_refused(served: Settings) -> None:
    set_route(served, challenger="2", mode="canary", share=0.5)
    observer = watcher(served)
    observer.look()
    assert observer.serving
    assert observer.serving.canary
    flip_a_bit(folder(served, "3"))
    set_route(served, champion="3", previous="1", challenger=None, mode=None, share=0.0)
    observer.look()
    serving = observer.serving
    assert (serving.champion.version, serving.canary) == ("1", None)


def spoil_store(settings: Settings) -> bytes:
    """Make the database unreadable; returns what it held."""
    database = settings.home / "operations.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = database.read_bytes()
    for rest in settings.home.glob("operations.db-*"):
        rest.unlink()
    database.write_bytes(b"this is no database" * 100)
    return content


def test_with_an_unreadable_store_the_last_model_answers_and_it_recovers(served: Settings, models: Models) -> None:
    observer = watcher(served)
    observer.look()
    observer.store.engine.dispose()
    content = spoil_store(served)
    observer.look()
    assert observer.serving
    assert observer.serving.champion.version == "1"
    assert "the store cannot be read" in observer.trouble["store"]
    observer.store.engine.dispose()
    (served.home / "operations.db").write_bytes(content)
    set_route(served, champion="2")
    observer.look()
    assert (observer.serving.champion.version, observer.trouble) == ("2", {})


@pytest.mark.evidence("the registry cannot be reached")
def test_a_restart_with_an_unreadable_store_serves_the_last_known_route(served: Settings, models: Models) -> None:
    set_route(served, champion="2", challenger="3", mode="shadow")
    first = watcher(served)
    first.look()
    first.store.engine.dispose()
    spoil_store(served)
    with serve(served) as client:
        health = client.get("/readyz").json()
        assert (health["state"], health["version"], health["challenger"]) == ("degraded", "2", "3")
        assert client.post("/predict", json={"record": models.records[0]}).json()["score"] == models.scores[1][0]
        assert client.post("/outcomes", json={"id": "x", "value": 1}).status_code == 503


@pytest.mark.evidence("the registry cannot be reached")
@pytest.mark.slow
def test_nothing_of_mlflow_is_needed(start: Any, served: Settings, models: Models) -> None:
    service = start(served, tracking_uri="http://127.0.0.1:9")  # nobody answers there
    answer = httpx2.post(f"{service.url}/predict", json={"record": models.records[0]}, timeout=30)
    assert answer.json()["score"] == models.scores[0][0]


@pytest.mark.evidence("a process is killed during a promotion", "Level 2: survives a kill")
def test_a_restart_lands_on_exactly_the_version_of_the_route(served: Settings, models: Models) -> None:
    for champion in ("3", "2"):
        set_route(served, champion=champion)
        observer = watcher(served)
        observer.look()
        assert observer.serving
        assert observer.serving.champion.version == champion
        assert observer.serving.since == NOW.isoformat()


def exchange(place: Path, models: Models, kind: int) -> None:
    """Other content, whole and blessed, under the same number."""
    shutil.rmtree(place)
    shutil.copytree(models.folder / str(kind), place)


def test_other_content_under_the_number_that_serves_changes_nothing_and_is_told(
    client: httpx2.Client, served: Settings, models: Models
) -> None:
    body = {"record": models.records[0]}
    assert client.get("/readyz").json()["state"] == "ready"
    exchange(folder(served, "1"), models, 1)
    assert "its bundle on the disk is gone or another one" in degraded(client)["reasons"][0]
    set_route(served, champion="1", challenger="2")
    assert client.post("/predict", json=body).json()["score"] == models.scores[0][0]
    restarted = watcher(served)
    restarted.look()
    assert restarted.serving is None
    assert "holds another bundle" in restarted.trouble["champion"]
    exchange(folder(served, "1"), models, 0)
    eventually(lambda: client.get("/readyz").json()["state"] == "ready")


def test_a_worker_that_is_told_of_other_content_under_its_number_keeps_what_it_has(
    client: httpx2.Client, served: Settings, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is another one, or was brought back from another home's backup."""
    eventually(lambda: client.get("/readyz").json()["state"] == "ready")
    with opened(served) as store, store.engine.begin() as connection:
        connection.execute(bundles.update().values(checksum="f" * 64))
    assert "champion 1 is refused" in degraded(client)["reasons"][0]
    assert "champion 1 is refused" in caplog.text
    assert client.post("/predict", json={"record": models.records[0]}).json()["score"] == models.scores[0][0]


def test_the_prediction_log_names_version_and_checksum(client: httpx2.Client, served: Settings, models: Models) -> None:
    client.post("/predict", json={"record": models.records[0]})
    (row,) = logged_when(served, 1)
    assert (row["version"], row["checksum"]) == ("1", client.get("/model").json()["checksum"])
