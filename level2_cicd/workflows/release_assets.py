"""Where a fork keeps the home of its loop: as files of one GitHub release, which no cloud account is needed for.

The files of a workflow run (artifacts) end after 90 days and belong to one run; a branch would hold every home for ever.
Files of a release stay until they are deleted, are found by name, and the newest few are enough.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from level1_pipeline.errors import HomeRefused, NoAnswer
from level1_pipeline.settings import Settings
from level2_cicd.maintenance.archive import Kept
from level2_cicd.workflows import kept_home
from level2_cicd.workflows.github import gh

RELEASE = "loop-home"  # the release, and its tag
KEPT = 4  # homes; older ones are deleted
ASSET = re.compile(r"home-(\d{4,})(?:-\w+)?\.(json|tar\.gz)")
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
    kept = _newest()
    if kept is None:
        return None
    settings.home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home.parent) as name:
        folder = Path(name)
        archive = _archive(kept) if _archive(kept) in _assets() else kept.archive
        _download(archive, folder)
        (folder / archive).rename(folder / kept.archive)
        kept_home.unpack(kept, folder, settings)
    return kept


def keep(settings: Settings) -> Kept:
    """Keep the home as the newest one, and delete the oldest ones.

    The archive is sent first, under a name of its own content, so that no other run writes to the same name. The facts
    make it count: GitHub takes a name only once, so of two runs that keep at the same moment one is refused. A run that is
    killed between the two has kept nothing.

    Raises:
        HomeRefused: another run has kept one since this one restored its own, or the audit log is broken.
        NoAnswer: GitHub refuses.
    """
    before = kept_home.restored(settings)
    _refuse_another(before)
    with tempfile.TemporaryDirectory(dir=settings.home.parent) as name:
        folder = Path(name)
        kept = kept_home.pack(settings, folder)
        archive = (folder / kept.archive).rename(folder / _archive(kept))
        try:
            if before is None and not _there():
                _create()
            gh("release", "upload", RELEASE, str(archive), "--clobber")
            gh("release", "upload", RELEASE, str(folder / kept.facts))
        except NoAnswer:
            _refuse_another(before)
            raise
    _delete_up_to(kept.number - KEPT)
    kept_home.go_on_from(kept, settings)
    return kept


def _refuse_another(before: Kept | None) -> None:
    newest = _newest()
    if newest != before:
        raise HomeRefused(
            f"{_named(newest)} is the newest one that is kept, and this run began with {_named(before)}: another run was "
            "quicker. Nothing was kept; start this one again"
        )


def _named(kept: Kept | None) -> str:
    return f"home {kept.number} ({kept.sha256[:8]})" if kept else "no home"


def _archive(kept: Kept) -> str:
    """The name of its archive in the release; an older one has the name that it has in a folder."""
    return f"home-{kept.number:04d}-{kept.sha256[:12]}.tar.gz"


def _create() -> None:
    about = ("--title", "The home of the control loop", "--notes", NOTES)
    gh("release", "create", RELEASE, "--prerelease", *about)


def _there() -> bool:
    return RELEASE in {
        release["tagName"] for release in json.loads(gh("release", "list", "--limit", "1000", "--json", "tagName"))
    }


def _assets() -> dict[str, int]:
    """The files of homes that are kept, each with the number of its home; the oldest first, and facts before archives."""
    if not _there():
        return {}
    listed = json.loads(gh("release", "view", RELEASE, "--json", "assets"))["assets"]
    numbers = {asset["name"]: int(match[1]) for asset in listed if (match := ASSET.fullmatch(asset["name"]))}
    return dict(sorted(numbers.items(), key=lambda item: (item[1], not item[0].endswith(".json"))))


def _newest() -> Kept | None:
    facts = [name for name in _assets() if name.endswith(".json")]
    if not facts:
        return None
    with tempfile.TemporaryDirectory() as folder:
        _download(facts[-1], Path(folder))
        return Kept.load(Path(folder) / facts[-1])


def _delete_up_to(number: int) -> None:
    for name in [name for name, own in _assets().items() if own <= number]:
        gh("release", "delete-asset", RELEASE, name, "--yes")


def _download(name: str, folder: Path) -> None:
    gh("release", "download", RELEASE, "--pattern", name, "--dir", str(folder))
