"""The workflows, run here as GitHub would run them: in a clean clone, with a small `gh` that keeps what it is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from level1_pipeline import problem
from level1_pipeline.orchestration import lineage
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import RolloutApproved, RolloutMoved, RolloutWaits
from level1_pipeline.store.audit_queries import releases
from level1_pipeline.store.database import Store
from level2_cicd.delivery.environments import APPROVED, Environment
from level2_cicd.delivery.release import open_release
from level2_cicd.maintenance.archive import Kept
from level2_cicd.maintenance.audit_chain import chain, refuse_broken
from level2_cicd.rollout.states import CHAMPION
from level2_cicd.workflows.release_assets import KEPT, RELEASE
from tests.evidence.marks import marked_tests
from tests.evidence.results import Results, content_digest
from tests.support import ROOT
from tests.support.checkout import git, needs_uv
from tests.support.demo import leave_demo
from tests.support.github import PROGRAM, GitHub
from tests.support.workflow_runner import Runner

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
WEEKS = 6
# What callers send in °C for three days of the fourth week; everything else is as it was in 2013.
PLANTED = "--fault temp --fault-from 2013-04-25 --fault-days 3"
# With dearer trainings there is one in these weeks, which keeps the test short; a person lets each champion in.
VARIABLES = {"REPLAY": PLANTED, "MLOPS_APPROVALS": CHAMPION, "MLOPS_TRAINING_DOLLARS": "3000"}

CHECKS = "check-workflows"  # of the release: the shortest one that says something

# Scripts of steps that are not run here, each with the reason.
EXCEPTED = {
    "make check": "it is a step of .ci/run",
    "make test": "it is a step of .ci/run",
    "make test-slow": "it is a step of .ci/run; this test is a part of it",
    "make test-containers": "it is a step of .ci/run",
    "make demo": "tests of each level run its parts, and it takes minutes",
    "make level0": "tests/test_notebooks.py runs the notebooks",
    "make up": "tests/containers starts the images",
    "make down": "tests/containers stops them",
    "make audit": "it asks a database of vulnerabilities on the network",
    "make test-examples": "it takes half an hour; tests/e2e/test_new_project.py passes days of each example through both levels",
    "make test-newest": "it asks the package registry what is new, and takes minutes",
    "python .ci/without_make.py": "tests/test_without_make.py makes its environment and compares its commands with make",
}

# What is really run of the others, beside the two workflows with tests of their own.
RAN = {
    "ci": {"make scorecard CHECK=1"},
    "freshness": set(),
    "pages": {"make site"},
    "security": {"make secrets", "make check-workflows", "make components OUTPUT=components.cdx.json"},
}


@dataclass(frozen=True)
class Repository:
    """A clone with its environment, and what GitHub keeps for it."""

    clone: Path
    github: GitHub
    scratch: Path

    def runner(self, **options: Any) -> Runner:
        given = {"PATH": f"{PROGRAM}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "CHECKS": CHECKS}
        given |= {name: value for name, value in self.github.variables.items() if name != "GH_TOKEN"}  # a step has it
        return Runner(
            self.clone, self.scratch, environment=given, excepted=self.leave_out, begin_job=self.clean, **options
        )

    def clean(self) -> None:
        """What a job finds: the commit, and no files of another job. The environment stays, which `make setup` made."""
        shutil.rmtree(self.clone / ".mlops", ignore_errors=True)
        (self.clone / ".evidence.json").unlink(missing_ok=True)
        git(self.clone, "clean", "-fd", "--quiet")

    def leave_out(self, job: str, script: str) -> bool:
        """Whether a script is excepted; later steps find what it would have left."""
        if script == "make test-slow":
            passed = {test.id: "passed" for test in marked_tests(self.clone)}
            Results(content_digest(self.clone), passed).write(self.clone / ".evidence.json")
        if script == "make demo":
            leave_demo(Settings(home=self.clone / ".mlops"), str(lineage.identity()["source_digest"]))
        return script in EXCEPTED

    def newest(self) -> Kept:
        return Kept.load(sorted((self.github.folder / RELEASE).glob("*.json"))[-1])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clean clone of the working files, with an environment of its own."""
    clone, github, scratch = (tmp_path_factory.mktemp(name) for name in ("clone", "github", "runner"))
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(lambda name: name and (ROOT / name).is_file(), names):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, clone / name)
    git(clone, "init", "--quiet", "--initial-branch=main")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "all")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    subprocess.run(["make", "setup"], cwd=clone, env=environment, check=True, capture_output=True)
    return Repository(clone, GitHub(github), scratch)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.flights
