"""The emulated GitHub of tests/support does what GitHub does: so a workflow that is wrong fails here, too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.checkout import git
from tests.support.expressions import NotUnderstood, evaluate, filled, holds
from tests.support.hosted_actions import ActionFailed, Hosted, NotEmulated
from tests.support.workflow_runner import JobRun, Runner

PLANTED_WORKFLOW = """
name: planted
on: push
env: {WHERE: all}
jobs:
  second:
    needs: first
    if: needs.first.outputs.word != ''
    runs-on: ubuntu-24.04
    steps:
      - run: test "$WORD" = "a b" && test "$WHERE" = job
        env: {WORD: "${{ needs.first.outputs.word }}"}
      - run: exit 3
      - run: touch never
      - run: touch always
        if: always()
    env: {WHERE: job}
  third: {needs: second, runs-on: ubuntu-24.04, steps: [{run: touch never}]}
  first:
    runs-on: ubuntu-24.04
    strategy: {matrix: {python: ["3.11"]}}
    outputs: {word: "${{ steps.say.outputs.word }}"}
    steps:
      - uses: actions/checkout@v5
      - id: say
        run: |
          echo "word=a b" >> "$GITHUB_OUTPUT"
          echo "LATER<<END" >> "$GITHUB_ENV"; printf 'x\\ny\\nEND\\n' >> "$GITHUB_ENV"
          echo "# ${{ matrix.python }}" >> "$GITHUB_STEP_SUMMARY"
      - run: test "$LATER" = "$(printf 'x\\ny')" && test "$WHERE" = all
      - run: make nothing
