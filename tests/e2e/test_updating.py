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

OLDER = "5657e54"  # a commit of this template from which the project was made
HAS_IT = subprocess.run(["git", "cat-file", "-e", OLDER], cwd=ROOT, capture_output=True, check=False).returncode == 0


def call(project: Path, *arguments: str) -> str:
    """A command of the project; what it printed last."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=project, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 3), done.stdout + done.stderr  # 3: the gate did not let the newer model pass
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(not HAS_IT, reason=f"the commit {OLDER} is not in this checkout: fetch its whole history")
def test_a_project_of_an_older_template_merges_this_one_opens_its_home_and_runs_the_gate(tmp_path: Path) -> None:
    project = tmp_path / "project"
    git(tmp_path, "clone", "--quiet", str(ROOT), "project")
    git(project, "checkout", "--quiet", "-b", "own", OLDER)
    shutil.copyfile(ROOT / "examples/simulated_regression/problem.py", project / "level1_pipeline/problem.py")
    git(project, "commit", "--quiet", "--all", "--message", "our own problem")
    assert "gate PASS | models:/friedman/1 -> champion" in call(
        project, "level1_pipeline", "train", "--as-of", "2024-03-01"
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    merge = ["git", "merge", "--quiet", "--no-commit", head.strip()]
    subprocess.run(merge, cwd=project, check=False, capture_output=True)  # problem.py may be in conflict
    git(project, "checkout", "HEAD", "--", "level1_pipeline/problem.py")
    git(project, "commit", "--quiet", "--no-edit")
    own = (project / "level1_pipeline/problem.py").read_text()
    assert own == (ROOT / "examples/simulated_regression/problem.py").read_text()
    assert "champion 1" in call(project, "level1_pipeline", "history")
    assert "proved whole" in call(project, "level2_cicd", "backup")
    assert "| gate " in call(project, "level1_pipeline", "train", "--as-of", "2024-05-01")
    assert "(champion)" in call(project, "serving", "score", "--id", "row-10000")
