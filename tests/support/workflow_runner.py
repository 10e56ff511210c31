"""Runs the jobs of a workflow here, as a runner of GitHub does: steps are scripts of bash, files carry what they say on.

What is emulated: `needs`, `if`, a matrix, `env`, the contexts of expressions, and the files GITHUB_ENV, GITHUB_OUTPUT,
GITHUB_PATH and GITHUB_STEP_SUMMARY, and what hosted actions do (`hosted_actions`). Each job begins with a clean workspace.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.expressions import filled, holds
from tests.support.hosted_actions import ActionFailed, Hosted

FILES = ("GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")
# Of this machine: how it reaches packages, where programs are, and which engine answers. Nothing of ours: no MLOPS_….
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "UV_CACHE_DIR", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
NETWORK = ("UV_", "PIP_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "REQUESTS_")


@dataclass
class JobRun:
    """A job that was run, or left out."""

    name: str
    result: str  # success, failure or skipped
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    ran: list[str] = field(default_factory=list)  # the scripts of its steps
    left_out: list[str] = field(default_factory=list)  # scripts that the caller excepts
    printed: str = ""


@dataclass(frozen=True)
class Runner:
    """Where workflows run: a clone, and what the repository on GitHub would hand in."""

    clone: Path
    scratch: Path
    event: Mapping[str, Any] = field(default_factory=lambda: {"event_name": "workflow_dispatch"})
    variables: Mapping[str, str] = field(default_factory=dict)  # `vars`
    environment: Mapping[str, str] = field(default_factory=dict)  # of the machine
    excepted: Callable[[str, str], bool] = lambda job, script: False
    begin_job: Callable[[], None] = lambda: None  # makes the workspace as a checkout leaves it

    def run(self, workflow: Path) -> dict[str, JobRun]:
        """Run all jobs, in the order of their needs; the key is the job's name, and its values of a matrix."""
        data = yaml.safe_load(workflow.read_text())
        shutil.rmtree(self._hosted.artifacts, ignore_errors=True)
        self._hosted.artifacts.mkdir()
        done: dict[str, JobRun] = {}
        waiting = dict(data["jobs"])
        while waiting:
            ready = [name for name, job in waiting.items() if not set(_needs(job)) & waiting.keys()]
            assert ready, f"{workflow.name}: jobs need each other"
            for name in ready:
                job = waiting.pop(name)
                for matrix in _matrix(job):
                    done[" ".join([name, *matrix.values()])] = self._job(name, job, data, matrix, done)
        return done

    @property
    def _hosted(self) -> Hosted:
        return Hosted(self.clone, self.scratch / "artifacts")

    def _contexts(self, data: Any, job: Any, matrix: Mapping[str, str], done: Mapping[str, JobRun]) -> dict[str, Any]:
        needs = {name: _together([run for run in done.values() if run.name == name]) for name in _needs(job)}
        github = {
            "token": "a token",
            "ref": "refs/heads/main",
            "ref_name": "main",
            "workflow": data["name"],
            "run_id": "7",
            **self.event,
        }
        return {"github": github, "vars": self.variables, "secrets": {}, "matrix": matrix, "needs": needs, "steps": {}}

    def _job(self, name: str, job: Any, data: Any, matrix: Mapping[str, str], done: Mapping[str, JobRun]) -> JobRun:
        contexts = self._contexts(data, job, matrix, done)
        needed = all(part["result"] == "success" for part in contexts["needs"].values())
        run = JobRun(name, "success")
        if not holds(job.get("if"), contexts, needed):
            run.result = "skipped"
            return run
        self.begin_job()
        files = {variable: self.scratch / variable for variable in FILES}
        for file in files.values():
            file.write_text("")
        contexts["env"] = {
            key: filled(value, contexts) for part in (data, job) for key, value in (part.get("env") or {}).items()
        }
        for step in job["steps"]:
            if holds(step.get("if"), contexts, run.result == "success"):
                (self._script if "run" in step else self._action)(step, run, contexts, files)
        run.outputs = {key: filled(value, contexts) for key, value in (job.get("outputs") or {}).items()}
        run.summary = files["GITHUB_STEP_SUMMARY"].read_text()
        return run

    def _action(self, step: Any, run: JobRun, contexts: dict[str, Any], files: Mapping[str, Path]) -> None:
        given = {key: filled(value, contexts) for key, value in (step.get("with") or {}).items()}
        try:
            outputs = self._hosted.run(step["uses"], given)
        except ActionFailed as error:
            run.printed += f"{step['uses']}: {error}\n"
            run.result = "failure"
            return
        if step.get("id"):
            contexts["steps"][step["id"]] = {"outputs": outputs}

    def _script(self, step: Any, run: JobRun, contexts: dict[str, Any], files: Mapping[str, Path]) -> None:
        script = filled(step["run"], contexts)
        if self.excepted(run.name, script):
            run.left_out.append(script)
            return
        files["GITHUB_OUTPUT"].write_text("")
        own = {key: filled(value, contexts) for key, value in (step.get("env") or {}).items()}
        machine = {key: value for key, value in os.environ.items() if key in KEPT or key.startswith(NETWORK)}
        given = machine | {"CI": "true", "GITHUB_ACTIONS": "true"} | dict(self.environment)
        given |= {variable: str(file) for variable, file in files.items()} | contexts["env"] | own
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=self.clone, env=given, capture_output=True, text=True, check=False)
        run.ran.append(script)
        run.printed += f"$ {script}\n{done.stdout}{done.stderr}"
        contexts["env"].update(_pairs(files["GITHUB_ENV"]))
        if step.get("id"):
            contexts["steps"][step["id"]] = {"outputs": _pairs(files["GITHUB_OUTPUT"])}
        if added := files["GITHUB_PATH"].read_text().split():
            contexts["env"]["PATH"] = ":".join([*reversed(added), given["PATH"]])
        if done.returncode and not step.get("continue-on-error"):
            run.result = "failure"


def _needs(job: Any) -> list[str]:
    needs = job.get("needs") or []
    return [needs] if isinstance(needs, str) else needs


def _together(runs: list[JobRun]) -> dict[str, Any]:
    """The runs of a job with a matrix as one, as other jobs see it."""
    results = [run.result for run in runs if run.result != "success"]
    outputs = {name: value for run in runs for name, value in run.outputs.items()}
    return {"result": results[0] if results else "success", "outputs": outputs}


def _matrix(job: Any) -> Iterator[dict[str, str]]:
    axes = (job.get("strategy") or {}).get("matrix") or {}
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, map(str, values), strict=True))


def _pairs(file: Path) -> dict[str, str]:
    """Lines `name=value`, and values of several lines as `name<<END`."""
    pairs, lines = {}, iter(file.read_text().splitlines())
    for line in lines:
        if "<<" in line and "=" not in line.split("<<")[0]:
            name, _, end = line.partition("<<")
            pairs[name] = "\n".join(itertools.takewhile(end.__ne__, lines))
        elif line:
            name, _, value = line.partition("=")
            pairs[name] = value
    return pairs
