"""`make release`: from a clean commit to a release folder.

Only what is committed gets in: the wheel is built from an export of the commit, with the build tools of
build-constraints.txt. The checks run in the checkout before that; what they said stands in the provenance.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from level1_pipeline.errors import ReleaseRefused
from level2_cicd.delivery import components, provenance
from level2_cicd.delivery.checks import CheckResult, run_checks
from level2_cicd.delivery.release import (
    BUILD_CONSTRAINTS,
    COMPONENTS,
    CONTRACT,
    PIPELINE_LOCK,
    PROVENANCE,
    PYTHON,
    SERVING_LOCK,
    Release,
    write_index,
)

PRINT_CONTRACT = (
    "import json; from level1_pipeline.problem import Record; "
    "print(json.dumps(Record.model_json_schema(), indent=2, sort_keys=True))"
)
REPRODUCIBLE_UMASK = 0o022  # the wheel holds the permissions of its files


def build(repository: Path, releases: Path, checks: Sequence[str], uv: str) -> tuple[Release, list[CheckResult]]:
    """Make a release of the checked-out commit.

    Args:
        repository: a git checkout without changes.
        releases: the folder that the release's folder is put into.
        checks: targets of make that must succeed first.
        uv: the program that builds the wheel.

    Raises:
        ReleaseRefused: the checkout has changes, a check fails, or the wheel cannot be built.
    """
    started = datetime.now(UTC)
    commit = clean_commit(repository)
    results = run_checks(repository, checks)
    if clean_commit(repository) != commit:
        raise ReleaseRefused("another commit was checked out while the checks ran; run make release again")
    releases.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=releases, prefix=".making-") as work:
        source, folder = Path(work) / "source", Path(work) / "release"
        _export(repository, commit, source)
        committed_at = _committed_at(repository, commit)
        _build_wheel(source, folder, uv, int(committed_at.timestamp()))
        for name in (PIPELINE_LOCK, SERVING_LOCK, BUILD_CONSTRAINTS):
            shutil.copyfile(source / name, folder / name)
        _write(folder / CONTRACT, _contract(source))
        _write(folder / PYTHON, f"{sys.version_info.major}.{sys.version_info.minor}")
        lock = (folder / PIPELINE_LOCK).read_text(encoding="utf-8")
        _write(folder / COMPONENTS, components.as_json(lock, commit, committed_at))
        release = write_index(folder, commit)
        _write(folder / PROVENANCE, provenance.statement(release, results, started))
        target = releases / release.id
        if not target.exists():
            os.replace(folder, target)
        elif results:  # the same commit gives the same release, which may have been made without checks
            os.replace(folder / PROVENANCE, target / PROVENANCE)
    return Release(target, commit, release.files), results


def head(repository: Path) -> tuple[str, datetime]:
    """The commit that is checked out, whatever files differ from it, and when it was made.

    Raises:
        ReleaseRefused: this is no git checkout.
    """
    commit = _git(repository, "rev-parse", "HEAD")
    return commit, _committed_at(repository, commit)


def _committed_at(repository: Path, commit: str) -> datetime:
    return datetime.fromtimestamp(int(_git(repository, "show", "-s", "--format=%ct", commit)), UTC)


def clean_commit(repository: Path) -> str:
    """The commit that is checked out.

    Raises:
        ReleaseRefused: this is no git checkout, or files differ from the commit.
    """
    changed = _git(repository, "status", "--porcelain").splitlines()
    if changed:
        first = ", ".join(line[3:] for line in changed[:3])
        raise ReleaseRefused(
            f"{len(changed)} files differ from the commit ({first}); a release is made of what is committed: commit "
            "them, or put them aside with git stash -u"
        )
    return _git(repository, "rev-parse", "HEAD")


def _git(repository: Path, *arguments: str) -> str:
    return _git_bytes(repository, *arguments).decode().strip("\n")


def _git_bytes(repository: Path, *arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise ReleaseRefused("git is not installed; a release is made of a git commit") from error
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()
        raise ReleaseRefused(f"a release is made of a git commit, and git says: {message}") from error


def _export(repository: Path, commit: str, target: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_git_bytes(repository, "archive", commit))) as archive:
        archive.extractall(target, filter="data")


def _build_wheel(source: Path, target: Path, uv: str, committed_at: int) -> None:
    """With the time of the commit in all files, and usual permissions: so the bytes depend on the commit alone."""
    command = [uv, "build", "--quiet", "--wheel", "--out-dir", str(target)]
    command += ["--build-constraints", BUILD_CONSTRAINTS, "--require-hashes", "."]
    env = os.environ | {"SOURCE_DATE_EPOCH": str(committed_at)}
    try:
        done = subprocess.run(command, cwd=source, env=env, umask=REPRODUCIBLE_UMASK, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ReleaseRefused(f"{uv} is not there; make setup brings it") from error
    if done.returncode:
        raise ReleaseRefused(f"the wheel cannot be built: {done.stderr.strip()[-500:]}")
    (target / ".gitignore").unlink(missing_ok=True)  # uv's


def _contract(source: Path) -> str:
    """The JSON schema of the Record, as the released code states it."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_CONTRACT], cwd=source, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReleaseRefused(f"problem.py cannot be imported: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8")
