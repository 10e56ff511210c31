"""The API over real HTTP: right answers, refusals that name field, rule and value, and no surprise for the server."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from level1_pipeline import problem, schema
from level1_pipeline.evaluation import data_checks
from level1_pipeline.settings import Settings
from serving.api import security
from serving.api.app import create_app
from serving.models import loaded_model
from tests.support.bundles import is_compiled
from tests.support.serving import NOW, Models, edit_manifest, eventually, known_outcomes, logged, serve, set_route

CHROMIUM = shutil.which("chromium")
NUMBER = next(column for column in schema.columns() if not column.text and column.low is not None)


@pytest.fixture(scope="module")
def shared(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """One service for all tests that only ask; its clock stands at NOW."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), clock=NOW.isoformat(), flush_seconds=0.1, rate_limit=0)
    models.publish(settings.home, "1", 0)
    set_route(settings, champion="1")
    with serve(settings) as client:
        client.settings = settings  # type: ignore[attr-defined]
        yield client


def refused(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """The body of a refusal; every one has the same shape."""
    body = answer.json()
    assert answer.status_code == status, body
    assert set(body) == {"error", "details", "request_id"}
    assert answer.headers["x-request-id"] == body["request_id"]
    assert "Traceback" not in answer.text
    return body


# ---- predict


def test_one_record_gets_one_answer_with_id_score_decision_version_and_arm(
    shared: httpx2.Client, models: Models
) -> None:
    answer = shared.post("/predict", json={"id": "a-1", "record": models.records[0]}).json()
    score = float(models.scores[0][0])
    expected = {
        "id": "a-1",
        "score": score,
        "decision": problem.choose_action(score),
        "version": "1",
        "arm": "champion",
    }
    assert answer == expected


def test_a_list_gets_a_list_in_the_same_order(shared: httpx2.Client, models: Models) -> None:
    body = [{"id": f"b-{n}", "record": record} for n, record in enumerate(models.records)]
    answer = shared.post("/predict", json=body).json()
    assert [item["id"] for item in answer] == [item["id"] for item in body]
    assert [item["score"] for item in answer] == models.alike(models.scores[0])


def test_an_id_is_made_for_whoever_brings_none(shared: httpx2.Client, models: Models) -> None:
    answer = shared.post("/predict", json=[{"record": models.records[0]}] * 2).json()
    assert len({item["id"] for item in answer}) == 2


def test_the_same_id_is_logged_once_and_answered_every_time(shared: httpx2.Client, models: Models) -> None:
    body = {"id": "again", "entity_id": "somebody", "record": models.records[3]}
    first, second = (shared.post("/predict", json=body).json() for _ in range(2))
    assert first == second

    def rows() -> list[dict[str, Any]]:
        return [row for row in logged(shared.settings) if row["id"] == "again"]  # type: ignore[attr-defined]

    row = eventually(rows)[0]
    assert len(rows()) == 1
    assert (row["entity_id"], row["version"], row["arm"], row["score"]) == ("somebody", "1", "champion", first["score"])
    assert (row["record"], row["at"], row["error"]) == (models.records[3], NOW, None)
    assert row["latency_ms"] > 0
    assert row["recorded_at"] > NOW  # wall time


def test_an_answer_says_which_request_it_belongs_to(shared: httpx2.Client, models: Models) -> None:
    body = {"record": models.records[0]}
    assert shared.post("/predict", json=body, headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    evil = shared.post("/predict", json=body, headers={"X-Request-ID": "a b<script>"}).headers["x-request-id"]
    assert len(evil) == 32


def test_without_the_guards_short_way_fastapi_gives_the_same_answers(served: Settings, models: Models) -> None:
    cases = [{"id": f"c-{n}", "entity_id": "e", "record": record} for n, record in enumerate(models.records[:5])]
    with serve(served) as guarded, serve(served, create_app(served).app) as plain:
        for body in (cases[0], cases, cases[:1]):
            answers = [client.post("/predict", json=body) for client in (guarded, plain)]
            assert [answer.status_code for answer in answers] == [200, 200]
            assert answers[0].content == answers[1].content
        refusals = [client.post("/predict", json=[{"record": {}}]).json() for client in (guarded, plain)]
        assert refusals[0]["details"] == refusals[1]["details"]


# ---- what is refused


def spoilt(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"record": {**record, **changes}}


NUMBERS: list[tuple[Any, str, str | None]] = [
    (float("nan"), "finite number", "nan"),
    (float("inf"), "finite number", "inf"),
    (float("-inf"), "finite number", "-inf"),
    ((NUMBER.high or 0) + 1, "less than or equal", None),
    ((NUMBER.low or 0) - 1, "greater than or equal", None),
    ("5", "valid number", "'5'"),
    (True, "valid number", "true"),
    ([], "valid number", "[]"),
    (10**400, "finite number", None),
]


@pytest.mark.evidence("Monitor 5", "a request is wrong or hostile")
@pytest.mark.parametrize(("value", "rule", "shown"), NUMBERS, ids=lambda value: str(value)[:20])
def test_a_bad_number_is_refused_by_field_rule_and_value(
    shared: httpx2.Client, models: Models, value: Any, rule: str, shown: str | None
) -> None:
    body = json.dumps(spoilt(models.records[0], **{NUMBER.name: value}))
    answer = shared.post("/predict", content=body, headers={"Content-Type": "application/json"})
    (detail,) = refused(answer, 422)["details"]
    assert detail["field"] == f"record.{NUMBER.name}"
    assert rule in detail["rule"]
    assert detail["value"] == (shown or detail["value"])
    assert detail["value"]


def test_a_missing_and_an_unknown_field_are_both_named(shared: httpx2.Client, models: Models) -> None:
    record = dict(models.records[0])
    del record[NUMBER.name]
    details = refused(shared.post("/predict", json=spoilt(record, height=3)), 422)["details"]
    assert {(detail["field"], detail["rule"]) for detail in details} == {
        (f"record.{NUMBER.name}", "Field required"),
        ("record.height", "Extra inputs are not permitted"),
    }


@pytest.mark.evidence("a request is wrong or hostile")
def test_in_a_list_the_bad_row_is_named_and_none_is_predicted(shared: httpx2.Client, models: Models) -> None:
    good = {"id": "not-logged", "record": models.records[0]}
    details = refused(shared.post("/predict", json=[good, good, spoilt(models.records[0], x=1)]), 422)["details"]
    assert [detail["field"] for detail in details] == ["[2].record.x"]
    shared.post("/predict", json={"id": "logged", "record": models.records[0]})
    ids = eventually(lambda: {row["id"] for row in logged(shared.settings)} & {"logged", "not-logged"})  # type: ignore[attr-defined]
    assert ids == {"logged"}


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"[]", 422, "at least 1 item"),
        (b"{", 400, "the body is not JSON"),
        (b"", 400, "the body is not JSON"),
        (b"null", 422, "should be an object"),
        (b"5", 422, "should be an object"),
        (b'"text"', 422, "should be an object"),
        (b"{}", 422, "Field required"),
        (b'{"record": null}', 422, "should be an object"),
        (b"\xff\xfe", 400, "body"),
        (b"[" * 100_000, 400, "body"),
        (b'{"id": "\\u0000", "record": {}}', 422, "pattern"),
        (b'{"id": "' + b"x" * 200 + b'", "record": {}}', 422, "pattern"),
        (b'{"\\ud800": "\\ud800"}', 400, "the body is not JSON"),
        (b"[" + b",".join([b"0"] * 400_000) + b"]", 422, "should be an object"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_is_no_case_is_refused(shared: httpx2.Client, content: bytes, status: int, message: str) -> None:
    body = refused(shared.post("/predict", content=content, headers={"Content-Type": "application/json"}), status)
    assert message in json.dumps(body)
    assert len(body["details"]) <= 20


@pytest.mark.parametrize("path", ["/predict", "/explain", "/outcomes"])
@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000], ids=["cut off", "no text", "too deep"])
def test_a_body_that_is_no_json_is_said_so_at_every_address(shared: httpx2.Client, path: str, content: bytes) -> None:
    answer = shared.post(path, content=content, headers={"Content-Type": "application/json"})
    assert refused(answer, 400)["error"] == "the body is not JSON"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_another_content_type_is_refused(shared: httpx2.Client, models: Models, kind: str) -> None:
    body = json.dumps({"record": models.records[0]}).encode()
    headers = {"Content-Type": kind} if kind else {}
    assert "application/json" in refused(shared.post("/predict", content=body, headers=headers), 415)["error"]