"""


def test_the_runner_hands_on_outputs_and_variables_and_stops_a_job_at_its_first_failure(tmp_path: Path) -> None:
    workflow, clone, scratch = tmp_path / "planted.yml", tmp_path / "clone", tmp_path / "scratch"
    clone.mkdir()
    scratch.mkdir()
    git(clone, "init", "--quiet")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "all")
    workflow.write_text(PLANTED_WORKFLOW)
    jobs = Runner(clone, scratch, excepted=lambda job, script: script == "make nothing").run(workflow)
    first, second, third = (jobs[name] for name in ("first 3.11", "second", "third"))
    assert (first.result, first.summary, first.left_out) == ("success", "# 3.11\n", ["make nothing"])
    assert (second.result, third.result) == ("failure", "skipped")
    assert [file.name for file in clone.iterdir() if file.name != ".git"] == ["always"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b == 'x' && !a.c", True),
        ("a.c || 'other'", "other"),
        ("(a.b == 'y' || a.b == 'X') && 'it''s'", "it's"),
        ("a.b != 'x'", False),
    ],
)
def test_an_expression_has_its_value(text: str, value: object) -> None:
    assert evaluate(text, {"a": {"b": "x"}}) == value


def test_an_expression_that_is_not_understood_is_no_guess() -> None:
    for text in ("fromJSON('1')", "a.b == ", "b.c", "a.b 'x'", "(a.b"):
        with pytest.raises((NotUnderstood, KeyError)):
            evaluate(text, {"a": {"b": "x"}})
    assert filled("v${{ a.b }}-${{ a.none }}", {"a": {"b": 1}}) == "v1-"
    assert not holds("always() && a.b", {"a": {"b": ""}}, succeeded=False)
    assert holds("always()", {}, succeeded=False)
    assert not holds("a.b", {"a": {"b": "x"}}, succeeded=False)


# ---- hosted actions


@pytest.fixture
def hosted(tmp_path: Path) -> Hosted:
    """A workspace with a release in a hidden folder, and no artifacts yet."""
    made = Hosted(tmp_path / "workspace", tmp_path / "artifacts")
    made.artifacts.mkdir()
    release = made.workspace / ".mlops" / "releases" / "id"
    release.mkdir(parents=True)
    for name in ("release.json", ".python-version"):
        (release / name).write_text(name)
    return made


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_an_artifact_goes_from_one_job_to_the_next_without_its_hidden_files(hosted: Hosted) -> None:
    hosted.run("actions/upload-artifact@v4", {"name": "release", "path": ".mlops/releases"})
    hosted.run("actions/download-artifact@v4", {"name": "release", "path": "there"})
    assert names(hosted.workspace / "there") == ["id/release.json"]
    all_of_it = {"name": "all", "path": ".mlops/releases", "include-hidden-files": "true"}
    hosted.run("actions/upload-artifact@v4", all_of_it)
    with pytest.raises(ActionFailed, match="exists already"):
        hosted.run("actions/upload-artifact@v4", all_of_it)
    hosted.run("actions/download-artifact@v4", {"pattern": "a*", "path": "those"})
    assert names(hosted.workspace / "those") == ["all/id/.python-version", "all/id/release.json"]
    one = {"name": "one", "path": ".mlops/releases/id/release.json"}
    hosted.run("actions/upload-artifact@v4", one)
    assert names(hosted.artifacts / "one") == ["release.json"]


def test_what_is_not_there_fails_and_what_is_not_emulated_is_no_guess(hosted: Hosted) -> None:
    nothing = {"name": "n", "path": "nowhere"}
    hosted.run("actions/upload-artifact@v4", nothing)  # GitHub only warns
    for uses, given in (
        ("actions/upload-artifact@v4", nothing | {"if-no-files-found": "error"}),
        ("actions/download-artifact@v4", {"name": "n"}),
        ("actions/attest-build-provenance@v2", {"subject-path": ".mlops/*/*.whl"}),
        ("actions/upload-pages-artifact@v3", {"path": ".mlops"}),
        ("actions/deploy-pages@v4", {}),
    ):
        with pytest.raises(ActionFailed):
            hosted.run(uses, given)
    for uses, given in (
        ("actions/cache@v4", {}),
        ("actions/upload-artifact@v4", nothing | {"retention": "9"}),
        ("actions/download-artifact@v4", {"name": "n", "path": "*"}),
    ):
        with pytest.raises(NotEmulated):
            hosted.run(uses, given)


def test_a_checkout_has_as_many_commits_as_are_fetched(hosted: Hosted) -> None:
    git(hosted.workspace, "init", "--quiet")
    for message in "abc":
        git(hosted.workspace, "commit", "--quiet", "--allow-empty", "--message", message)
    for depth, seen in (({}, 1), ({"fetch-depth": "2"}, 2), ({"fetch-depth": "0"}, 3)):
        hosted.run("actions/checkout@v5", depth)
        command = ["git", "rev-list", "--count", "HEAD"]
        counted = subprocess.run(command, cwd=hosted.workspace, capture_output=True, text=True, check=True)
        assert int(counted.stdout) == seen


# The release in small: the real jobs of cd.yml with other scripts, each of which needs what the job before handed over.
SMALL = {
    "make release": "mkdir -p $R && touch $R/release.json $R/a.whl $R/.python-version",
    "make up": "test -f $R/a.whl",
    "make down": "true",
    "make deploy ENV=staging": "test -f $R/.python-version && mkdir -p $A && touch $A/id.json",
    "make approve-release": "test -f $R/release.json",
    "make deploy ENV=production": "test -f $R/.python-version && test -f $A/id.json",
}


def small_delivery(tmp_path: Path, wrong: str = "", instead: str = "") -> dict[str, JobRun]:
    text = (ROOT / ".github/workflows/cd.yml").read_text()
    assert wrong in text
    text = text.replace(wrong, instead, 1) if wrong else text
    for script, other in SMALL.items():
        assert f"run: {script}\n" in text
        text = text.replace(f"run: {script}\n", f"run: {other}\n")
    clone, scratch, workflow = tmp_path / "clone", tmp_path / "scratch", tmp_path / "cd.yml"
    scratch.mkdir()
    workflow.write_text(text)
    paths = {"R": ".mlops/releases/p/id", "A": ".mlops/environments/staging/accepted"}
    return Runner(clone, scratch, environment=paths, begin_job=lambda: fresh(clone)).run(workflow)


def fresh(clone: Path) -> None:
    shutil.rmtree(clone, ignore_errors=True)
    clone.mkdir()
    git(clone, "init", "--quiet")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "all")


def test_the_jobs_of_a_delivery_hand_over_the_release(tmp_path: Path) -> None:
    jobs = small_delivery(tmp_path)
    assert {name: job.result for name, job in jobs.items()} == dict.fromkeys(
        ("release", "images", "staging", "production"), "success"
    )


@pytest.mark.parametrize(
    ("wrong", "instead", "fails"),
    [
        ("          name: release\n", "          name: releases\n", "staging"),
        ("          path: .mlops/releases\n", "          path: .mlops/release\n", "release"),
        ("          include-hidden-files: true\n", "", "staging"),
        (".mlops/releases/*/*/*.whl", ".mlops/releases/*/*.whl", "release"),
        (".mlops/environments/staging/accepted", ".mlops/environments/staging/approved", "staging"),
        (
            "environments/staging/accepted\n      - name: What",
            "environments/accepted\n      - name: What",
            "production",
        ),
    ],
)
def test_a_delivery_that_hands_over_another_thing_fails(tmp_path: Path, wrong: str, instead: str, fails: str) -> None:
    assert small_delivery(tmp_path, wrong, instead)[fails].result == "failure"
