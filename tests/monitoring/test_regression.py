"""A regression in the place of problem.py is monitored without touching another file; what needs classes says so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.slow]

CHANGE = "2024-06-01"  # the concept drift that the example plants
SCRIPT = """
import json
from pathlib import Path

import numpy as np

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from monitoring.data import collect
from tests.conftest import END_OF_TIME
from tests.support.world import MODELS, World, as_they_are

MODELS["one"] = ("2024-03-01", as_they_are)
found = {}
training_rows = collect.training_rows
for case in ("calm", "changed", "stuck", "poisoned"):
    home = Path(case)
    home.mkdir()
    world = World(Settings(home=home, actor="tester"), problem.load(END_OF_TIME), Path("models"))
    world.serve("1", "one", "2024-03-01")
    rows = world.between("2024-03-01", "2024-04-19")
    late = rows[problem.EVENT_TIME] >= world.between("2024-04-05", "2024-04-06")[problem.EVENT_TIME].min()
    if case == "changed":
        rows["y"] = rows["y"].mask(late, rows["y"] + 2.0)
    if case == "stuck":
        rows["x0"] = rows["x0"].mask(late, 0.5)
    if case == "poisoned":
        rows["y"] = rows["y"].mask(late & (rows["region"] == "south"), 40 - rows["y"])
    world.log(rows)
    # The world changes for the source, too; labels that are wrong in the log only are a fault.
    collect.training_rows = (lambda *_: rows) if case == "changed" else training_rows
    found[case] = [world.look(day).as_dict() for day in ("2024-04-05", "2024-04-12", "2024-04-19")]
    world.store.close()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clone = tmp_path_factory.mktemp("clone")
    for package in ("level1_pipeline", "monitoring", "tests"):
        shutil.copytree(ROOT / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    example = (ROOT / "examples/simulated_regression/problem.py").read_text()
    steady = example.replace(CHANGE, "2100-01-01")  # a year in which nothing changes by itself
    assert steady != example
    (clone / "level1_pipeline/problem.py").write_text(steady)
    return clone


@pytest.fixture(scope="module")
def runs(clone: Path) -> dict[str, Any]:
    run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=clone, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_the_drift_bench_measures_this_problem_too(clone: Path) -> None:
    """Its rows are independent draws: nothing may move, and a number that is stuck is seen."""
    bench = [sys.executable, "-m", "tests.benchmarks.drift_power", "--windows", "20"]
    run = subprocess.run(bench, cwd=clone, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    shares = dict(part.split("=") for part in run.stdout.splitlines()[-1].split() if "=" in part)
    assert float(shares["aa_consecutive"]) <= 0.05
    assert float(shares["false_retrainings"]) <= 0.01
    assert min(float(shares[f"coverage{days}"]) for days in (7, 14, 20)) >= 0.9
    assert "stuck" in run.stdout


def last(runs: dict[str, Any], case: str) -> dict[str, Any]:
    return runs[case][-1]


def test_calm_weeks_are_nothing(runs: dict[str, Any]) -> None:
    assert [item["diagnosis"]["cause"] for item in runs["calm"]] == ["nothing"] * 3


def test_a_changed_relation_is_a_concept_drift(runs: dict[str, Any]) -> None:
    assert last(runs, "changed")["diagnosis"]["cause"] == "concept drift"


def test_a_stuck_input_is_a_data_fault(runs: dict[str, Any]) -> None:
    answer = runs["stuck"][1]["diagnosis"]
    assert answer["cause"] == "data fault"
    assert "x0" in answer["message"]


def test_spoiled_outcomes_of_one_region_are_no_concept_drift(runs: dict[str, Any]) -> None:
    assert {item["diagnosis"]["cause"] for item in runs["poisoned"]} <= {"nothing", "label fault", "inconclusive"}
    assert last(runs, "poisoned")["diagnosis"]["cause"] != "nothing"


def test_what_needs_classes_is_left_out_and_the_rest_is_there(runs: dict[str, Any]) -> None:
    (performance,) = last(runs, "calm")["performances"]
    assert performance["estimate"] is None
    assert {"rmse", "r2", "skill"} <= set(performance["metrics"])
    assert "calibration" not in performance["metrics"]
    assert last(runs, "calm")["skew"]["verdict"] == "equal"
