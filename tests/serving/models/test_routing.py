"""Two arms: a shadow that nobody notices, and a canary that is the same for the same entity everywhere."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from level1_pipeline.settings import Settings
from level1_pipeline.store.routes import Route
from serving.errors import Refusal
from serving.models import routing
from serving.models.loaded_model import Model, load
from serving.models.routing import Case, Serving, in_canary
from serving.schemas import PredictRequest
from serving.service.service import Service
from serving.service.shadow import Shadow
from serving.telemetry.metrics import Metrics
from tests.support.serving import NOW, Models, eventually, logged, logged_when, serve, set_route

ENTITIES = [f"entity {number}" for number in range(4000)]


def canary(share: float, challenger: str = "2") -> Route:
    return Route("1", challenger, "canary", share)


class Stub:
    """Stands in for a bundle: says one number, or fails."""

    scorer = None  # as slow as scikit-learn

    def __init__(self, says: Any, seconds: float = 0):
        self.says, self.seconds, self.calls = says, seconds, 0

    def predict(self, records: list[dict[str, Any]]) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        if isinstance(self.says, Exception):
            raise self.says
        return np.array([self.says(record) if callable(self.says) else self.says for record in records])


def model(says: Any, version: str = "2", seconds: float = 0) -> Any:
    return Model(version, Stub(says, seconds), "checksum", {}, {})  # type: ignore[arg-type]


def asked(count: int = 4) -> list[Case]:
    return [Case(f"id {n}", f"entity {n}", {"x": n}, NOW) for n in range(count)]


@pytest.fixture
def unwatched(served: Settings) -> Iterator[httpx2.Client]:
    """A service that goes on with what a test puts into its place."""
    with serve(served.changed({"watch_seconds": 3600.0})) as item:
        yield item


# ---- canary


@pytest.mark.evidence("Checklist 17")
@pytest.mark.parametrize("share", [0.0, 0.05, 0.25, 0.5, 1.0])
def test_the_canary_gets_its_share_of_the_entities(share: float) -> None:
    result = sum(in_canary(canary(share), entity) for entity in ENTITIES) / len(ENTITIES)
    assert abs(result - share) < 0.025
    assert (result == share) or 0 < share < 1


def test_who_was_in_the_canary_stays_in_it_as_the_share_grows() -> None:
    small, large = ({entity for entity in ENTITIES if in_canary(canary(share), entity)} for share in (0.05, 0.25))
    assert small < large


def test_another_challenger_is_tried_on_other_entities() -> None:
    first, second = ({entity for entity in ENTITIES if in_canary(canary(0.25, name), entity)} for name in ("2", "3"))
    assert len(first & second) < 0.4 * len(first)


def test_an_arm_does_not_depend_on_the_process() -> None:
    """Python's own hash would: it is salted anew in each process."""
    for entity in ENTITIES[:50]:
        first_byte = hashlib.sha256(f"2:{entity}".encode()).digest()[0]
        assert in_canary(canary(0.5), entity) == (first_byte < 128)


def test_in_a_canary_each_entity_is_answered_by_its_arm_and_says_so(
    client: httpx2.Client, served: Settings, models: Models
) -> None:
    set_route(served, challenger="2", mode="canary", share=0.5)
    eventually(lambda: client.get("/readyz").json()["challenger"] == "2")
    body = [{"id": f"c-{n:03}", "entity_id": f"e-{n}", "record": item} for n, item in enumerate(models.records)]
    answer = client.post("/predict", json=body).json()
    for n, item in enumerate(answer):
        inside = in_canary(canary(0.5), f"e-{n}")
        expected = ("canary", "2") if inside else ("champion", "1")
        assert (item["arm"], item["version"]) == expected
        assert item["score"] == models.alike(models.scores[int(inside)][n])
    assert {item["arm"] for item in answer} == {"canary", "champion"}
    again = client.post("/predict", json=body[::-1]).json()[::-1]  # sticky
    assert [{**item, "score": None} for item in again] == [{**item, "score": None} for item in answer]
    assert [item["score"] for item in again] == models.alike(np.array([item["score"] for item in answer]))
    rows = logged_when(served, len(body))
    assert [(row["id"], row["arm"], row["version"]) for row in rows] == [
        (item["id"], item["arm"], item["version"]) for item in answer
    ]


