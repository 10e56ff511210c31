"""problem.py is changed under the same NAME while an older champion serves: what goes on, and what a person may do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ORDERS = (ROOT / "tests/problems/orders.py").read_text()
END = "    return rows.reset_index(drop=True)"
PRICE = "    price: float = Field(ge=0, le=1000)\n"
CHANGES = {
    "as it is": {},
    "removed": {PRICE: "", END: '    return rows.drop(columns="price").reset_index(drop=True)'},
    "renamed": {
        PRICE: "    cost: float = Field(ge=0, le=1000)\n",
        END: '    return rows.rename(columns={"price": "cost"}).reset_index(drop=True)',
    },
    "retyped": {
        PRICE: '    price: Literal["cheap", "dear"]\n',
        END: '    dear = rows["price"].gt(50).map({True: "dear", False: "cheap"}).astype("str")\n'
        "    return rows.assign(price=dear).reset_index(drop=True)",
    },
    "added": {
        PRICE: PRICE + "    weight: float | None = Field(ge=0)\n",
        END: '    return rows.assign(weight=rows["items"] * 2.0).reset_index(drop=True)',
    },
    "task": {
        'regression"] = "classification"': 'regression"] = "regression"',
        "import HistGradientBoostingClassifier": "import HistGradientBoostingRegressor",
        "= HistGradientBoostingClassifier": "= HistGradientBoostingRegressor",
        '{"log_loss": (None, 0.69), "roc_auc": (0.55, 0.98)}': '{"rmse": (None, 5.0)}',
        'PRIMARY_METRIC = "log_loss"': 'PRIMARY_METRIC = "rmse"',
        "    both = 0 < ": '    return {"rmse": float(((y - p) ** 2).mean() ** 0.5)}\n    both = 0 < ',
    },
}
SCRIPT = """
import json, sys

from starlette.testclient import TestClient

from level1_pipeline import problem, schema
from level1_pipeline.inputs import source
from level1_pipeline.orchestration.run import Request, run_training
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import start_of
from monitoring.cli import main
from serving.api.app import create_app
from serving.service.service import Service

settings, seen = Settings(home=".mlops", actor="tester").prepare(), {}
rows = source.load(settings).tail(20)
records = schema.records(rows)
if "train" in sys.argv:
    result = run_training(settings, Request(start_of(sys.argv[1])), orchestrated=False)
    seen["trained"] = [result.code, result.line]
    seen["checks"] = {check.name: check.message for check in result.results.evaluated.verdict.checks}
with TestClient(create_app(settings), client=("127.0.0.1", 1), base_url="http://127.0.0.1") as client:
    seen["ready"] = client.get("/readyz").json()
    several = client.post("/predict", json=[{"record": one, "id": i} for one, i in zip(records, rows[problem.ID])])
    seen["predicted"] = [several.status_code, several.json()]
    seen["alone"] = [client.post("/predict", json={"record": one}).json().get("score") for one in records]
    explained = client.post("/explain", json={"record": records[0], "changes": {"member_since": "2023-01-01", "gift": True}})
    seen["explained"] = [explained.status_code, explained.json()]
seen["monitored"] = main(["run"])
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all changes, which begins with a champion of the problem as it is."""
    clone = tmp_path_factory.mktemp("clone")
    for package in ("level1_pipeline", "monitoring", "serving", "level2_cicd"):
        shutil.copytree(ROOT / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    return clone


def call(clone: Path, change: str, *command: str) -> str:
    text = ORDERS
    for old, new in CHANGES[change].items():
        assert old in text
        text = text.replace(old, new, 1)
    (clone / "level1_pipeline/problem.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    run = [sys.executable, *command]
    ended = subprocess.run(run, cwd=clone, env=environment, capture_output=True, text=True, timeout=500)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def look(clone: Path, change: str, day: str, *train: str) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(call(clone, change, "-c", SCRIPT, day, *train).splitlines()[-1])
    assert seen["monitored"] == 5  # there is no traffic of this week: inconclusive, and no fault
    return seen


def test_each_change_leaves_a_way_on(clone: Path) -> None:
    first = look(clone, "as it is", "2024-08-20", "train")
    assert first["trained"][0] == 0
    assert first["ready"]["state"] == "ready"
    _all_ways_in_agree(clone, first)

    added = look(clone, "added", "")
    assert added["ready"]["state"] == "ready"
    assert added["predicted"][0] == added["explained"][0] == 200

    for change, day, why in (
        ("retyped", "", "price was a number, and is a text now"),
        ("renamed", "", "the Record has no price"),
        ("removed", "2024-08-24", "the Record has no price"),
        ("task", "2024-08-28", "was trained for a classification, and TASK is regression now"),
    ):
        before = look(clone, change, "")
        assert before["ready"]["state"] == "not ready"
        assert before["predicted"][0] == 503
        assert why in before["predicted"][1]["error"]
        assert "train --promote-to champion" in before["predicted"][1]["error"]
        if day:
            after = look(clone, change, day, "train")
            assert after["trained"][0] == 0, after["trained"][1]
            assert "the baselines are the measure" in after["checks"]["better than champion"]
            assert after["ready"]["state"] == "ready"
            assert after["predicted"][0] == 200


def _all_ways_in_agree(clone: Path, seen: dict[str, Any]) -> None:
    """The API with a list and with one row, files of both kinds, and the trace of a logged row, for inputs of each kind."""
    scores = [answer["score"] for answer in seen["predicted"][1]]
    assert seen["alone"] == scores
    explanation = seen["explained"][1]
    assert explanation["score"] == scores[0]
    assert explanation["what_if"]["record"]["member_since"] == "2023-01-01"
    call(clone, "as it is", "-c", WRITE)
    for kind in ("csv", "parquet"):
        told = call(clone, "as it is", "-m", "serving", "batch", "--input", f"in.{kind}", "--output", f"out-{kind}")
        assert "20 rows, 0 bad" in told
        assert json.loads(call(clone, "as it is", "-c", READ, kind)) == scores
    assert "reproduced bit for bit" in call(clone, "as it is", "-m", "level2_cicd", "trace", "order-5999")


WRITE = """
import pandas as pd
from level1_pipeline import problem

rows = problem.load(pd.Timestamp("2100-01-01", tz="UTC")).tail(20)
rows.to_csv("in.csv", index=False)
rows.to_parquet("in.parquet")
"""
READ = """
import json, sys
import pandas as pd

print(json.dumps(pd.read_parquet(f"out-{sys.argv[1]}/scores")["score"].tolist()))
"""
