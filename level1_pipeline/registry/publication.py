"""Published bundles: each lies in a folder of its own, never changes, and is known to the store by its checksum.

A version is a number that MLflow may give again, when its database is lost or another one. So the first checksum that
the store records for a number counts for ever: other content under that number is neither published nor loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.load import (
    MANIFEST,
    Bundle,
    bundle_checksum,
    load_bundle,
    load_to_serve,
    verify_bundle,
    version_folder,
)
from level1_pipeline.bundle.time_limit import Calls, Overdue
from level1_pipeline.errors import BundleRefused, NotFound
from level1_pipeline.store.database import Store

PROOF_SECONDS = 60.0


@dataclass(frozen=True)
class Publication:
    """The published bundles of the problem."""

    bundles: Path
    store: Store

    def folder(self, version: str) -> Path:
        """Where a published version lies. Raises NotFound for what is no name of a version."""
        return version_folder(self.bundles, version)

    def checksum(self, version: str) -> str | None:
        """What the store recorded for a version; None for one that an earlier release published, until it is loaded."""
        return self.store.checksums(problem.NAME).get(version)

    def verify(self, version: str) -> dict[str, Any]:
        """The manifest of a version. Raises BundleRefused, see `verify_bundle`."""
        return verify_bundle(self.folder(version), self.checksum(version))

    def load(self, version: str) -> Bundle:
        """A version, to score with. Raises BundleRefused, see `load_bundle`."""
        return self._recorded(version, load_bundle(self.folder(version), self.checksum(version)))

    def prove(self, version: str) -> Bundle:
        """Load a version as the service will, before a route names it.

        Raises:
            BundleRefused: see `load_to_serve`; or it does not end, because the model hangs.
        """
        folder, checksum = self.folder(version), self.checksum(version)
        try:
            bundle = Calls().run(lambda: load_to_serve(folder, checksum), PROOF_SECONDS)
        except Overdue as overdue:
            raise BundleRefused(f"version {version} could not be loaded: {overdue}") from overdue
        return self._recorded(version, bundle)

    def _recorded(self, version: str, bundle: Bundle) -> Bundle:
        """The first load of a version that an earlier release published says what it is from here on.

        Raises:
            BundleRefused: the store has never heard of this version, so somebody put a folder there by hand.
        """
        if self.checksum(version) is None:
            if version not in self.store.versions(problem.NAME):
                raise BundleRefused(f"{self.folder(version)} was never registered as version {version}; train a model")
            with suppress(sa.exc.OperationalError):  # a home that cannot be written
                self.store.record_checksum(problem.NAME, version, bundle.checksum)
        return bundle

    def highest_number(self) -> int:
        """The highest number of a version that the store or the folder of bundles has ever seen."""
        names = self.store.versions(problem.NAME) | {path.parent.name for path in self.bundles.glob(f"*/{MANIFEST}")}
        return max((int(name) for name in names if name.isdecimal()), default=0)

    @contextmanager
    def workplace(self, version: str) -> Iterator[Path]:
        """A folder beside the bundles, in which one is made ready; it is removed afterwards."""
        partial = self.folder(version).with_name(f".{version}-{uuid4().hex}")
        partial.mkdir(parents=True)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def put(self, version: str, bundle: Path) -> None:
        """Publish a bundle that lies in the workplace: whole or not at all, and in nobody's place.

        Raises:
            BundleRefused: it is damaged, or this version was something else before.
        """
        verify_bundle(bundle)  # damage must not become what the store records
        recorded = self.store.record_checksum(problem.NAME, version, checksum := bundle_checksum(bundle))
        if recorded != checksum:
            verify_bundle(bundle, recorded)  # says so
        try:
            bundle.rename(self.folder(version))
        except OSError:
            if not self.folder(version).exists():
                raise
            verify_bundle(self.folder(version), recorded)  # somebody else was quicker; or it is damaged

    def first_that_serves(self, versions: Iterable[str], but: str | None) -> tuple[str, str]:
        """The first of the versions that can serve; and which were passed over, and why, for the audit log.

        Args:
            versions: in the order in which they are tried.
            but: the version that serves now.

        Raises:
            BundleRefused: none of them can; the message says why for each.
        """
        why = ""
        for version in dict.fromkeys(versions):
            if version == but:
                continue
            try:
                self.prove(version)
                return version, why
            except BundleRefused as refusal:
                why += f" (not version {version}: {refusal})"
        raise BundleRefused(f"no earlier version can serve, so the champion stays {but}{why}")

    def repair(self, version: str, registered: str | None, fetch: Callable[[Path], Path]) -> bool:
        """Put a copy of a version in the place of its damaged bundle, which stays beside it. False when it is whole.

        Args:
            version: that was published before.
            registered: the checksum that MLflow keeps, for a version that an earlier release published.
            fetch: puts a copy into a folder, and says where it lies.

        Raises:
            BundleRefused: the copy is damaged, or is not what this version was.
            NotFound: nobody has recorded what it was, so no copy can be told from something else.
        """
        folder, checksum = self.folder(version), self.checksum(version)
        if checksum is None and version in self.store.versions(problem.NAME):
            is_another = (folder / MANIFEST).is_file() and bundle_checksum(folder) != registered
            checksum = None if is_another else registered  # another MLflow may have a version of this number, too
        if checksum is None:
            raise NotFound(
                f"neither the store nor MLflow knows what version {version} was, so no copy can be compared; train again"
            )
        with suppress(BundleRefused):
            verify_bundle(folder, checksum)
            return False
        with self.workplace(version) as partial:
            copy = fetch(partial)
            verify_bundle(copy, checksum)
            self.store.record_checksum(problem.NAME, version, checksum)
            if folder.exists() or folder.is_symlink():
                folder.rename(folder.with_name(f".damaged-{version}-{uuid4().hex}"))
            copy.rename(folder)
        return True


def find_copy(folder: Path, version: str) -> Path:
    """The bundle of a version in a backup: of this bundle, of the folder of bundles, or of the home.

    Raises:
        NotFound: there is none.
    """
    for copy in (folder, folder / version, folder / "bundles" / problem.NAME / version):
        if (copy / MANIFEST).is_file():
            return copy
    raise NotFound(f"{folder} holds no bundle of version {version} (a folder with {MANIFEST})")
