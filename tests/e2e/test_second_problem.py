"""Another problem in the place of problem.py works without touching any other file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a cloner has after editing the one file."""
    folder = tmp_path_factory.mktemp("clone")
    for package in ("level1_pipeline", "serving"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "examples/simulated_regression/problem.py", folder / "level1_pipeline/problem.py")
    return folder


def call(clone: Path, *message: str, package: str = "level1_pipeline") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    command = [sys.executable, "-m", package, *message]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.evidence("Infra 3", "Checklist 13")
@pytest.mark.slow
def test_a_regression_trains_passes_the_gate_is_registered_and_served(clone: Path) -> None:
    trained = call(clone, "train", "--as-of", "2024-03-01")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    line = trained.stdout.strip().splitlines()[-1]
    assert line.startswith("level 1 | friedman | rmse=")
    assert "gate PASS | models:/friedman/1 -> champion" in line

    scored = call(clone, "score", "--id", "row-10000")
    assert scored.returncode == 0, scored.stderr
    assert "models:/friedman/1" in scored.stdout

    served = call(clone, "score", "--id", "row-10000", package="serving")
    assert served.returncode == 0, served.stderr
    assert scored.stdout.split(" | ")[3] == served.stdout.split(" | ")[3], "the service says another number"

    again = call(clone, "train", "--as-of", "2024-03-01")
    assert again.returncode == 3, "the same model once more is no gain"
    later = call(clone, "train", "--as-of", "2024-05-01")
    assert later.returncode in (0, 3), later.stdout + later.stderr
    assert "gate" in later.stdout
    assert len(list((clone / ".mlops/reports/level1/friedman").iterdir())) == 2
