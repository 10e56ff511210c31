"""The real way of a release: built from a commit, accepted in staging, deployed in production, and back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from level1_pipeline import problem
from level2_cicd import cli
from level2_cicd.delivery.acceptance import in_home
from level2_cicd.delivery.environments import ACCEPTED, Environment
from tests.support.checkout import UV, git, needs_uv

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.flights, needs_uv, pytest.mark.timeout(1800)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV", UV)
    return tmp_path / "home"


def run(*arguments: str) -> None:
    assert cli.main(["delivery", *arguments]) == 0


def command(environment: Environment, *arguments: str) -> str:
    """A command of the current release."""
    current = environment.current()
    assert current
    done = subprocess.run(
        [str(current.python), "-m", *arguments],
        cwd=environment.home,
        env=in_home(environment.home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_release_goes_through_staging_into_production_and_back(
    home: Path,
    checkout: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    repository = ("--repository", str(checkout))
    run("release", *repository, "--checks", "good")
    run("deploy", "staging")
    staging, production = (Environment.of(home, name) for name in ("staging", "production"))
    first = staging.current()
    assert first
    accepted = staging.noted(ACCEPTED, first.release.id)
    assert accepted
    assert accepted["golden requests"] > 10
    assert accepted["rolled back to"] == "1"
    assert not (staging.home / "acceptance").exists()

    run("approve", "production", "--reason", "a test")
    run("deploy", "production")
    orders = json.loads(command(staging, "level1_pipeline", "history", "--json"))
    assert any(first.release.id in json.dumps(line) for line in orders), "a training by the release is ordered"
    command(staging, "level1_pipeline", "train", "--as-of", "2013-04-01")
    (manifest,) = (staging.home / "bundles" / problem.NAME).glob("*/bundle.json")
    assert json.loads(manifest.read_text())["release"] == first.release.id

    with (checkout / "level1_pipeline/problem.py").open("a") as file:
        file.write("\n# another commit\n")
    git(checkout, "commit", "--quiet", "--all", "--message", "another")
    run("release", *repository, "--checks", "good")
    assert cli.main(["delivery", "deploy", "production"]) == 1
    assert "did not pass staging" in capsys.readouterr().err
    run("deploy", "staging")
    second = staging.current()
    assert second
    assert staging.noted(ACCEPTED, second.release.id)["latency ratio"] < 2  # type: ignore[index]
    run("approve", "production", "--reason", "a test")
    run("deploy", "production")
    run("rollback", "production")
    now = production.current()
    assert now
    assert now.release.id == first.release.id
