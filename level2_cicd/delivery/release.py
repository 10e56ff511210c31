"""A release is code and its environment, as one folder that is named by its content.

It holds the wheel, the locks with the hashes of all packages, the list of components, the data contract, and where it
comes from. The name is the SHA-256 of the digests of its files: the same commit gives the same release, and a file that
was changed afterwards is noticed. A release makes models; it holds none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.errors import ReleaseRefused

INDEX = "release.json"
PROVENANCE = "provenance.json"  # says when and by whom: it differs from build to build and does not count for the name
CONTRACT, COMPONENTS = "contract.schema.json", "components.cdx.json"
PIPELINE_LOCK, SERVING_LOCK = "requirements-pipeline.lock", "requirements-serving.lock"
PYTHON = ".python-version"  # which Python the checks ran with, and the release is installed with
BUILD_CONSTRAINTS = "build-constraints.txt"
ID_LENGTH = 16  # hexadecimal digits


@dataclass(frozen=True)
class Release:
    """A release folder whose files are what its index says."""

    folder: Path
    commit: str
    files: Mapping[str, str]  # SHA-256 by name

    @property
    def id(self) -> str:
        """The name of its content."""
        return content_id(self.files)

    @property
    def python(self) -> str:
        """The version of Python that it is for, such as `3.11`."""
        return (self.folder / PYTHON).read_text(encoding="utf-8").strip()

    @property
    def wheel(self) -> Path:
        """Our code."""
        return next(self.folder / name for name in self.files if name.endswith(".whl"))


def content_id(files: Mapping[str, str]) -> str:
    """A name for files with these digests."""
    text = json.dumps([problem.NAME, *sorted(files.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_index(folder: Path, commit: str) -> Release:
    """List the files of a folder, which makes it a release."""
    files = {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name not in (INDEX, PROVENANCE)}
    index = {"problem": problem.NAME, "id": content_id(files), "commit": commit, "files": files}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return Release(folder, commit, files)


def open_release(folder: Path) -> Release:
    """Read a release and check each of its files.

    Raises:
        ReleaseRefused: it is incomplete, was changed, or is for another problem.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        release = Release(folder, index["commit"], index["files"])
        owner, name = index["problem"], index["id"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseRefused(f"{folder} is no release ({error}); make one with: make release") from error
    if owner != problem.NAME:
        raise ReleaseRefused(f"the release {name} is for the problem {owner}, and this is {problem.NAME}")
    changed = [file for file, sha in release.files.items() if not _is_as_listed(folder / file, sha)]
    if name != release.id:
        changed.append(INDEX)
    if changed:
        raise ReleaseRefused(
            f"the release {name} was changed after it was made: {', '.join(sorted(changed))}; copy it again from where "
            "it was made, or make a new one"
        )
    return release


def _is_as_listed(file: Path, sha: str) -> bool:
    return file.is_file() and not file.is_symlink() and digest(file) == sha
