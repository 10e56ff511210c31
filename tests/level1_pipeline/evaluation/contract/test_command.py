"""Mistakes through the command, in a clone whose problem.py has them: a line each, an exit code, and no traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ORDERS = (ROOT / "tests/problems/orders.py").read_text()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clone = tmp_path_factory.mktemp("clone")
    for package in ("level1_pipeline", "serving"):
        shutil.copytree(ROOT / package, clone / package, ignore=shutil.ignore_patterns("__pycache__"))
    return clone


def call(
    clone: Path, changes: dict[str, str], *command: str, package: str = "level1_pipeline"
) -> subprocess.CompletedProcess[str]:
    text = ORDERS
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    (clone / "level1_pipeline/problem.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    run = [sys.executable, "-m", package, *command]
    ended = subprocess.run(run, cwd=clone, env=environment, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in ended.stdout + ended.stderr
    return ended


def test_a_sound_problem_is_told_so(clone: Path) -> None:
    ended = call(clone, {}, "check-problem", "--as-of", "2024-08-20")
    assert ended.stdout == "check-problem | orders | nothing wrong in level1_pipeline/problem.py\n"
    assert (ended.returncode, ended.stderr) == (0, "")


def test_every_mistake_has_its_line_and_the_last_one_counts_them(clone: Path) -> None:
    changes = {'SLICES = ("shop", "gift")': 'SLICES = ("shop", "gifts")', '"max_harm"': '"maxharm"'}
    ended = call(clone, changes, "check-problem")
    assert ended.stdout.splitlines() == [
        "  SLICES: 'gifts' is no field of the Record; did you mean 'gift'?",
        "  GATE: lacks the rule 'max_harm'; add it (level1_pipeline/evaluation/gate.py says what it is)",
        "  GATE: has no rule 'maxharm'; did you mean 'max_harm'?",
        "check-problem | orders | 3 mistakes in level1_pipeline/problem.py; nothing was trained",
    ]
    assert ended.returncode == 1


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("ID =", "ID ==", "NameError: name 'ID' is not defined; mend that"),
        ("class Record(BaseModel):", "class Record(BaseModel)", "line 24: SyntaxError: expected ':'; mend that"),
        ("import BaseModel,", "import BaseModle,", "ImportError: cannot import name 'BaseModle'"),
    ],
    ids=["name", "syntax", "import"],
)
@pytest.mark.parametrize(("package", "command"), [("level1_pipeline", "check-problem"), ("serving", "route")])
def test_a_file_that_python_cannot_read_is_one_line(
    clone: Path, package: str, command: str, old: str, new: str, line: str
) -> None:
    ended = call(clone, {old: new}, command, package=package)
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("ProblemRefused: level1_pipeline/problem.py, line ")
    assert line in ended.stderr
    assert ended.returncode == 1


@pytest.mark.parametrize("command", ["train", "check-problem"])
def test_where_the_day_of_the_demo_cannot_be_told_the_mistake_is(clone: Path, command: str) -> None:
    ended = call(clone, {'TIMEZONE = "UTC"': 'TIMEZONE = "Mars"'}, command, "--as-of", "demo")
    assert ended.returncode == 1
    assert "TIMEZONE: 'Mars' is no time zone; write one as UTC or Europe/Zurich" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"[lambda table: table[EVENT_TIME] < until]": ""},
            "ProblemRefused: problem.py: load: gives 1,200 rows whose placed_at is not before `until`",
        ),
        ({'NAME = "orders"': ""}, "ProblemRefused: problem.py: NAME: is missing"),
        (
            {'("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)': "()"},
            "ProblemRefused: problem.py: TRUSTED_TYPES: lacks sklearn.ensemble._hist_gradient_boosting.predictor.Tree",
        ),
    ],
    ids=["rows after until", "no name", "a type that nobody reviewed"],
)
def test_a_training_is_refused_before_prefect_starts(clone: Path, change: dict[str, str], line: str) -> None:
    ended = call(clone, change, "train", "--as-of", "2024-08-20")
    assert line in ended.stderr
    assert ended.returncode == 1
    assert not (clone / ".mlops/prefect/server.log").exists()
    assert not (clone / ".mlops/runs").exists()
