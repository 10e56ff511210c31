"""A home as one file, with a few facts beside it that say whether it is whole. The home may be in use meanwhile.

The databases are copied first, and each at one moment; files come afterwards. A version is recorded after its files
were written, so everything that the copied databases name is among the files.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.bundle.load import verify_bundle
from level1_pipeline.errors import BundleRefused, HomeRefused, NotFound
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from level2_cicd.maintenance.audit_chain import Chain, chain, refuse_broken

OPERATIONS = "operations.db"
DATABASE = re.compile(r"\.db(-\w+)?$")
# Made again from the source or by a training, or no part of this home. A folder with a store of its own is another home.
LEFT_OUT = {"cache", "runs", "prefect", "year", "environments", "releases", "wheelhouse"}


@dataclass(frozen=True)
class Kept:
    """The facts of a home that was kept."""

    number: int  # counts up
    sha256: str  # of the archive
    day: str  # on its replay clock, or of the machine
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
        """Write the facts, whole or not at all."""
        partial = file.with_name(f".{file.name}")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n")
        partial.replace(file)

    @classmethod
    def load(cls, file: Path) -> Kept:
        """Read the facts. Raises HomeRefused if they are none."""
        try:
            return cls(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise HomeRefused(f"{file.name} does not hold the facts of a kept home: {error}") from error


def is_left_out(entry: Path) -> bool:
    """Whether an entry of a home goes into no archive."""
    return entry.name in LEFT_OUT or entry.name.startswith(".") or (entry / OPERATIONS).exists()


def pack(home: Path, folder: Path, number: int, before: Chain) -> Kept:
    """Write a home and its facts into a folder.

    Args:
        home: which others may use at this moment.
        folder: where to.
        number: of this archive.
        before: what its audit log must go on from.

    Raises:
        HomeRefused: its audit log does not go on from there.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        copies = [_copy(database, Path(scratch)) for database in _databases(home)]
        store = Store(f"sqlite:///{Path(scratch) / OPERATIONS}")  # of the copy, since the home goes on
        log, champion, day = store.audit_log(problem.NAME), store.route(problem.NAME).champion, _day(store)
        store.close()
        refuse_broken(log, before)
        folded = chain(log)
        kept = Kept(number, "", day, champion, folded.lines, folded.sha256)
        with tarfile.open(folder / kept.archive, "w:gz", compresslevel=6) as archive:
            for copy in copies:
                archive.add(copy, copy.name)
            for file in _files(home):
                _add(archive, file, str(file.relative_to(home)))
    kept = Kept(**asdict(kept) | {"sha256": _digest(folder / kept.archive)})
    kept.save(folder / kept.facts)
    return kept


def unpack(kept: Kept, folder: Path, home: Path) -> None:
    """Put a kept home in a place where none is, whole or not at all.

    Args:
        kept: its facts.
        folder: where its archive lies.
        home: where it goes; not there yet.

    Raises:
        HomeRefused: there is a home already, or the archive is not what was kept.
    """
    if home.exists():
        raise HomeRefused(f"there is a home in {home} already, which is not replaced; remove it first")
    if not (folder / kept.archive).exists():
        raise HomeRefused(f"{kept.archive} is gone: only its facts lie in {folder}")
    if _digest(folder / kept.archive) != kept.sha256:
        raise HomeRefused(f"{kept.archive} is damaged: its SHA-256 is not the one that was kept with it")
    partial = home.with_name(f"{home.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with tarfile.open(folder / kept.archive) as archive:
            archive.extractall(partial, filter="data")
        prove(kept, partial)
        partial.replace(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def prove(kept: Kept, home: Path) -> None:
    """Look whether a home is the one that was kept: its databases, its audit log, and each published bundle.

    Raises:
        HomeRefused: it is not.
    """
    for database in _databases(home):
        with closing(sqlite3.connect(database)) as connection:
            if connection.execute("PRAGMA quick_check").fetchall() != [("ok",)]:
                raise HomeRefused(f"the database {database.name} in {kept.archive} is damaged")
    store = Store(f"sqlite:///{home / OPERATIONS}")
    log, checksums, route = store.audit_log(problem.NAME), store.checksums(problem.NAME), store.route(problem.NAME)
    store.close()
    if chain(log) != kept.audit:
        raise HomeRefused(f"the audit log in {kept.archive} is not the one whose facts were kept with it")
    refuse_broken(log, kept.audit)
    bundles = home / "bundles" / problem.NAME
    there = {version for version in checksums if (bundles / version).exists()}
    for version in sorted(there | route.checksums.keys()):
        try:
            verify_bundle(bundles / version, checksums[version])
        except BundleRefused as refusal:
            why = str(refusal).partition(";")[0]
            raise HomeRefused(
                f"version {version} in {kept.archive} is damaged ({why}); repair it where it was made: "
                f"make repair VERSION={version}, then make backup"
            ) from refusal


def _databases(home: Path) -> list[Path]:
    """The operations store first: what it names, MLflow knows already."""
    return sorted(home.glob("*.db"), key=lambda file: (file.name != OPERATIONS, file.name))


def _copy(database: Path, folder: Path) -> Path:
    """A copy of one moment, by SQLite's online backup: others read and write meanwhile."""
    copy = folder / database.name
    with closing(sqlite3.connect(database, timeout=30)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    return copy


def _files(home: Path) -> Iterator[Path]:
    """The files of a home that are no database; what is hidden is not finished, or damaged."""
    for entry in sorted(home.iterdir()):
        if is_left_out(entry) or DATABASE.search(entry.name):  # databases were copied
            continue
        if entry.is_symlink():
            raise HomeRefused(
                f"{entry} is a link, and no archive would hold what it leads to: put the folder itself there"
            )
        paths = sorted(entry.rglob("*")) if entry.is_dir() else [entry]
        for path in paths:
            hidden = any(part.startswith(".") for part in path.relative_to(home).parts)
            if path.is_file() and not hidden:
                yield path


def _add(archive: tarfile.TarFile, file: Path, name: str) -> None:
    """One file as it is at this moment; a page that is written again, or was deleted meanwhile, breaks nothing."""
    with suppress(FileNotFoundError):
        content, info = file.read_bytes(), tarfile.TarInfo(name)
        info.size, info.mtime = len(content), int(file.stat().st_mtime)
        archive.addfile(info, BytesIO(content))


def _day(store: Store) -> str:
    try:
        return str(date_of(store.replay_time()))
    except NotFound:
        return str(date_of(datetime.now(UTC)))


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
