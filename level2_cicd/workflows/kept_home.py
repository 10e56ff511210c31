"""The home of the loop that a workflow keeps until its next run: which one it is, and what it goes on from."""

from __future__ import annotations

from pathlib import Path

from level1_pipeline.settings import Settings
from level2_cicd.maintenance import archive
from level2_cicd.maintenance.archive import Kept
from level2_cicd.maintenance.audit_chain import Chain

FOLDER = "loop"  # of the home that is kept, in the user's home
RESTORED = "restored.json"  # beside the home: the facts of what was restored


def loop(settings: Settings) -> Settings:
    """The settings under which the home that is kept is read: its own databases, wherever the user's are."""
    return Settings.model_construct(home=settings.home / FOLDER, clock="replay", actor=settings.actor)


def pack(settings: Settings, folder: Path) -> Kept:
    """Write the home and its facts into a folder, as the one that follows what was restored.

    Raises:
        HomeRefused: its audit log does not go on from the one that was restored.
    """
    before = restored(settings)
    number, audit = (before.number + 1, before.audit) if before else (1, Chain())
    return archive.pack(settings.home, folder, number, audit)


def unpack(kept: Kept, folder: Path, settings: Settings) -> None:
    """Put a kept home in its place, and remember it. Raises HomeRefused, see `archive.unpack`."""
    archive.unpack(kept, folder, settings.home)
    go_on_from(kept, settings)


def go_on_from(kept: Kept, settings: Settings) -> None:
    """Remember what the home here goes on from."""
    kept.save(_facts(settings))


def restored(settings: Settings) -> Kept | None:
    """The facts of what was restored here; None if this home began here."""
    return Kept.load(_facts(settings)) if _facts(settings).exists() else None


def _facts(settings: Settings) -> Path:
    return settings.home.parent / RESTORED
