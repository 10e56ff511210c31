"""The workflows are valid, safe, and call nothing but Make targets; libraries that broke together work together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
WITHOUT_MAKE = "python .ci/without_make.py"  # on Windows
OTHER_FILES = {  # of GitHub, with the schema of each
    ".github/dependabot.yml": "dependabot",
    ".github/ISSUE_TEMPLATE/fault.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/model.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
}


def test_the_workflows_follow_their_schema() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", OTHER_FILES)
def test_the_other_files_of_github_follow_their_schema(file: str) -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", f"vendor.{OTHER_FILES[file]}", str(ROOT / file)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_hooks_of_pre_commit_and_the_container_of_developers_call_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    hooks = re.findall(r"entry: (.+)", (ROOT / ".pre-commit-config.yaml").read_text())
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    called = [*hooks, container["postCreateCommand"]]
    assert len(called) > 3
    assert {command.removeprefix("make ") for command in called} <= targets
    official = re.findall(r"^PYTHON_IMAGE=(.+)", (ROOT / "containers/images.env").read_text(), re.MULTILINE)
    assert f"ARG PYTHON_IMAGE={official[0]}" in (ROOT / ".devcontainer/Dockerfile").read_text()


def test_zizmor_finds_nothing_in_the_workflows() -> None:
    command = [str(BIN / "zizmor"), "--offline", "--no-progress", "--persona", "pedantic", *map(str, WORKFLOWS)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_zizmor_finds_an_action_that_is_not_pinned(tmp_path: Path) -> None:
    workflow = tmp_path / ".github/workflows/ci.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(re.sub(r"@[0-9a-f]{40} # v", "@v", WORKFLOWS[0].read_text()))
    command = [str(BIN / "zizmor"), "--offline", "--no-progress", str(workflow)]
    assert subprocess.run(command, capture_output=True).returncode != 0


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_step_of_a_workflow_is_a_make_target(workflow: Path) -> None:
    text = workflow.read_text()
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for script in set(re.findall(r"run: (.+)", text)) - {WITHOUT_MAKE}:
        program, target, *typed = script.split()
        assert program == "make"
        assert target in targets
        assert all(re.fullmatch(r"[A-Z]+=[\w./-]+", word) for word in typed)
    assert "permissions: {}" in text
    assert text.count("persist-credentials: false") == text.count("actions/checkout")


def test_ci_calls_the_targets_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    called = re.findall(r"^(?:\.ci/postgres )?make (\S+)", script, re.MULTILINE)
    assert called[:2] == ["check", "test"]
    assert "test-slow" in called


def missing(text: str) -> list[str]:
    """Folders, files and modules of ours that a script names and the tree does not have."""
    paths = re.findall(r"(?<![\w/])(?:tests|level0_notebooks)/[\w/.-]+", text)
    modules = [name.replace(".", "/") for name in re.findall(r"-m (tests[\w.]+)", text)]
    return [name for name in paths + modules if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()]


def test_the_scripts_name_only_what_exists() -> None:
    scripts = [ROOT / "Makefile", *(path for path in (ROOT / ".ci").iterdir() if path.is_file())]
    assert {path.name: missing(path.read_text()) for path in scripts} == {path.name: [] for path in scripts}
    planted = "pytest tests/unit tests/parity; python -m tests.gate_power; python -m tests.benchmarks.gate_power"
    assert missing(planted) == ["tests/unit", "tests/gate_power"]


PAIRS = {
    "prefect and fastapi": "from prefect.server.api.server import create_app; create_app()",
    "evidently and pandas": "import warnings; warnings.simplefilter('ignore'); from evidently import Report",
    "mlflow and skops": "import mlflow.sklearn, skops.io",
    "great_expectations and pandas": "import great_expectations as gx; gx.get_context(mode='ephemeral')",
    "sqlalchemy and psycopg": "import sqlalchemy as sa; sa.create_engine('postgresql+psycopg://u@h/d')",
}


@pytest.mark.integration
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.slow
def test_libraries_that_once_broke_together_work_together(pair: str, tmp_path: Path) -> None:
    environment = {"PREFECT_HOME": str(tmp_path), "DO_NOT_TRACK": "true", "HOME": str(tmp_path), "PATH": str(BIN)}
    done = subprocess.run([sys.executable, "-c", PAIRS[pair]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_serving_lock_agrees_with_the_whole_lock() -> None:
    locked = [
        dict(
            re.findall(
                r"^([a-z0-9-]+(?:\[[a-z]+\])?)==(\S+)", (ROOT / f"requirements{part}.lock").read_text(), re.MULTILINE
            )
        )
        for part in ("", "-serving")
    ]
    assert locked[1].items() <= locked[0].items()
    assert not {"mlflow", "prefect", "great-expectations", "evidently"} & locked[1].keys()
