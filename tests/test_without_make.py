"""Where there is no make, one script does what its targets do. Here its branch for Linux and macOS is run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_group

from level1_pipeline import cli
from tests.support import ROOT
from tests.test_makefile import arguments

INSTALLED_FROM = ("Makefile", "requirements.lock", "requirements-setup.lock", "build-constraints.txt")
MAKE_AND_ASK = """
import sys
sys.path.insert(0, ".ci")
import without_make
without_make.LEVELS = (["-c", "import sklearn; print('it is there')"],)
without_make.main()
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    return importlib.import_module("without_make")


def test_it_calls_what_make_calls(script: ModuleType, tmp_path: Path) -> None:
    level0, level1, score = script.LEVELS
    assert arguments(tmp_path, "level0") == level0
    assert arguments(tmp_path, "level1") == level1
    assert score[:2] == ["-m", "level1_pipeline"]
    assert score[2] in get_group(cli.app).commands


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(not importlib.util.find_spec("ensurepip"), reason="this Python makes no environments with pip")
def test_it_makes_the_environment_with_pip_alone(tmp_path: Path) -> None:
    for name in INSTALLED_FROM:
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    bare = os.path.realpath(sys.executable)  # as a person has it: outside of any environment
    clean = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONHOME")}
    command = [bare, "-c", MAKE_AND_ASK]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "it is there" in done.stdout
    assert done.stdout.splitlines()[-1] == f"levels | Levels 0 and 1 ran in {Path('.venv', 'bin')}"
