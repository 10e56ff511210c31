"""A home as one file, with a few facts beside it that say whether it is whole: what a workflow keeps until its next run."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.errors import HomeRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from level2_cicd.simulation.checkpoint import keep_checkpoint
from level2_cicd.workflows.audit_chain import Chain, chain, refuse_broken

FOLDER = "loop"  # of the home that is kept, in the user's home
LEFT_OUT = {"cache"}  # it is made again from the source
RESTORED = "restored.json"  # beside the home: the facts of what was restored


@dataclass(frozen=True)
class Kept:
    """The facts of a home that was kept."""

    number: int  # counts up
    sha256: str  # of the archive
    day: str  # on its clock
    champion: str | None
    audit_lines: int
    audit_sha256: str

    @property
    def archive(self) -> str:
        """The name of its file."""
        return f"home-{self.number:04d}.tar.gz"

    @property
    def facts(self) -> str:
        """The name of the file with these facts."""
        return f"home-{self.number:04d}.json"

    @property
    def audit(self) -> Chain:
        """What its audit log was folded into."""
        return Chain(self.audit_lines, self.audit_sha256)

    def save(self, file: Path) -> None:
        """Write the facts."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Kept:
        """Read the facts. Raises HomeRefused if they are none."""
        try:
            return cls(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise HomeRefused(f"{file.name} does not hold the facts of a kept home: {error}") from error


def loop(settings: Settings) -> Settings:
    """The settings under which the home that is kept is read: its own databases, wherever the user's are."""
    return Settings.model_construct(home=settings.home / FOLDER, clock="replay", actor=settings.actor)


def pack(settings: Settings, folder: Path) -> Kept:
    """Write the home and its facts into a folder, as the one that follows what was restored.

    Raises:
        HomeRefused: its audit log does not go on from the one that was restored.
    """
    before = restored(settings)
    store = Store(settings.operations)
    log = store.audit_log(problem.NAME)
    refuse_broken(log, before.audit if before else Chain())
    day, champion = str(date_of(store.replay_time())), store.route(problem.NAME).champion
    store.close()
    number = before.number + 1 if before else 1
    folded = chain(log)
    kept = Kept(number, "", day, champion, folded.lines, folded.sha256)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "home"
        keep_checkpoint(settings.home, copy)
        with tarfile.open(folder / kept.archive, "w:gz", compresslevel=6) as archive:
            for path in sorted(copy.iterdir()):
                if path.name not in LEFT_OUT:
                    archive.add(path, path.name)
    kept = Kept(**asdict(kept) | {"sha256": _digest(folder / kept.archive)})
    kept.save(folder / kept.facts)
    return kept


def unpack(kept: Kept, folder: Path, settings: Settings) -> None:
    """Put a kept home in its place, whole or not at all.

    Args:
        kept: its facts.
        folder: where its archive lies.
        settings: of the home, which must not be there yet.

    Raises:
        HomeRefused: there is a home already, the archive is not what was kept, or its audit log is not.
    """
    if settings.home.exists():
        raise HomeRefused(f"there is a home in {settings.home} already, which is not replaced; remove it first")
    if _digest(folder / kept.archive) != kept.sha256:
        raise HomeRefused(f"{kept.archive} is damaged: its SHA-256 is not the one that was kept with it")
    partial = settings.home.with_name(f"{settings.home.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(folder / kept.archive) as archive:
        archive.extractall(partial, filter="data")
    store = Store(f"sqlite:///{partial / 'operations.db'}")
    log = store.audit_log(problem.NAME)
    store.close()
    if chain(log) != kept.audit:
        raise HomeRefused(f"the audit log in {kept.archive} is not the one whose facts were kept with it")
    refuse_broken(log, kept.audit)
    partial.replace(settings.home)
    go_on_from(kept, settings)


def go_on_from(kept: Kept, settings: Settings) -> None:
    """Remember what the home here goes on from."""
    kept.save(_facts(settings))


def restored(settings: Settings) -> Kept | None:
    """The facts of what was restored here; None if this home began here."""
    return Kept.load(_facts(settings)) if _facts(settings).exists() else None


def _facts(settings: Settings) -> Path:
    return settings.home.parent / RESTORED


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
