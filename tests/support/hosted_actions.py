"""The hosted actions that our workflows use, as far as a later step or job sees what they did.

Artifacts are folders beside the workspace. What each action does, refuses and leaves out follows its documentation: an
upload takes no hidden file unless it is told to and no name twice, and a download of a name that is not there fails.
"""

from __future__ import annotations

import fnmatch
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGES = "github-pages"  # the artifact that deploy-pages publishes


class ActionFailed(Exception):
    """The action ends its step with a failure, as the one on GitHub would."""


class NotEmulated(Exception):
    """A workflow uses an action, an input or a form of path that nobody emulates yet: teach it, or the test would guess."""


@dataclass(frozen=True)
class Hosted:
    """Runs actions for one run of a workflow."""

    workspace: Path
    artifacts: Path

    def run(self, uses: str, given: Mapping[str, str]) -> dict[str, str]:
        """Run an action, such as `actions/checkout@v5`, and return its outputs.

        Raises:
            ActionFailed: it fails.
            NotEmulated: it is not known here, or an input of it is not.
        """
        name = uses.partition("@")[0]
        if name not in ACTIONS:
            raise NotEmulated(f"the action {name}")
        action, inputs = ACTIONS[name]
        if unknown := sorted(given.keys() - set(inputs.split())):
            raise NotEmulated(f"the inputs {unknown} of {name}")
        return action(self, given) or {}


def _checkout(hosted: Hosted, given: Mapping[str, str]) -> None:
    """Hide the commits that are older than what is fetched; 0 fetches all."""
    depth, oldest = int(given.get("fetch-depth", "1")), ["HEAD"]
    shallow = hosted.workspace / ".git" / "shallow"  # where git keeps the commits whose parents were not fetched
    shallow.unlink(missing_ok=True)
    for _ in range(depth - 1):
        oldest = _commits(hosted, *(f"{commit}^@" for commit in oldest))
    if depth and oldest:
        shallow.write_text("".join(f"{commit}\n" for commit in _commits(hosted, *oldest)))


def _commits(hosted: Hosted, *revisions: str) -> list[str]:
    command = ["git", "rev-parse", *revisions]
    return subprocess.run(command, cwd=hosted.workspace, capture_output=True, text=True, check=True).stdout.split()


def _upload(hosted: Hosted, given: Mapping[str, str]) -> None:
    path, target = _path(hosted, given["path"]), hosted.artifacts / given.get("name", "artifact")
    files = list(_all(path) if given.get("include-hidden-files") == "true" else _visible(path))
    if not files and given.get("if-no-files-found") == "error":
        raise ActionFailed(f"no files were found with the path {given['path']}")
    if files and target.exists():
        raise ActionFailed(f"an artifact {target.name} exists already in this run")
    _copy(path, files, target)


def _download(hosted: Hosted, given: Mapping[str, str]) -> None:
    folder = _path(hosted, given.get("path", "."))
    if "name" in given and not (hosted.artifacts / given["name"]).is_dir():
        raise ActionFailed(f"artifact not found for name: {given['name']}")
    for source in sorted(hosted.artifacts.iterdir()):
        if source.name == given.get("name"):
            _copy(source, list(_all(source)), folder)
        elif "name" not in given and fnmatch.fnmatch(source.name, given.get("pattern", "*")):
            _copy(source, list(_all(source)), folder / source.name)


def _attest(hosted: Hosted, given: Mapping[str, str]) -> None:
    if not list(hosted.workspace.glob(given["subject-path"])):
        raise ActionFailed(f"no subject was found: {given['subject-path']}")


def _upload_pages(hosted: Hosted, given: Mapping[str, str]) -> None:
    source = _path(hosted, given["path"])
    if not (source / "index.html").is_file():
        raise ActionFailed(f"there is no page in {given['path']}")
    _copy(source, list(_all(source)), hosted.artifacts / PAGES)


def _deploy_pages(hosted: Hosted, given: Mapping[str, str]) -> dict[str, str]:
    if not (hosted.artifacts / PAGES).is_dir():
        raise ActionFailed(f"there is no artifact {PAGES} to publish")
    return {"page_url": "https://owner.github.io/repository/"}


def _nothing(hosted: Hosted, given: Mapping[str, str]) -> None:
    """What it does is here already: the Python of the clone."""


Action = Callable[[Hosted, Mapping[str, str]], dict[str, str] | None]
# With the inputs that are understood here.
ACTIONS: dict[str, tuple[Action, str]] = {
    "actions/checkout": (_checkout, "persist-credentials fetch-depth"),
    "actions/setup-python": (_nothing, "python-version"),
    "actions/attest-build-provenance": (_attest, "subject-path"),
    "actions/upload-artifact": (_upload, "name path if-no-files-found include-hidden-files"),
    "actions/download-artifact": (_download, "name path pattern"),
    "actions/upload-pages-artifact": (_upload_pages, "path"),
    "actions/deploy-pages": (_deploy_pages, ""),
}


def _path(hosted: Hosted, text: str) -> Path:
    if set(text) & set("*?[]!\n"):
        raise NotEmulated(f"a path of several files: {text}")
    return hosted.workspace / text


def _all(path: Path) -> Iterator[Path]:
    return (file for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _visible(path: Path) -> Iterator[Path]:
    """Below the path that was named nothing hidden is taken; the path itself may lie in a hidden folder."""
    for file in _all(path):
        below = file.relative_to(path).parts or (file.name,)
        if not any(part.startswith(".") for part in (path.name, *below)):
            yield file


def _copy(source: Path, files: list[Path], target: Path) -> None:
    """Content and names only: an artifact keeps neither links nor permissions."""
    root = source.parent if source.is_file() else source
    for file in files:
        copy = target / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
