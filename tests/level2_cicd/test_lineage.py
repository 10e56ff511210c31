"""From one served prediction back to everything that made it, and the number once more."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level2_cicd.cli import main
from level2_cicd.lineage import Trace, trace
from level2_cicd.rollout.cli import NOT_PASSED
from tests.support.prediction_log import log_predictions
from tests.support.serving import NOW, Models, edit_manifest, logged, logged_when, opened, serve, set_route


@pytest.fixture
def logged_home(home: Settings, models: Models) -> Settings:
    """One case, answered by the champion over HTTP while version 2 got a copy; the outcome came later."""
    settings = home.changed({"watch_seconds": 0.1, "flush_seconds": 0.1})
    for version, kind in (("1", 0), ("2", 1)):
        edit_manifest(models.publish(home.home, version, kind), lock_digest="the lock", judged_version="0")
    set_route(settings, champion="1")
    set_route(settings, challenger="2", mode="shadow")
    with serve(settings) as client:
        case = {"id": "case-1", "entity_id": "UA1", "record": models.records[7]}
        answer = client.post("/predict", json=case).json()
        assert answer["score"] == models.scores[0][7]
        assert client.post("/outcomes", json={"id": "case-1", "value": 1}).json()["new"] == 1
        logged_when(settings, 2)
    return settings


@pytest.mark.evidence("Infra 5", "Checklist 16", "Level 2: traced back")
def test_a_served_prediction_leads_to_request_model_rollout_run_code_and_data(
    logged_home: Settings, models: Models
) -> None:
    served, copy = trace(logged_home, "case-1")
    lines = dict(served.lines)
    assert (served.arm, copy.arm) == ("champion", "shadow")
    assert served.record == models.records[7]
    assert lines["version"] == "1"
    assert lines["training run"] == "a run"
    assert lines["code revision"] == "abc"
    assert lines["lock digest"] == "the lock"
    assert lines["data digest"] == "digest 0"
    assert "3,000 rows" in lines["data window"]
    assert lines["training rows"].startswith("not kept")
    assert lines["gate's verdict"].startswith("pass, judged as version 0")
    assert lines["outcome"].startswith("1, known at")
    assert lines["rollout step"].startswith("champion, since 2013-04-01")
    assert dict(copy.lines)["rollout step"].startswith("shadow, share 0%")


@pytest.mark.evidence("Infra 5", "Level 2: traced back")
def test_the_number_is_reproduced_bit_for_bit(logged_home: Settings, models: Models) -> None:
    served, copy = trace(logged_home, "case-1")
    assert served.reproduced
    assert copy.reproduced
    assert served.again == models.scores[0][7]
    assert copy.again == models.scores[1][7]
    assert not np.array_equal(models.scores[0][7], models.scores[1][7])


def test_a_bundle_that_was_exchanged_is_noticed(logged_home: Settings, models: Models) -> None:
    folder = logged_home.home / "bundles" / problem.NAME / "1"
    folder.rename(folder.with_name("away"))
    models.publish(logged_home.home, "1", 2)
    served = trace(logged_home, "case-1")[0]
    assert not served.reproduced
    assert dict(served.lines)["re-scoring"] == "NOT reproduced"
    assert "holds another bundle" in served.facts["bundle"]
    assert served.facts["bundle checksum"] == logged(logged_home)[0]["checksum"]


def log(settings: Settings, arm: str, version: str, score: float | None, record: dict[str, Any]) -> None:
    """A line of the prediction log about `case-2`."""
    error = None if score else "ValueError: planted"
    line = {"id": "case-2", "arm": arm, "version": version, "score": score, "error": error, "record": record}
    with opened(settings) as store:
        log_predictions(store, [line | {"at": NOW + timedelta(hours=1)}])


def test_where_the_canary_failed_the_champions_answer_is_traced_and_the_try_is_told_after_it(
    logged_home: Settings, models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log(logged_home, "canary", "2", None, models.records[7])
    log(logged_home, "champion", "1", models.scores[0][7], models.records[7])
    served, tried = trace(logged_home, "case-2")
    assert (served.arm, served.version, served.reproduced) == ("champion", "1", True)
    lines = dict(tried.lines)
    assert lines["prediction"].startswith("case-2, tried by the canary")
    assert (lines["score"], lines["error"]) == ("failed", "ValueError: planted")
    assert lines["re-scoring"] == "failed, nothing to reproduce"
    monkeypatch.setenv("MLOPS_HOME", str(logged_home.home))
    assert main(["trace", "case-2"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == f"trace | {problem.NAME} | case-2 | version 1 | reproduced bit for bit"
    )


def test_a_request_that_nobody_could_answer_is_not_called_reproduced_whatever_the_shadow_said(
    logged_home: Settings, models: Models, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log(logged_home, "champion", "1", None, models.records[7])
    log(logged_home, "shadow", "2", models.scores[1][7], models.records[7])
    assert [line.reproduced for line in trace(logged_home, "case-2")] == [False, True]
    monkeypatch.setenv("MLOPS_HOME", str(logged_home.home))
    assert main(["trace", "case-2"]) == NOT_PASSED
    assert capsys.readouterr().out.strip().endswith("| case-2 | version 1 | failed, nothing to reproduce")


@pytest.mark.parametrize(("damaged", "code"), [("2", 0), ("1", NOT_PASSED)])
def test_a_damaged_bundle_spoils_only_the_answers_of_its_own_version(
    logged_home: Settings, damaged: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (logged_home.home / "bundles" / problem.NAME / damaged / "model.skops").write_bytes(b"x")
    result = {answer.version: answer for answer in trace(logged_home, "case-1")}
    spoilt, whole = result.pop(damaged), *result.values()
    assert whole.reproduced
    assert not spoilt.reproduced
    lines = dict(spoilt.lines)
    assert lines["re-scoring"] == "NOT reproduced"
    assert lines["bundle"].startswith("refused: model.skops in")
    assert lines["outcome"].startswith("1, known at")
    assert "since 2013-04-01" in lines["rollout step"]
    monkeypatch.setenv("MLOPS_HOME", str(logged_home.home))
    assert main(["trace", "case-1"]) == code
    assert "version 1 | " + ("NOT reproduced" if code else "reproduced") in capsys.readouterr().out


def test_the_command_prints_the_chain_and_its_last_line_says_whether_it_holds(
    logged_home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(logged_home.home))
    assert main(["trace", "case-1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"trace | {problem.NAME} | case-1 | version 1 | reproduced bit for bit"
    assert len(printed) > 20
    assert main(["trace", "nobody"]) == 1
    assert "no prediction 'nobody' is in the log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("compiled", "off", "reproduced", "told"),
    [
        (True, 0.0, True, "reproduced bit for bit"),
        (True, 2e-16, False, "NOT reproduced"),
        (False, 0.0, True, "reproduced bit for bit"),
        (False, 2e-16, True, "reproduced within 1e-12, which is what scikit-learn allows a row alone"),
        (False, 1e-9, False, "NOT reproduced"),
    ],
)
def test_the_last_bits_may_differ_where_scikit_learn_scores_and_nowhere_else(
    compiled: bool, off: float, reproduced: bool, told: str
) -> None:
    seen = Trace("a", "champion", "1", NOW, 0.3, 0.3 + off, compiled, {}, {})
    assert (seen.reproduced, seen.check) == (reproduced, told)
