"""`make new` makes a project of its own from each example, in which the levels run and the template's tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

EXAMPLES = sorted(path.parent.name for path in ROOT.glob("examples/*/problem.py"))
BROKEN = {"<cut>": b'NAME = "churn"\ndef load(', "<no text>": b'NAME = "churn"\n# \xff'}  # files that are no Python
DAYS = 9  # one monitoring run, and the data of table_without_time ends soon after the first training


def new(name: str, source: str, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ".ci/new_project.py", "--name", name, "--from", source, "--to", str(to)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def call(project: Path, *arguments: str, **settings: str) -> str:
    """What a command of the project prints; it has to end well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_", "PYTEST_"))}
    environment = kept | settings
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    ("name", "source", "to", "told"),
    [
        ("Churn it", "examples/no_trees", "there", "is no name"),
        ("churn", "examples/nothing", "there", "has no problem.py; choose one of: examples/"),
        ("churn", "", "there", "FROM is missing; choose one of: examples/"),
        ("churn", "examples/no_trees", ".", "not empty"),
        ("churn", "examples/no_trees", str(ROOT / "inside"), "lies inside the template"),
        ("churn", "examples/no_trees", "mine", "mine is a file, so no folder can be there"),
        ("churn", "examples/no_trees", "mine/deeper", "mine is a file, so no folder can be there"),
        ("churn", "<cut>", "there", "is no Python that can be read"),
        ("churn", "<no text>", "there", "is no text in UTF-8"),
    ],
)
def test_what_cannot_be_made_is_said_in_one_line_and_nothing_is_written(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str, source: str, to: str, told: str
) -> None:
    (tmp_path / "mine").write_text("")
    if source in BROKEN:
        file = tmp_path_factory.mktemp("broken") / "problem.py"
        file.write_bytes(BROKEN[source])
        source = str(file)
    done = new(name, source, tmp_path / to)
    assert done.returncode == 1
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert not (ROOT / "inside").exists()


@pytest.mark.integration
def test_a_project_has_its_own_name_version_changes_and_problem(tmp_path: Path) -> None:
    project = tmp_path / "my place" / "churn"
    done = new("late_parcels", "examples/no_trees", project)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"new \| late_parcels \| \d+ files from examples/no_trees \| next: cd .*\n", done.stdout)
    ours = project / "level1_pipeline/problem.py"
    theirs = ROOT / "examples/no_trees/problem.py"
    assert ours.read_text() == theirs.read_text().replace('NAME = "no_trees"', 'NAME = "late_parcels"')
    pyproject = (project / "pyproject.toml").read_text()
    assert 'name = "late-parcels"\nversion = "0.1.0"\ndescription = "Will this customer' in pyproject
    assert (project / "README.md").read_text().startswith("# Late parcels\n")
    assert len((project / "CHANGELOG.md").read_text().splitlines()) == 7
    assert not (project / "docs/pictures").exists()
    assert (project / "tests/e2e/test_new_project.py").exists()
    head = ["git", "rev-parse", "--is-shallow-repository", "HEAD"]
    here, there = (subprocess.run(head, cwd=at, capture_output=True, text=True).stdout for at in (ROOT, project))
    assert "true" in here or there == here, "it goes on from our history, so it can merge a newer template"
    staged = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=True).stdout
    assert "level1_pipeline/problem.py" in staged
    assert ".venv" not in staged


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("example", EXAMPLES)
def test_days_of_each_example_pass_through_the_service_and_the_control_loop(tmp_path: Path, example: str) -> None:
    """The first champion passes its gate, every request is answered, and the loop monitors. The first days have a fault."""
    project = tmp_path / "project"
    assert new("mine", f"examples/{example}", project).returncode == 0
    days = ("--days", str(DAYS), "--fault", _first_number(project))
    told = call(project, "level2_cicd.workflows", "replay-week", *days)
    assert "champion 1" in told.splitlines()[-1]


def _first_number(project: Path) -> str:
    code = "from level1_pipeline import schema; print([c.name for c in schema.columns() if not c.text][0])"
    given = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    return given.stdout.strip()


@pytest.mark.slow
@pytest.mark.integration
def test_a_new_project_trains_is_served_and_its_fast_tests_pass(tmp_path: Path) -> None:
    project = tmp_path / "churn"
    assert new("churn", "examples/no_trees", project).returncode == 0
    assert "gate PASS | models:/churn/1 -> champion" in call(project, "level1_pipeline", "train", "--as-of", "demo")
    assert "score over HTTP | churn | question-" in call(project, "serving", "score")
    fast = call(project, "pytest", "-m", "not slow and not integration", "-n", "0", "--deselect", "tests/e2e")
    assert re.search(r"\d+ passed, \d+ skipped", fast), fast[-500:]