def test_an_unknown_address_and_another_method_are_refused_in_the_same_shape(shared: httpx2.Client) -> None:
    refused(shared.get("/nowhere"), 404)
    answer = shared.get("/predict")
    refused(answer, 405)
    assert answer.headers["allow"] == "POST"


@pytest.mark.flights
def test_an_unknown_but_legal_category_is_predicted_and_counted(served: Settings, models: Models) -> None:
    folder = served.home / "bundles" / problem.NAME / "1"
    edit_manifest(folder, categories={"dest": sorted({record["dest"] for record in models.records})})
    with serve(served) as client:
        response = client.post(
            "/predict", json=[spoilt(models.records[0], dest=dest) for dest in ("ZZZ", "QQQ", "IAH")]
        )
        assert response.status_code == 200
        assert 'mlops_unknown_categories_total{input="dest"} 2.0' in client.get("/metrics").text


# ---- properties


def values(column: schema.Column) -> st.SearchStrategy[Any]:
    if column.allowed:
        some: st.SearchStrategy[Any] = st.sampled_from(column.allowed)
    elif column.text:
        some = st.from_regex(str(column.pattern), fullmatch=True)
    else:
        some = st.floats(column.low, column.high, allow_nan=False, allow_infinity=False)
    return st.none() | some if column.nullable else some


