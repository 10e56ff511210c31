"""The example with several classes, as its users see it: trained, served, told what happened, traced, and scored in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_new_project import call, new

TEAMS = ["billing", "sales", "technical"]
SCRIPT = """
import json, sys, warnings

warnings.simplefilter("ignore")
from starlette.testclient import TestClient

from level1_pipeline import problem, schema
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings
from serving.api.app import create_app

settings = Settings(home=".mlops", actor="tester").prepare()
rows = source.load(settings).tail(20)
rows.to_parquet("asked.parquet")
records, said = schema.records(rows), {}
with TestClient(create_app(settings), client=("127.0.0.1", 1), base_url="http://127.0.0.1") as client:
    ask = lambda path, body: client.post(path, json=body).json()
    said["answers"] = ask("/predict", [{"record": one, "id": i} for one, i in zip(records, rows[problem.ID])])
    said["explained"] = ask("/explain", {"record": records[0], "changes": {"invoices": 9}})
    said["kept"] = ask("/outcomes", {"id": rows[problem.ID].iloc[0], "value": "sales"})
    said["refused"] = ask("/outcomes", {"id": "another", "value": "legal"})
    said["schema"] = client.get("/openapi.json").json()["components"]["schemas"]["Prediction"]["properties"]["score"]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made of the example, with a champion."""
    folder = tmp_path_factory.mktemp("classes") / "tickets"
    assert new("tickets", "examples/several_classes", folder).returncode == 0
    told = call(folder, "level1_pipeline", "train", "--as-of", "demo")
    assert "gate PASS | models:/tickets/1 -> champion" in told
    (folder / "ask.py").write_text(SCRIPT)
    return folder


@pytest.fixture(scope="module")
def said(project: Path) -> Any:
    return json.loads(call(project, "ask").splitlines()[-1])


@pytest.mark.slow
@pytest.mark.integration
def test_the_service_answers_with_the_probability_of_each_class(said: Any) -> None:
    for answer in said["answers"]:
        assert list(answer["score"]) == TEAMS
        assert sum(answer["score"].values()) == pytest.approx(1.0)
        likeliest = max(answer["score"], key=answer["score"].__getitem__)
        assert answer["decision"] in (f"send to {likeliest}", "let a person read it")
    assert said["schema"]["additionalProperties"] == {"type": "number"}
    explained = said["explained"]
    assert explained["score"] == said["answers"][0]["score"], "the same bits alone as in a list"
    assert all(list(part["contribution"]) == TEAMS for part in explained["contributions"])
    assert explained["what_if"]["difference"]["billing"] > 0, "more invoices"


@pytest.mark.slow
@pytest.mark.integration
def test_outcomes_name_the_class_and_a_trace_names_it_again(project: Path, said: Any) -> None:
    assert (said["kept"]["new"], said["kept"]["unknown"]) == (1, [said["answers"][0]["id"]])
    assert said["refused"]["details"][0]["rule"] == "Input should be 'billing', 'sales' or 'technical'"
    traced = call(project, "level2_cicd", "trace", said["answers"][0]["id"])
    assert traced.splitlines()[-1].endswith("| version 1 | reproduced bit for bit")
    assert "outcome          sales, known at" in traced
    assert f"{said['answers'][0]['score']} -> {said['answers'][0]['decision']}" in " ".join(traced.split())


@pytest.mark.slow
@pytest.mark.integration
def test_a_file_of_scores_has_the_numbers_of_the_service(project: Path, said: Any) -> None:
    call(project, "serving", "batch", "--input", "asked.parquet", "--output", "scored")
    read = "import pandas; print(pandas.read_parquet('scored/scores').to_json(orient='records', double_precision=15))"
    (project / "read.py").write_text(read)
    for row, answer in zip(json.loads(call(project, "read")), said["answers"], strict=True):
        assert [row[f"score {name}"] for name in TEAMS] == pytest.approx(list(answer["score"].values()), abs=1e-14)
        assert row["decision"] == answer["decision"]
