"""The gallery: in a project of each example weeks pass with a fault and a concept drift, and the template's fast tests pass."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.test_new_project import EXAMPLES, call, new

pytestmark = [pytest.mark.gallery, pytest.mark.integration, pytest.mark.timeout(3000)]

FAULT = "control loop: quarantine"
# What is told of the change that an example plants: in the story, or by a ticket that is open at its end.
CHANGE = {
    "demand_by_the_hour": "mine: inconclusive",
    "no_trees": "mine: inconclusive",
    "several_classes": "allowed │         │ concept drift",
    "simulated_regression": "allowed │         │ concept drift",
    "table_without_time": "",  # its days are drawn, so nothing can change with them
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_weeks_of_an_example_show_its_fault_and_its_change(tmp_path: Path, example: str) -> None:
    project = tmp_path / "project"
    assert new("mine", f"examples/{example}", project).returncode == 0
    story = call(project, "level2_cicd", "simulate")
    assert re.search(r"failed requests 0 of [\d,]+ \| failed outcomes 0 of [\d,]+ ", story.splitlines()[-1])
    assert FAULT in story
    tickets = call(project, "monitoring", "tickets", MLOPS_HOME=str(project / ".mlops/level2"))
    assert CHANGE[example] in story + tickets


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_fast_tests_pass_in_a_project_of_each_example(tmp_path: Path, example: str) -> None:
    project = tmp_path / "project"
    assert new("mine", f"examples/{example}", project).returncode == 0
    fast = call(project, "pytest", "-m", "not slow and not integration", "-n", "0", "--deselect", "tests/e2e")
    assert re.search(r"\d+ passed, \d+ skipped", fast), fast[-500:]
