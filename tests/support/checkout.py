"""A checkout of the working files with a commit of its own, to make releases of."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

UV = str(Path(shutil.which(os.environ.get("UV") or "uv") or ROOT / ".tools/bin/uv").absolute())
needs_uv = pytest.mark.skipif(shutil.which(UV) is None, reason="no uv on this machine: make setup brings it")
MAKEFILE = """
good:
	@echo '<testsuites><testsuite tests="5" skipped="1"/></testsuites>' > "$${PYTEST_ADDOPTS##*--junitxml=}"
bad:
	@exit 3
silent:
	@true
"""


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=tester", "-c", "user.email=tester@localhost", *arguments], cwd=folder, check=True
    )


def make_checkout(folder: Path) -> Path:
    """A checkout of the working files, with one commit of its own and a Makefile of three targets."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "level0_notebooks/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    (folder / "Makefile").write_text(MAKEFILE)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    return folder
