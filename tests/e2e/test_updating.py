"""A project that was made from an older template takes over this one: the merge, its older home, and the gate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.checkout import git

PROBLEM = "level1_pipeline/problem.py"
OLDER = "5657e54"  # a commit of this template from which a project was made
WITH_EXAMPLES = "161532f"  # a newer one, which has most examples


def has(commit: str) -> bool:
    """Whether this checkout has the commit."""
    asked = ["git", "cat-file", "-e", commit]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, check=False).returncode == 0


def call(project: Path, *arguments: str) -> str:
    """A command of the project; what it printed last."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=project, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), done.stdout + done.stderr  # 3: the gate did not let the newer model pass
    return done.stdout.strip().splitlines()[-1]


def older(folder: Path, commit: str, problem: Path) -> Path:
    """A project that was made of an older template, with a problem of its own. The path may lie in that template."""
    project = folder / "project"
    git(folder, "clone", "--quiet", str(ROOT), "project")
    git(project, "checkout", "--quiet", "-b", "own", commit)
    shutil.copyfile(project / problem, project / PROBLEM)
    git(project, "commit", "--quiet", "--all", "--message", "our own problem")
    return project


def merge_this_one(project: Path) -> None:
    """As docs/updating.md says it."""
    own = (project / PROBLEM).read_text()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    merge = ["git", "merge", "--quiet", "--no-commit", head.strip()]
    subprocess.run(merge, cwd=project, check=False, capture_output=True)  # problem.py may be in conflict
    git(project, "checkout", "HEAD", "--", PROBLEM)
    git(project, "commit", "--quiet", "--no-edit")
    assert (project / PROBLEM).read_text() == own


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(not has(OLDER), reason=f"the commit {OLDER} is not in this checkout: fetch its whole history")
def test_a_project_of_an_older_template_merges_this_one_opens_its_home_and_runs_the_gate(tmp_path: Path) -> None:
    project = older(tmp_path, OLDER, ROOT / "examples/simulated_regression/problem.py")
    trained = call(project, "level1_pipeline", "train", "--as-of", "2024-03-01")
    assert "gate PASS | models:/friedman/1 -> champion" in trained
    merge_this_one(project)
    assert "champion 1" in call(project, "level1_pipeline", "history")
    assert "proved whole" in call(project, "level2_cicd", "backup")
    assert "| gate " in call(project, "level1_pipeline", "train", "--as-of", "2024-05-01")
    assert "(champion)" in call(project, "serving", "score", "--id", "row-10000")


@pytest.mark.gallery
@pytest.mark.integration
@pytest.mark.skipif(not has(WITH_EXAMPLES), reason=f"the commit {WITH_EXAMPLES} is not in this checkout")
@pytest.mark.parametrize("example", ["demand_by_the_hour", "no_trees", "simulated_regression", "table_without_time"])
def test_a_project_of_each_example_of_an_older_template_takes_this_one_over(tmp_path: Path, example: str) -> None:
    project = older(tmp_path, WITH_EXAMPLES, Path("examples", example, "problem.py"))
    assert "/1 -> champion" in call(project, "level1_pipeline", "train", "--as-of", "demo")
    merge_this_one(project)
    assert "champion 1" in call(project, "level1_pipeline", "history")
    assert "proved whole" in call(project, "level2_cicd", "backup")
    assert "| gate " in call(project, "level1_pipeline", "train", "--as-of", "demo")
    assert "(champion)" in call(project, "serving", "score")
