"""Where a fork keeps the home of its loop: as files of one GitHub release, which no cloud account is needed for.

The files of a workflow run (artifacts) end after 90 days and belong to one run; a branch would hold every home for ever.
Files of a release stay until they are deleted, are found by name, and the newest few are enough.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from level1_pipeline.errors import HomeRefused
from level1_pipeline.settings import Settings
from level2_cicd.maintenance.archive import Kept
from level2_cicd.workflows import kept_home
from level2_cicd.workflows.github import gh

RELEASE = "loop-home"  # the release, and its tag
KEPT = 4  # homes; older ones are deleted
FACTS = re.compile(r"home-(\d{4,})\.json")
NOTES = (
    "The home of the control loop that the workflow ct keeps from one run to the next, with its checksums. "
    "To begin again with an empty home, delete this release."
)


def restore(settings: Settings) -> Kept | None:
    """Bring back the home that was kept last; None if there is none yet.

    Raises:
        HomeRefused: what was kept is damaged. Nothing is put in its place: a person decides.
        NoAnswer: GitHub refuses.
    """
    newest = _newest()
    if newest is None:
        return None
    settings.home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home.parent) as name:
        folder = Path(name)
        _download(newest, folder)
        kept = Kept.load(folder / newest)
        _download(kept.archive, folder)
        kept_home.unpack(kept, folder, settings)
    return kept


def keep(settings: Settings) -> Kept:
    """Keep the home as the newest one, and delete the oldest ones.

    The facts are sent after the archive: a run that is killed between them has kept nothing.

    Raises:
        HomeRefused: another run has kept one since this one restored its own, or the audit log is broken.
        NoAnswer: GitHub refuses.
    """
    newest, before = _newest(), kept_home.restored(settings)
    if newest != (before.facts if before else None):
        raise HomeRefused(
            f"{newest or 'no home'} is the newest one that is kept, and this run began with "
            f"{before.facts if before else 'an empty home'}: another run was quicker. Nothing was kept; start this one again"
        )
    with tempfile.TemporaryDirectory(dir=settings.home.parent) as name:
        folder = Path(name)
        kept = kept_home.pack(settings, folder)
        if before is None and not _there():
            gh(
                "release",
                "create",
                RELEASE,
                "--prerelease",
                "--title",
                "The home of the control loop",
                "--notes",
                NOTES,
            )
        for file in (kept.archive, kept.facts):
            gh("release", "upload", RELEASE, str(folder / file), "--clobber")
    for file in _facts()[:-KEPT]:
        for old in (file, file.replace(".json", ".tar.gz")):
            gh("release", "delete-asset", RELEASE, old, "--yes")
    kept_home.go_on_from(kept, settings)
    return kept


def _there() -> bool:
    return RELEASE in {
        release["tagName"] for release in json.loads(gh("release", "list", "--limit", "1000", "--json", "tagName"))
    }


def _facts() -> list[str]:
    """The names of the files with facts, the oldest first."""
    if not _there():
        return []
    assets = json.loads(gh("release", "view", RELEASE, "--json", "assets"))["assets"]
    numbered = [(int(match[1]), asset["name"]) for asset in assets if (match := FACTS.fullmatch(asset["name"]))]
    return [name for _, name in sorted(numbered)]


def _newest() -> str | None:
    return next(reversed(_facts()), None)


def _download(name: str, folder: Path) -> None:
    gh("release", "download", RELEASE, "--pattern", name, "--dir", str(folder))
