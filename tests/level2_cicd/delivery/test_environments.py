"""An environment switches in one rename, goes back in one, and lets in only what staging accepted and a person approved."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from level1_pipeline.errors import NotFound, ReleaseRefused
from level2_cicd import cli
from level2_cicd.delivery import deployment
from level2_cicd.delivery.environments import ACCEPTED, APPROVED, INSTALLED, Environment, Installed
from level2_cicd.delivery.release import PROVENANCE, PYTHON, Release, open_release, write_index
from tests.support import ROOT

UV = "no-uv-is-needed"
TESTED = {"predicate": {"runDetails": {"byproducts": [{"annotations": {"target": "test", "passed": 1, "skipped": 0}}]}}}


def made(folder: Path, content: str, tested: bool = True, python: str = "3.11") -> Release:
    """A release of almost nothing."""
    folder.mkdir(parents=True)
    (folder / "a.whl").write_text(content)
    (folder / PYTHON).write_text(python)
    release = write_index(folder, "commit-" + content)
    (folder / PROVENANCE).write_text(json.dumps(TESTED if tested else {}))
    return Release(folder.rename(folder.parent / release.id), release.commit, release.files)


def installed(environment: Environment, release: Release, python: str = "#!/bin/sh\nexit 0\n") -> Installed:
    """As if it had been installed: its interpreter is a script."""
    folder = environment.home / "releases" / release.id
    (folder / "venv/bin").mkdir(parents=True)
    for name in (*release.files, "release.json", PROVENANCE):
        (folder / name).write_bytes((release.folder / name).read_bytes())
    (folder / "venv/bin/python").write_text(python)
    (folder / "venv/bin/python").chmod(0o755)
    (folder / INSTALLED).touch()
    return environment.installed(release.id)


@pytest.fixture
def first(tmp_path: Path) -> Release:
    return made(tmp_path / "releases" / "x", "first")


@pytest.fixture
def second(tmp_path: Path) -> Release:
    return made(tmp_path / "releases" / "y", "second")


@pytest.fixture
def production(tmp_path: Path) -> Environment:
    return Environment.of(tmp_path, "production")


def accept(home: Path, release: Release) -> None:
    Environment.of(home, "staging").note(ACCEPTED, release.id, {"files": dict(release.files)})


def deploy(home: Path, release: Release, needs_approval: bool = False) -> None:
    deployment.promote(release, home, "production", UV, needs_approval, lambda _: None)


def current(environment: Environment) -> str | None:
    now = environment.current()
    return now.release.id if now else None


def test_a_switch_makes_the_release_before_the_previous_one(
    production: Environment, first: Release, second: Release
) -> None:
    assert current(production) is None
    production.switch(installed(production, first))
    production.switch(installed(production, second))
    before = production.current("previous")
    assert (current(production), before and before.release.id) == (second.id, first.id)
    production.switch(production.installed(second.id))
    assert production.current("previous") == before, "to switch to itself changes nothing"


def test_a_home_that_was_moved_still_runs_its_release(production: Environment, first: Release, tmp_path: Path) -> None:
    production.switch(installed(production, first))
    moved = production.home.rename(tmp_path / "moved")
    assert current(Environment("production", moved)) == first.id


@pytest.mark.evidence("Checklist 11", "Checklist 15", "Level 2: releases")
def test_production_takes_only_what_staging_accepted_byte_for_byte(
    production: Environment, first: Release, second: Release, tmp_path: Path
) -> None:
    for release in (first, second):
        installed(production, release)
    with pytest.raises(ReleaseRefused, match="did not pass staging"):
        deploy(tmp_path, first)
    Environment.of(tmp_path, "staging").note(ACCEPTED, first.id, {"files": dict(second.files)})
    with pytest.raises(ReleaseRefused, match="did not pass staging"):
        deploy(tmp_path, first)
    accept(tmp_path, first)
    deploy(tmp_path, first)
    assert current(production) == first.id


@pytest.mark.evidence("Checklist 15", "Level 2: releases")
def test_production_takes_only_what_a_person_approved_unless_the_policy_says_otherwise(
    production: Environment, first: Release, tmp_path: Path
) -> None:
    installed(production, first)
    accept(tmp_path, first)
    with pytest.raises(ReleaseRefused, match="nobody approved"):
        deploy(tmp_path, first, needs_approval=True)
    assert current(production) is None
    production.note(APPROVED, first.id, {"who": "tester"})
    deploy(tmp_path, first, needs_approval=True)
    assert current(production) == first.id


def test_a_release_without_checks_does_not_enter_production(production: Environment, tmp_path: Path) -> None:
    release = made(tmp_path / "releases" / "z", "untested", tested=False)
    installed(production, release)
    accept(tmp_path, release)
    with pytest.raises(ReleaseRefused, match="no checks ran"):
        deploy(tmp_path, release)


def test_a_release_that_cannot_read_the_store_is_refused_before_the_switch(
    production: Environment, first: Release, second: Release, tmp_path: Path
) -> None:
    from level1_pipeline.store.database import Store

    production.switch(installed(production, first))
    store = Store(f"sqlite:///{production.home / 'operations.db'}")
    store.route("problem")
    store.close()
    before = (production.home / "operations.db").read_bytes()
    installed(production, second, "#!/bin/sh\necho 'StoreRefused: a newer release has used it' >&2\nexit 1\n")
    accept(tmp_path, second)
    with pytest.raises(ReleaseRefused, match=r"cannot read the store of production .*a newer release has used it"):
        deploy(tmp_path, second)
    assert current(production) == first.id
    assert (production.home / "operations.db").read_bytes() == before


def test_a_release_that_cannot_be_registered_is_told_and_registered_by_the_next_deployment(
    production: Environment, first: Release, tmp_path: Path
) -> None:
    there = installed(production, first, "#!/bin/sh\ncase $* in *worker*) echo 'NoAnswer: gone' >&2; exit 1;; esac\n")
    accept(tmp_path, first)
    with pytest.raises(ReleaseRefused, match="its Prefect server runs another one: NoAnswer: gone"):
        deploy(tmp_path, first)
    there.python.write_text('#!/bin/sh\necho "$@" >> "$MLOPS_HOME/called"\n')
    deploy(tmp_path, first)
    assert "worker --only-register --promote-to challenger" in (production.home / "called").read_text()


def test_a_store_that_cannot_be_backed_up_keeps_the_old_release(
    production: Environment, first: Release, second: Release, tmp_path: Path
) -> None:
    production.switch(installed(production, first))
    installed(production, second, "#!/bin/sh\ncase $* in *back_up*) echo 'OSError: disk full' >&2; exit 1;; esac\n")
    accept(tmp_path, second)
    with pytest.raises(ReleaseRefused, match="cannot be backed up, so nothing was switched: OSError: disk full"):
        deploy(tmp_path, second)
    assert current(production) == first.id


def test_the_way_back_touches_no_model_and_a_store_that_the_old_release_cannot_read_is_named(
    production: Environment, first: Release, second: Release, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="no release before the current one"):
        deployment.roll_back(tmp_path, "production")
    for release in (first, second):
        installed(production, release)
        accept(tmp_path, release)
        deploy(tmp_path, release)
    before, now = deployment.roll_back(tmp_path, "production")
    assert (before.release.id, now.release.id, current(production)) == (second.id, first.id, first.id)


def test_a_training_is_ordered_once_however_often_a_deployment_is_repeated(
    production: Environment, first: Release, tmp_path: Path
) -> None:
    counting = '#!/bin/sh\necho "$@" >> "$MLOPS_HOME/called"\n'
    installed(production, first, counting)
    accept(tmp_path, first)
    for _ in range(3):
        deploy(tmp_path, first)
    orders = [line for line in (production.home / "called").read_text().splitlines() if "trigger release" in line]
    assert len(orders) == 1


def test_an_order_that_fails_is_told_and_made_by_the_next_deployment(
    production: Environment, first: Release, tmp_path: Path
) -> None:
    fails = "#!/bin/sh\ncase $* in *trigger*) echo 'the disk is full' >&2; exit 1;; esac\n"
    there = installed(production, first, fails)
    accept(tmp_path, first)
    with pytest.raises(ReleaseRefused, match="could not be ordered: the disk is full"):
        deploy(tmp_path, first)
    there.python.write_text('#!/bin/sh\ntouch "$MLOPS_HOME/ordered-now"\n')
    deploy(tmp_path, first)
    assert (production.home / "ordered-now").exists()


# One process imports the pipeline; each deployment is a child of it that is killed at the step of its line.
KILLED_AT = """
import os, pathlib, shutil, signal, subprocess, sys
from level2_cicd.delivery import deployment, release

