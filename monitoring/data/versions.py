"""Versions that were released: when each became champion, and the published bundles that are still there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle, load_bundle, version_folder
from level1_pipeline.errors import BundleRefused, NotFound
from level1_pipeline.store import audit_queries
from level1_pipeline.store.database import Store
from monitoring.results import Release
from monitoring.thresholds import PAST_CHAMPIONS_TRIED


def releases(store: Store) -> tuple[Release, ...]:
    """When which version became champion, oldest first, from the audit log."""
    return tuple(
        Release(str(line.to_version), line.at, line.text, line.from_version)
        for line in audit_queries.releases(store.audit_log(problem.NAME))
    )


def past_champions(history: tuple[Release, ...], champion: str | None) -> list[str]:
    """Versions that were champion before this one, the newest first; none without a champion."""
    names = [release.version for release in history if release.version != champion]
    return list(dict.fromkeys(reversed(names)))[:PAST_CHAMPIONS_TRIED] if champion else []


def load_published(bundles: Path, store: Store, versions: Iterable[str]) -> dict[str, Bundle]:
    """The bundles of versions. One that is gone, damaged or not what was registered is left out: it must not stop a
    monitoring run."""
    models, recorded = {}, store.checksums(problem.NAME)
    for version in versions:
        try:
            models[version] = load_bundle(version_folder(bundles, version), recorded.get(version))
        except (BundleRefused, NotFound):
            continue
    return models
