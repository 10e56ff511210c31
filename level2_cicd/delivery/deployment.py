"""A deployment: install, check the store, accept, switch, and order a training by the new release.

Until the switch, which is one rename, the running release and its state are untouched: a deployment that is killed or
fails leaves them as they were, and the same command goes on. A release moves code; a model moves by a rollout.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import sqlalchemy as sa

from level1_pipeline.errors import NotFound, ReleaseRefused, StoreRefused
from level2_cicd.delivery import provenance
from level2_cicd.delivery.acceptance import Acceptance, in_home
from level2_cicd.delivery.environments import ACCEPTED, APPROVED, ORDERED, STAGING, Environment, Installed
from level2_cicd.delivery.release import Release

# What a release does with the store of the environment's settings, before it may take over.
SETTINGS = (
    "import pathlib, sys; from level1_pipeline.command_line import open_settings; store = open_settings().operations"
)
OPEN_STORE = f"{SETTINGS}; from level1_pipeline.store import schema; schema.rehearse(store)"
BACK_UP = (
    f"{SETTINGS}; from level2_cicd.delivery import deployment; deployment.back_up(store, pathlib.Path(sys.argv[1]))"
)


def stage(release: Release, home: Path, uv: str, as_of: date, progress: Callable[[str], None]) -> Installed:
    """Install a release in staging, accept it, and make it current there.

    Raises:
        ReleaseRefused: the release does not do what it should; the current one stays.
    """
    staging = Environment.of(home, STAGING)
    progress(f"install {release.id} in {staging.home}")
    installed = staging.install(release, uv)
    check_store(installed, staging)
    scratch = staging.home / "acceptance"
    facts = Acceptance(installed, staging.current(), staging.home, scratch, as_of, progress).run()
    staging.note(ACCEPTED, release.id, facts | {"at": datetime.now(UTC).isoformat(), "files": dict(release.files)})
    _take_over(staging, installed, progress)
    return installed


def promote(
    release: Release, home: Path, name: str, uv: str, needs_approval: bool, progress: Callable[[str], None]
) -> Installed:
    """Install a release that passed staging in another environment, and make it current there.

    Raises:
        ReleaseRefused: staging did not accept exactly these bytes, its checks did not run, or nobody approved.
    """
    environment = Environment.of(home, name)
    accepted = Environment.of(home, STAGING).noted(ACCEPTED, release.id)
    if accepted is None or accepted["files"] != dict(release.files):
        raise ReleaseRefused(f"the release {release.id} did not pass staging; first: make deploy ENV={STAGING}")
    if not provenance.tested(release):
        raise ReleaseRefused(f"no checks ran when the release {release.id} was made; make it again with: make release")
    if needs_approval and environment.noted(APPROVED, release.id) is None:
        raise ReleaseRefused(
            f"nobody approved the release {release.id} for {name}; a person does: make approve-release"
        )
    progress(f"install {release.id} in {environment.home}")
    installed = environment.install(release, uv)
    check_store(installed, environment)
    _take_over(environment, installed, progress)
    return installed


def roll_back(home: Path, name: str) -> tuple[Installed, Installed]:
    """Make the release before the current one current again; the models that are served stay. Seconds, no installation.

    Returns:
        The release that ran, and the one that runs now.

    Raises:
        NotFound: there is none before it.
        ReleaseRefused: it cannot read the store, which a newer release has migrated.
    """
    environment = Environment.of(home, name)
    current, before = environment.current(), environment.current("previous")
    if current is None or before is None:
        raise NotFound(f"{name} has no release before the current one, so there is nothing to go back to")
    check_store(before, environment)
    environment.switch(before)
    _register(environment, before)
    return current, before


def check_store(installed: Installed, environment: Environment) -> None:
    """Let a release open, and migrate, the environment's store in a transaction that is taken back.

    Raises:
        ReleaseRefused: it cannot; the message holds its reason.
    """
    if reason := _failed(environment, installed, "-c", OPEN_STORE):
        raise ReleaseRefused(
            f"the release {installed.release.id} cannot read the store of {environment.name} ({reason}); the current "
            f"release stays. Backups of the store lie in {environment.home / 'backups'}"
        )


def _take_over(environment: Environment, installed: Installed, progress: Callable[[str], None]) -> None:
    """Keep a copy of the store, switch, order a training, and register; to do it again changes nothing."""
    before, name = environment.current(), installed.release.id
    if before is None or before.release.id != name:
        copy = environment.home / "backups" / f"operations-before-{name}"
        if reason := _failed(environment, installed, "-c", BACK_UP, str(copy)):
            raise ReleaseRefused(
                f"the store of {environment.name} cannot be backed up, so nothing was switched: {reason}"
            )
        environment.switch(installed)
        progress(f"{environment.name} runs {name} now")
    if environment.noted(ORDERED, name) is None:
        _order_training(environment, installed)
    _register(environment, installed)


def _order_training(environment: Environment, installed: Installed) -> None:
    """Fire the trigger *release*: the new pipeline trains on all history, and its challenger enters the rollout."""
    reason = f"release {installed.release.id} of commit {installed.release.commit[:12]}"
    if failure := _failed(environment, installed, "-m", "level2_cicd", "trigger", "release", "--reason", reason):
        raise ReleaseRefused(
            f"{environment.name} runs the release {installed.release.id}, and its training could not be ordered: "
            f"{failure}; the same command tries it again"
        )
    environment.note(ORDERED, installed.release.id, {"at": datetime.now(UTC).isoformat(), "reason": reason})


def _register(environment: Environment, installed: Installed) -> None:
    """Let the environment's Prefect server, if it has one, run this release from now on."""
    command = ["-m", "level1_pipeline", "worker", "--only-register", "--promote-to", "challenger"]
    if reason := _failed(environment, installed, *command):
        raise ReleaseRefused(
            f"{environment.name} runs the release {installed.release.id}, and its Prefect server runs another one: "
            f"{reason}; the same command tries it again"
        )


def _failed(environment: Environment, installed: Installed, *arguments: str) -> str | None:
    """Run the Python of a release in the environment, with the settings of its file `.env`; why it failed, or None."""
    command, env = [str(installed.python), *arguments], in_home(environment.home)
    done = subprocess.run(command, cwd=environment.home, env=env, capture_output=True, text=True, check=False)
    return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}" if done.returncode else None


def back_up(store: str, copy: Path) -> Path | None:
    """A consistent copy, also while others write: the store of a URL to `copy` with the ending `.db` (SQLite) or `.sql` (PostgreSQL).

    Returns:
        The file; None where there is no store yet.

    Raises:
        StoreRefused: there is no pg_dump, or it failed.
    """
    url = sa.make_url(store)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return None
    copy.parent.mkdir(parents=True, exist_ok=True)
    if url.get_backend_name() != "sqlite":
        return _dump(url, copy.with_name(f"{copy.name}.sql"))
    file = copy.with_name(f"{copy.name}.db")
    with closing(sqlite3.connect(str(url.database))) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)
    return file


def _dump(url: sa.URL, file: Path) -> Path:
    if not shutil.which("pg_dump"):
        raise StoreRefused(
            "the store lies in PostgreSQL, and there is no pg_dump here to back it up: install PostgreSQL's client"
        )
    # In variables, because everybody on the machine can read a command line.
    parts = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
    parts |= {"PGDATABASE": url.database}
    env = os.environ | {name: str(value) for name, value in parts.items() if value is not None}
    done = subprocess.run(["pg_dump", f"--file={file}"], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StoreRefused(f"pg_dump cannot back up the store: {done.stderr.strip()}")
    return file