@pytest.mark.timeout(1800)
@needs_uv
def test_six_weeks_of_the_loop_end_with_a_new_champion_a_ticket_opened_and_closed_and_an_unbroken_audit_log(
    repository: Repository,
) -> None:
    workflow = ROOT / ".github/workflows/ct.yml"
    runner = repository.runner(variables=VARIABLES)
    weeks = []
    for _ in range(WEEKS):
        jobs = runner.run(workflow)
        assert all(job.result != "failure" for job in jobs.values()), "\n".join(job.printed for job in jobs.values())
        weeks.append(jobs)
    kept = repository.newest()
    log = _unpacked(repository, kept)
    # A new champion, after a person agreed in the other job.
    assert [line.to_version for line in releases(log)][:2] == ["1", "2"]
    assert [action for action in _actions(log) if isinstance(action, RolloutWaits)]
    approved = [week["approve"].result for week in weeks]
    assert approved.count("success") == len([action for action in _actions(log) if isinstance(action, RolloutApproved)])
    assert "success" in approved
    assert "skipped" in approved
    assert RolloutMoved(candidate="2", step=CHAMPION) in _actions(log)
    # One issue for the planted fault, opened and closed.
    faults = [issue for issue in repository.github.issues if "data fault" in issue["title"]]
    assert [(issue["state"], issue["events"][0], issue["events"][-1]) for issue in faults] == [
        ("CLOSED", "created", "closed")
    ]
    # The audit log goes on from run to run, and the newest homes are kept.
    refuse_broken(log, kept.audit)
    assert chain(log) == kept.audit
    numbers = [
        int(file.stem.removeprefix("home-")) for file in sorted((repository.github.folder / RELEASE).glob("*.json"))
    ]
    runs = WEEKS + approved.count("success")
    assert numbers == list(range(runs - KEPT + 1, runs + 1))
    assert kept.day == "2013-05-13"
    # Each job says what happened.
    summaries = [week["loop"].summary for week in weeks]
    assert all("Champion: version" in summary for summary in summaries)
    assert sum("quarantine" in summary for summary in summaries) == 1
    assert sum("**A person is needed**" in summary for summary in summaries) == approved.count("success")


def _actions(log: list[Any]) -> list[Any]:
    return [line.action for line in log]


def _unpacked(repository: Repository, kept: Kept) -> list[Any]:
    folder = repository.scratch / "newest"
    (archive,) = (repository.github.folder / RELEASE).glob(f"home-{kept.number:04d}-*.tar.gz")
    shutil.unpack_archive(archive, folder, filter="data")
    store = Store(f"sqlite:///{folder / 'operations.db'}")
    log = store.audit_log(problem.NAME)
    store.close()
    return log


@pytest.mark.slow
@pytest.mark.integration
@needs_uv
@pytest.mark.parametrize(
    "workflow", [file for file in WORKFLOWS if file.stem not in ("ct", "cd")], ids=lambda file: file.stem
)
def test_each_step_of_a_workflow_works_in_a_clean_clone_or_is_excepted_by_name(
    repository: Repository, workflow: Path
) -> None:
    event = {"event_name": "push", "ref": "refs/heads/main"}
    jobs = repository.runner(event=event).run(workflow)
    assert [job.printed for job in jobs.values() if job.result not in ("success", "skipped")] == []
    assert {script for job in jobs.values() for script in job.ran} == RAN[workflow.stem]
    if workflow.stem == "security":
        components = json.loads((repository.scratch / "artifacts/components/components.cdx.json").read_text())
        assert len(components["components"]) > 100
    if workflow.stem == "pages":
        assert (repository.scratch / "artifacts/github-pages/run/overview.html").is_file()


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.flights
@pytest.mark.timeout(1800)
@needs_uv
def test_a_tag_becomes_a_release_which_staging_accepts_and_production_runs(repository: Repository) -> None:
    """Each job begins with nothing but the commit and the artifacts of the jobs before: so the hand-over is proved."""
    event = {"event_name": "push", "ref": "refs/tags/v1"}
    jobs = repository.runner(event=event).run(ROOT / ".github/workflows/cd.yml")
    assert [job.printed for job in jobs.values() if job.result != "success"] == []
    assert {name: job.ran for name, job in jobs.items()} == {
        "release": ["make release"],
        "images": [],
        "staging": ["make deploy ENV=staging"],
        "production": ["make approve-release", "make deploy ENV=production"],
    }
    (made,) = (repository.scratch / "artifacts/release" / problem.NAME).iterdir()
    production = Environment.of(repository.clone / ".mlops", "production")
    current = production.current()
    assert current
    assert current.release == replace(open_release(made), folder=current.release.folder)
    approved = production.noted(APPROVED, made.name)
    assert approved
    assert "let run 7 go on" in approved["reason"]
    (accepted,) = (repository.scratch / "artifacts/accepted").iterdir()
    assert json.loads(accepted.read_text())["golden requests"] > 10


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.flights
@needs_uv
def test_a_pull_request_shows_the_verdict_about_the_model_of_its_change(repository: Repository) -> None:
    record = repository.clone / "level1_pipeline" / "problem.py"
    code = record.read_text()
    worse = re.sub(r"max_iter=\d+", "max_iter=2", code)
    assert worse != code
    clone = repository.clone
    git(clone, "checkout", "--quiet", "-b", "change")
    record.write_text(worse)
    git(clone, "commit", "--quiet", "--all", "--message", "a worse model")
    git(clone, "checkout", "--quiet", "-b", "merged", "main")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "the base goes on")
    git(clone, "merge", "--quiet", "--no-ff", "--message", "what GitHub checks out", "change")
    try:
        event = {"event_name": "pull_request"}
        verdict = repository.runner(event=event).run(ROOT / ".github/workflows/ci.yml")["verdict"]
    finally:
        git(clone, "checkout", "--quiet", "main")
    assert verdict.result == "success", verdict.printed
    assert verdict.summary.startswith("## The gate says: fail"), verdict.summary[:500]
    assert f"| {problem.PRIMARY_METRIC} | 0." in verdict.summary
    assert "Model card of the candidate" in verdict.summary


def test_every_exception_is_a_step_of_a_workflow_and_has_a_reason() -> None:
    text = "\n".join(file.read_text() for file in WORKFLOWS)
    scripts = set(re.findall(r"run: (.+)", text))
    assert set(EXCEPTED) <= scripts
    assert all(EXCEPTED.values())
    named = re.findall(r"tests/[\w/.]+", " ".join(EXCEPTED.values()))
    assert [name for name in named if not (ROOT / name).exists()] == []