VALID = st.fixed_dictionaries({column.name: values(column) for column in schema.columns()})


@st.composite
def invalid(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A record with exactly one broken rule, and the field that breaks it."""
    record, column = draw(VALID), draw(st.sampled_from(schema.columns()))
    wrong: list[Any] = [["list"], {"a": 1}]
    if column.text:
        wrong += ["", "not a code !", 7.0]
    else:
        wrong += ["text", (column.high or 0) + 1 if column.high is not None else "x", (column.low or 0) - 1.0]
    if not column.nullable:
        wrong.append(None)
    return column.name, {**record, column.name: draw(st.sampled_from(wrong))}


FEW = examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@FEW
@given(record=VALID)
def test_any_valid_record_gets_a_probability(shared: httpx2.Client, record: dict[str, Any]) -> None:
    answer = shared.post("/predict", json={"record": record})
    assert answer.status_code == 200, answer.text
    score = answer.json()["score"]
    assert 0 <= score <= 1 if problem.TASK == "classification" else math.isfinite(score)
    assert answer.json()["decision"] == problem.choose_action(score)


@pytest.mark.evidence("Data 1", "Monitor 2")
@FEW
@given(spoilt=invalid())
def test_any_invalid_record_is_refused_and_the_field_is_named(
    shared: httpx2.Client, spoilt: tuple[str, dict[str, Any]]
) -> None:
    name, record = spoilt
    details = refused(shared.post("/predict", json={"record": record}), 422)["details"]
    assert {detail["field"].removeprefix("record.").split(".")[0] for detail in details} == {name}


@pytest.mark.evidence("Data 1")
@pytest.mark.slow
def test_what_the_api_refuses_the_data_checks_refuse_too(shared: httpx2.Client, rows: pd.DataFrame) -> None:
    table = rows.head(300).copy()
    good = schema.records(table.head(1))[0]
    assert not data_checks.check(table, table)[0]
    for column in schema.columns():
        wrong = "not a code !" if column.text else (column.high or 0) + 1
        refused(shared.post("/predict", json={"record": {**good, column.name: wrong}}), 422)
        table[column.name] = wrong
    broken = str(data_checks.check(table, table)[0])
    assert [name for name in schema.names() if name not in broken] == []


# ---- explain


@pytest.mark.evidence("Infra 5", "Checklist 19")
def test_contributions_are_what_replacing_an_input_by_its_typical_value_changes(
    shared: httpx2.Client, models: Models
) -> None:
    record = models.records[0]
    answer = shared.post("/explain", json={"record": record}).json()
    assert answer["score"] == models.alike(models.scores[0][0])
    assert answer["what_if"] is None
    assert {contribution["input"] for contribution in answer["contributions"]} == set(schema.names())
    sizes = [abs(contribution["contribution"]) for contribution in answer["contributions"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    for contribution in answer["contributions"][:3]:
        replaced = {"record": {**record, contribution["input"]: contribution["typical"]}}
        other = shared.post("/predict", json=replaced).json()["score"]
        assert contribution["score_if_typical"] == models.alike(np.float64(other))
        assert contribution["contribution"] == models.alike(np.float64(answer["score"] - other))


@pytest.mark.evidence("Checklist 19")
def test_what_if_answers_with_the_changed_record_side_by_side(shared: httpx2.Client, models: Models) -> None:
    record, changes = models.records[0], {NUMBER.name: NUMBER.high}
    answer = shared.post("/explain", json={"record": record, "changes": changes}).json()
    what_if = answer["what_if"]
    assert what_if["record"] == {**record, **changes}
    expected = shared.post("/predict", json={"record": what_if["record"]}).json()
    assert what_if["score"] == models.alike(np.float64(expected["score"]))
    assert what_if["decision"] == expected["decision"]
    assert what_if["difference"] == what_if["score"] - answer["score"]


def test_a_change_that_breaks_a_rule_is_refused_and_named(shared: httpx2.Client, models: Models) -> None:
    bad = {"record": models.records[0], "changes": {NUMBER.name: (NUMBER.high or 0) + 1, "height": 1}}
    details = refused(shared.post("/explain", json=bad), 422)["details"]
    assert {detail["field"] for detail in details} == {f"changes.{NUMBER.name}", "changes.height"}


class Silent:
    """Stands in for a bundle whose model says no number from some record on."""

    def __init__(self, *, after: int):
        self.scorer, self.after = None, after

    def predict(self, records: list[dict[str, Any]]) -> np.ndarray:
        return np.array([0.25 if place < self.after else np.nan for place in range(len(records))])


@pytest.mark.parametrize("after", [0, 1, 1 + len(schema.names())], ids=["record", "an input's typical value", "change"])
def test_what_is_no_number_is_not_explained(
    served: Settings, models: Models, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    body = {"record": models.records[0], "changes": {NUMBER.name: NUMBER.high}}
    with serve(served.changed({"watch_seconds": 3600.0})) as client, caplog.at_level(logging.ERROR):
        hot_swap = client.app.service.hot_swap  # type: ignore[attr-defined]
        silent = dataclasses.replace(hot_swap.serving.champion, bundle=Silent(after=after))
        hot_swap.serving = dataclasses.replace(hot_swap.serving, champion=silent)
        assert "the model gave no number" in refused(client.post("/explain", json=body), 500)["error"]
    assert "version 1 gave [" in caplog.text


@pytest.mark.parametrize(
    ("values", "typical"),
    [
        ([1.0, 9.0, 2.0], 2.0),
        ([1.0, None, 2.0, 4.0], 2.0),
        ([1.0, None, None, None], None),  # mostly missing: that is what is typical
        (["a", "b", "b"], "b"),
        ([None, None], None),
    ],
)
def test_the_typical_value_is_the_median_or_the_most_frequent_one(values: list[Any], typical: Any) -> None:
    assert loaded_model._typical(values) == typical


def test_a_bundle_that_says_what_is_typical_is_believed(served: Settings, models: Models) -> None:
    typical = {**models.records[5], NUMBER.name: NUMBER.low}
    edit_manifest(served.home / "bundles" / problem.NAME / "1", typical=typical)
    with serve(served) as client:
        answer = client.post("/explain", json={"record": models.records[0]}).json()
    assert {contribution["input"]: contribution["typical"] for contribution in answer["contributions"]} == typical


# ---- outcomes


def test_outcomes_are_ingested_and_unknown_ids_are_reported(shared: httpx2.Client, models: Models) -> None:
    shared.post("/predict", json={"id": "o-1", "record": models.records[0]})
    eventually(lambda: any(row["id"] == "o-1" for row in logged(shared.settings)))  # type: ignore[attr-defined]
    answer = shared.post("/outcomes", json=[{"id": "o-1", "value": 1}, {"id": "o-nobody", "value": 0}]).json()
    assert answer == {"new": 2, "unchanged": 0, "corrected": 0, "unknown": ["o-nobody"]}
    assert shared.post("/outcomes", json={"id": "o-1", "value": 1}).json()["unchanged"] == 1
    assert known_outcomes(shared.settings)["o-1"]["known_at"] == NOW  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("outcome", "field"),
    [
        ({"id": "o", "value": 1, "known_at": "2013-03-01T00:00:00"}, "known_at"),
        ({"id": "o", "value": None}, "value"),
        ({"id": "o", "value": True}, "value"),
        ({"id": "o", "value": False}, "value"),
        ({"id": "o", "value": "1"}, "value"),
        ({"id": "o", "value": float("nan")}, "value"),
        ({"id": "", "value": 1}, "id"),
        ({"value": 1}, "id"),
        ({"id": "o", "value": 1, "x": 2}, "x"),
    ],
    ids=str,
)
def test_a_bad_outcome_is_refused_and_named(shared: httpx2.Client, outcome: dict[str, Any], field: str) -> None:
    answer = shared.post("/outcomes", content=json.dumps(outcome), headers={"Content-Type": "application/json"})
    assert [detail["field"] for detail in refused(answer, 422)["details"]] == [field]
    assert "o" not in known_outcomes(shared.settings)  # type: ignore[attr-defined]


def test_an_outcome_may_be_written_as_a_whole_number_or_with_a_point(shared: httpx2.Client) -> None:
    body = [{"id": "w-1", "value": 1}, {"id": "w-2", "value": 1.0}]
    assert shared.post("/outcomes", json=body).json()["new"] == 2
    seen_before = known_outcomes(shared.settings)  # type: ignore[attr-defined]
    assert (seen_before["w-1"]["value"], seen_before["w-2"]["value"]) == (1.0, 1.0)


@pytest.mark.evidence("clocks change, or a stamp is wrong")
@pytest.mark.parametrize(
    "when", [(NOW + timedelta(seconds=1)).isoformat(), "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"]
)
def test_an_outcome_from_the_future_of_the_clock_is_refused_with_all_of_its_request(
    shared: httpx2.Client, when: str
) -> None:
    body = [{"id": "o", "value": 1, "known_at": NOW.isoformat()}, {"id": "p", "value": 1, "known_at": when}]
    (detail,) = refused(shared.post("/outcomes", json=body), 409)["details"]
    assert detail["field"] == "[1].known_at"
    assert NOW.isoformat() in detail["rule"]
    assert not known_outcomes(shared.settings).keys() & {"o", "p"}  # type: ignore[attr-defined]


# ---- what is served, probes, docs


def test_the_model_is_traceable_to_its_data_and_code(shared: httpx2.Client, models: Models) -> None:
    card = shared.get("/model").json()
    assert (card["problem"], card["version"], card["data_digest"], card["code_revision"]) == (
        problem.NAME,
        "1",
        "digest 0",
        "abc",
    )
    assert card["trained_from"] < card["trained_until"]
    assert card["since"] == NOW.isoformat()
    assert len(card["checksum"]) == 64
    assert card["metrics"]
    compiled = is_compiled(models.folder / "0")
    assert card["engine"] == ("compiled" if compiled else "scikit-learn")
    assert (card["engine_reason"] is None) == compiled


def test_the_probes_say_alive_and_ready(shared: httpx2.Client) -> None:
    assert shared.get("/livez").json() == {"state": "alive"}
    ready = shared.get("/readyz")
    assert (ready.status_code, ready.json()["state"], ready.json()["version"]) == (200, "ready", "1")


def test_the_metrics_count_requests_and_scores_by_version_and_arm(shared: httpx2.Client, models: Models) -> None:
    def number(name: str) -> float:
        page = shared.get("/metrics").text
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    scored, answered = 'mlops_score_count{arm="champion",version="1"}', 'mlops_requests_total{method="POST",path="/pre'
    before = number(scored), number(answered)
    shared.post("/predict", json=[{"record": record} for record in models.records[:7]])
    assert (number(scored), number(answered)) == (before[0] + 7, before[1] + 1)
    until = datetime.fromisoformat(shared.get("/model").json()["trained_until"])
    assert number("mlops_model_age_seconds") == (NOW - until).total_seconds()
    assert number('mlops_workers{arm="champion",version="1"}') == 1


def test_the_api_documents_itself_without_anything_from_elsewhere(shared: httpx2.Client) -> None:
    page = shared.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon.png"):
        assert f"./docs/{name}" in page.text
        assert shared.get(f"/docs/{name}").status_code == 200
    about = shared.get("/openapi.json").json()
    assert problem.NAME in about["info"]["title"]
    assert about["info"]["description"].startswith((problem.__doc__ or "").partition("\n")[0])
    assert "cloner" not in about["info"]["description"].lower()
    paths = about["paths"]
    assert {"/predict", "/explain", "/outcomes", "/model", "/livez", "/readyz", "/metrics"} == set(paths)


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine to open the page in")
@pytest.mark.slow
def test_the_page_of_the_api_works_in_a_browser_and_asks_nobody_else(shared: httpx2.Client) -> None:
    from playwright.sync_api import sync_playwright

    requests, problems = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(str(shared.base_url.join("/docs")))
        box = page.locator(".opblock", has_text="/predict").first
        box.locator("button").first.click()
        box.get_by_role("button", name="Try it out").click()
        box.get_by_role("button", name="Execute").click()
        status = box.locator(".live-responses-table .response .response-col_status")
        status.wait_for()
        answer = status.inner_text()
        browser.close()
    assert answer == "200"  # the example that the page makes up is a valid one
    assert problems == []
    assert {httpx2.URL(url).netloc for url in requests} == {shared.base_url.netloc}


@pytest.mark.evidence("a request is wrong or hostile")
@pytest.mark.slow
def test_schemathesis_finds_no_request_that_breaks_the_contract(served: Settings) -> None:
    key, fingerprint = security.new_key()
    keys = {"predict_key_hash": fingerprint, "admin_key_hash": fingerprint, "rate_limit": 0.0}
    headers = {"Authorization": f"Bearer {key}"}
    request: dict[str, set[int]] = {}
    with serve(served.changed(keys)) as client:
        api = schemathesis.openapi.from_url(str(client.base_url.join("/openapi.json")))
        for result in api.get_all_operations():
            operation = result.ok()  # type: ignore[union-attr]
            good, bad = (operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)

            @given(case=good | bad)
            @examples(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            def ask(case: schemathesis.Case[Any]) -> None:
                answer = case.call_and_validate(headers=headers)
                request.setdefault(case.path, set()).add(answer.status_code)

            ask()
        assert client.get("/readyz").json()["state"] == "ready"
    for path in ("/predict", "/explain", "/outcomes"):  # or nothing was tried
        assert 200 in request[path]
        assert request[path] & {400, 409, 422}
    assert 422 in set().union(*request.values())