left = 0

def dies(function):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return counted

def deploy(home, step):
    global left
    sys.stdout = sys.stderr = open(os.devnull, "w")
    left = step
    for owner, name in (
        (os, "replace"), (os, "mkdir"), (shutil, "copyfile"), (shutil, "copytree"), (subprocess, "run"),
        (pathlib.Path, "symlink_to"), (pathlib.Path, "touch"), (pathlib.Path, "unlink"),
    ):
        setattr(owner, name, dies(getattr(owner, name)))
    opened = release.open_release(pathlib.Path(sys.argv[1]))
    deployment.promote(opened, pathlib.Path(home), "production", sys.argv[2], False, print)

for line in sys.stdin:
    step, home = line.rstrip().split(" ", 1)
    child = os.fork()
    if child == 0:
        try:
            deploy(home, int(step))
        except BaseException:
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
FAKE_UV = """#!/bin/sh
if [ "$1" = venv ]; then
  mkdir -p "$4/bin"
  printf '#!/bin/sh\\necho "$@" >> "$MLOPS_HOME/called"\\n' > "$4/bin/python"
  chmod +x "$4/bin/python"
fi
"""


@pytest.mark.slow
def test_killed_at_any_step_the_old_release_runs_and_the_same_command_goes_on(
    production: Environment, first: Release, second: Release, tmp_path: Path
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(FAKE_UV)
    uv.chmod(0o755)
    production.switch(installed(production, first))
    accept(tmp_path, second)

    command = [sys.executable, "-c", KILLED_AT, str(second.folder), str(uv)]
    killed: list[str | None] = []
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout

        def run(home: Path, step: int) -> int:
            print(step, home, file=process.stdin, flush=True)
            return int(process.stdout.readline())  # type: ignore[union-attr]

        for step in itertools.count(1):
            home = tmp_path / f"killed-{step}"
            shutil.copytree(tmp_path / "environments", home / "environments", symlinks=True)
            there = Environment.of(home, "production")
            code = run(home, step)
            if code == 0:
                break
            assert code == -signal.SIGKILL
            killed.append(current(there))
            assert run(home, 10_000) == 0, "the same command goes on"
            assert current(there) == second.id
            orders = [line for line in (there.home / "called").read_text().splitlines() if "trigger release" in line]
            assert len(orders) in (1, 2), "a kill between an order and its note repeats it"
    switched = killed.index(second.id)
    assert switched > 10
    assert set(killed[:switched]) == {first.id}
    assert set(killed[switched:]) == {second.id}


NOTED = """#!/bin/sh
echo "$@" >> "$MLOPS_HOME/called"
[ "$1" = venv ] && mkdir -p "$4/bin" && touch "$4/bin/python"
exit 0
"""


def test_a_release_is_installed_with_its_python_and_where_there_is_a_wheelhouse_from_that_alone(
    production: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = made(tmp_path / "releases" / "z", "content", python="3.99")
    (tmp_path / "uv").write_text(NOTED)
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    (tmp_path / "wheelhouse").mkdir()
    production.install(release, str(tmp_path / "uv"))
    venv, sync, _ = (tmp_path / "called").read_text().splitlines()
    assert venv.startswith("venv --python 3.99 ")
    assert f"--no-index --find-links {tmp_path / 'wheelhouse'}" in sync
    assert "--require-hashes" in sync


def test_an_installation_that_was_cut_off_is_made_again(
    production: Environment, first: Release, tmp_path: Path
) -> None:
    (production.home / "releases" / first.id).mkdir(parents=True)
    with pytest.raises(NotFound, match="is not installed"):
        production.installed(first.id)
    with pytest.raises((ReleaseRefused, FileNotFoundError)):
        production.install(first, str(tmp_path / "no-uv"))
    assert open_release(production.home / "releases" / first.id).id == first.id


def test_the_commands_say_what_came_out(
    production: Environment,
    first: Release,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from level1_pipeline import problem

    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["delivery", "deploy", "production"]) == 1
    assert "make release" in capsys.readouterr().err
    (tmp_path / "releases" / problem.NAME).mkdir()
    os.rename(first.folder, tmp_path / "releases" / problem.NAME / first.id)
    installed(production, open_release(tmp_path / "releases" / problem.NAME / first.id))
    accept(tmp_path, first)
    assert cli.main(["delivery", "deploy", "production"]) == 1
    assert "nobody approved" in capsys.readouterr().err
    assert cli.main(["delivery", "approve", "production", "--reason", "looked at it"]) == 0
    assert cli.main(["delivery", "deploy", "production"]) == 0
    assert f"production runs {first.id}" in capsys.readouterr().out.splitlines()[-1]
    assert cli.main(["delivery", "rollback", "production"]) == 1