@pytest.mark.evidence("Infra 6", "Monitor 5")
@pytest.mark.parametrize("says", [RuntimeError("broken"), float("nan"), float("inf")], ids=str)
def test_where_the_canary_fails_the_champion_answers_and_the_failure_is_kept(says: Any) -> None:
    serving = Serving(canary(1.0), model(0.25, "1"), model(says))
    failed, answer = routing.answer(serving, cases := asked())
    assert (answer.arm, answer.model.version, list(answer)) == ("champion", "1", [(case, 0.25) for case in cases])
    assert (failed.arm, failed.model.version, list(failed)) == ("canary", "2", [(case, None) for case in cases])
    assert failed.error


def test_a_canary_that_fails_for_one_row_answers_the_others() -> None:
    serving = Serving(canary(1.0), model(0.25, "1"), model(lambda record: np.nan if record["x"] == 2 else 0.75))
    tried, answer = routing.answer(serving, cases := asked())
    assert (tried.arm, tried.scores) == ("canary", [0.75, 0.75, None, 0.75])
    assert (answer.arm, list(answer)) == ("champion", [(cases[2], 0.25)])


@pytest.mark.parametrize(
    ("says", "why"),
    [(RuntimeError("broken"), "RuntimeError: broken"), (float("nan"), "the score is not a finite number")],
    ids=str,
)
def test_a_champion_that_fails_answers_500_and_is_logged_until_the_next_try_gets_an_answer(
    unwatched: httpx2.Client, served: Settings, records: list[dict[str, Any]], says: Any, why: str
) -> None:
    client, hot_swap = unwatched, unwatched.app.service.hot_swap  # type: ignore[attr-defined]
    hot_swap.serving = Serving(Route("2"), model(says, "2"))
    for name in ("a", "b", "c"):
        answer = client.post("/predict", json={"id": name, "record": records[0]})
        assert (answer.status_code, "no number" in answer.json()["error"]) == (500, True)
    rows = logged_when(served, 3)
    assert {(row["arm"], row["version"], row["score"], row["error"]) for row in rows} == {("champion", "2", None, why)}
    hot_swap.serving = Serving(Route("1"), model(0.5, "1"))
    assert client.post("/predict", json={"id": "b", "record": records[1]}).status_code == 200
    rows = eventually(lambda: [row for row in logged(served) if row["score"] is not None])
    assert [(row["id"], row["version"], row["error"], row["record"]) for row in rows] == [("b", "1", None, records[1])]
    assert len(logged(served)) == 3


def test_the_canarys_answer_is_logged_although_both_arms_failed_at_the_first_try(
    served: Settings, records: list[dict[str, Any]]
) -> None:
    service, broken = Service(served), RuntimeError("broken")  # its threads never run
    case = PredictRequest(id="again", record=records[0])
    service.hot_swap.serving = Serving(canary(1.0), model(broken, "1"), model(broken))
    with pytest.raises(Refusal, match="no number for again"):
        service.predict([case])
    service.hot_swap.serving = Serving(canary(1.0), model(broken, "1"), model(0.75))
    assert [(item["arm"], item["score"]) for item in service.predict([case])] == [("canary", 0.75)]
    service.stop()
    assert [(row["arm"], row["score"]) for row in logged(served)] == [("canary", 0.75), ("champion", None)]


# ---- shadow


