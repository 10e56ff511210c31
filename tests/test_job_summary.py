"""A job in which tests fail names them on its page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from level2_cicd.workflows.github import SUMMARY
from tests.support import ROOT
from tests.support.job_summary import LENGTH, MOST

PLANTED = f"""
import os
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("the set-up fails")

def test_good(): assert "{SUMMARY}" not in os.environ

def test_bad(): assert 1 == 2, "``` <b>"

def test_without_its_set_up(broken): pass

@pytest.mark.parametrize("n", range({MOST}))
def test_many(n): assert n == {MOST}, "x" * {LENGTH}
"""


def run(folder: Path, *options: str) -> str:
    """The page of a job that runs the tests of a folder."""
    page = folder / "summary"
    page.write_text("# before\n\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    command += ["--rootdir", str(folder), "-c", os.devnull, str(folder)]
    environment = os.environ | {SUMMARY: str(page), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 2), done.stdout + done.stderr
    return page.read_text()


@pytest.mark.integration
def test_the_page_of_a_job_names_the_tests_that_failed(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(PLANTED)
    page = run(tmp_path, "-p", "tests.conftest")
    assert page.startswith(f"# before\n\n## {MOST + 2} tests failed\n\n")
    lines = page.rstrip().splitlines()[4:]
    assert lines[:2] == [
        "    test_it.py::test_bad: AssertionError: ``` <b>",
        "    test_it.py::test_without_its_set_up: RuntimeError: the set-up fails",
    ]
    assert (len(lines), lines[-1]) == (MOST + 1, "    … and 2 more")
    assert max(map(len, lines)) == LENGTH


CONFTEST = f"""
import os
from pathlib import Path
from tests.support.job_summary import JobSummary

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(JobSummary(Path(os.environ.pop("{SUMMARY}"))))
"""


@pytest.mark.integration
def test_so_does_a_job_with_several_processes_and_with_a_file_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text("def test_bad(): assert False\n")
    several = run(tmp_path, "-p", "xdist", "-n", "2")
    assert several.count("    test_it.py::test_bad: ") == 1
    (tmp_path / "test_it.py").write_text("import nothing_of_this_name\n")
    assert "test_it.py: E   ModuleNotFoundError: No module named 'nothing_of_this_name'\n" in run(tmp_path)
    (tmp_path / "test_it.py").write_text("def test_good(): pass\n")
    assert run(tmp_path) == "# before\n\n"


UV = """#!/usr/bin/env bash
case "$*" in
  *compile*) printf 'same==1 \\\\\nnewer==2\n' > "${@: -1}" ;;
  venv*) mkdir -p .venv-newest/bin && cp pytest .venv-newest/bin/python ;;
esac
"""


@pytest.mark.parametrize(
    ("pytest_says", "page"),
    [
        (
            "echo 'ImportError: planted'; exit 4",
            "## No test failed, and pytest ended with\n\n    ImportError: planted\n\n",
        ),
        ("printf '## 2 tests failed\n\nthese\n' >> $GITHUB_STEP_SUMMARY; exit 1", "## 2 tests failed\n\nthese\n"),
        ("exit 0", ""),
    ],
)
def test_the_page_about_the_newest_packages_says_what_broke(tmp_path: Path, pytest_says: str, page: str) -> None:
    """With a small `uv` and a small pytest: what really is the newest changes from day to day."""
    for name, script in (("uv", UV), ("pytest", f"#!/usr/bin/env bash\n{pytest_says}\n")):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "requirements.lock").write_text("same==1 \\\nnewer==1\n")
    summary = tmp_path / "summary"
    given = os.environ | {"UV": str(tmp_path / "uv"), "INSTALL": "", SUMMARY: str(summary)}
    command = [str(ROOT / ".ci/newest")]
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == bool(page), done.stderr
    assert summary.read_text() == f"## Newer than the lock\n\n```\nnewer==2\n```\n\n{page}"
    last = "tests fail with newer packages" if page else "the tests passed with 1 newer packages"
    assert last in (done.stderr if page else done.stdout).splitlines()[-1]