def test_the_shadow_sees_everything_and_is_never_returned(
    client: httpx2.Client, served: Settings, models: Models
) -> None:
    set_route(served, challenger="2", mode="shadow")
    eventually(lambda: client.get("/readyz").json()["challenger"] == "2")
    for n, record in enumerate(models.records[:30]):
        answer = client.post("/predict", json={"id": f"s-{n:02}", "record": record}).json()
        assert (answer["arm"], answer["version"]) == ("champion", "1")
        assert answer["score"] == models.alike(models.scores[0][n])
    rows = logged_when(served, 60)
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in ("champion", "shadow")}
    for kind, (arm, version) in enumerate((("champion", "1"), ("shadow", "2"))):
        assert [row["id"] for row in by_arm[arm]] == [f"s-{n:02}" for n in range(30)]
        assert {row["version"] for row in by_arm[arm]} == {version}
        assert [row["score"] for row in by_arm[arm]] == models.alike(models.scores[kind][:30])
    assert [row["at"] for row in by_arm["shadow"]] == [row["at"] for row in by_arm["champion"]]


def test_a_failing_shadow_neither_fails_nor_slows_an_answer(
    unwatched: httpx2.Client, served: Settings, records: list[dict[str, Any]]
) -> None:
    client, hot_swap = unwatched, unwatched.app.service.hot_swap  # type: ignore[attr-defined]
    champion = load(served, "1")
    route = Route("1", "2", "shadow")

    def seconds(count: int = 20) -> float:
        took = []
        for _ in range(count):
            started = time.perf_counter()
            assert client.post("/predict", json={"record": records[0]}).status_code == 200
            took.append(time.perf_counter() - started)
        return float(np.median(took))

    seconds(5)
    alone = seconds()
    hot_swap.serving = Serving(route, champion, model(RuntimeError("broken"), seconds=0.1))
    assert seconds() < 1.5 * alone + 0.005
    rows = eventually(lambda: [row for row in logged(served) if row["arm"] == "shadow"])
    assert {(row["score"], row["error"]) for row in rows} == {(None, "RuntimeError: broken")}


def test_one_record_that_breaks_the_shadow_spoils_no_other() -> None:
    def says(record: dict[str, Any]) -> float:
        if record["x"] == 2:
            raise ValueError("not this one")
        return 0.5

    heard: list[routing.Scored] = []
    shadow = Shadow(100, Metrics(), heard.extend)
    shadow.add(model(says), asked(5))
    shadow.finish()
    assert [score for item in heard for _, score in item] == [0.5, 0.5, None, 0.5, 0.5]


def test_copies_that_find_the_queue_full_are_dropped_and_counted() -> None:
    heard: list[routing.Scored] = []
    metrics = Metrics()
    shadow = Shadow(3, metrics, heard.extend)
    shadow.add(model(0.5), asked(2))
    shadow.add(model(0.5, "3"), asked(4))
    shadow.finish()
    result = [(case.id, item.model.version) for item in heard for case, _ in item]
    assert result == [("id 0", "2"), ("id 1", "2"), ("id 0", "3")]
    assert b"mlops_shadow_dropped_total 3.0" in metrics.page()


def test_a_slow_challenger_does_not_hold_up_a_stop() -> None:
    metrics = Metrics()
    shadow = Shadow(100, metrics, lambda _: None)
    shadow.add(model(0.5), asked(3))
    shadow.finish(seconds=0)
    assert b"mlops_shadow_dropped_total 3.0" in metrics.page()
    assert not shadow._waiting


def test_a_clean_stop_scores_the_copies_that_wait(served: Settings, models: Models) -> None:
    set_route(served, challenger="2", mode="shadow")
    service = Service(served)
    service.hot_swap.look()  # its threads never run
    service.predict([PredictRequest(id=f"{n}", record=item) for n, item in enumerate(models.records[:100])])
    assert logged(served) == []
    service.stop()
    assert sorted(row["arm"] for row in logged(served)) == ["champion"] * 100 + ["shadow"] * 100
