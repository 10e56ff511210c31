"""What a home no longer needs: old versions, MLflow runs, reports and kept training data.

A version stays that serves, served before, is in a rollout, or has answered a prediction that the log still holds:
`trace` scores that one again. All others go, but for the newest ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.load import MANIFEST
from level1_pipeline.errors import BundleRefused
from level1_pipeline.inputs import training_data
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, HomeMaintained
from level1_pipeline.store.audit_queries import champions, releases
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import predictions
from level2_cicd.maintenance import mlflow_runs
from level2_cicd.maintenance.backup import lease
from monitoring.reporting import evidently_snapshot
from monitoring.thresholds import PAST_CHAMPIONS_TRIED

# The one that serves, and those to which a rollback or a recurring concept may lead.
CHAMPIONS = 1 + PAST_CHAMPIONS_TRIED


@dataclass(frozen=True)
class Plan:
    """What can go, and why the rest stays."""

    needed: frozenset[str]  # versions that stay however old they are
    bundles: tuple[Path, ...]
    runs: mlflow_runs.Old
    reports: tuple[Path, ...]
    snapshots: tuple[Path, ...]
    rows: tuple[Path, ...]  # files of kept training data

    @property
    def versions(self) -> list[str]:
        """Whose bundles go."""
        return [bundle.name for bundle in self.bundles]

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """What goes, by kind."""
        kinds = {"bundles": self.bundles, "MLflow runs": self.runs.folders, "reports": self.reports}
        return kinds | {"Evidently snapshots": self.snapshots, "training data": self.rows}

    @cached_property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """How many of each kind, and their bytes, when they were looked at first."""
        return {kind: (len(paths), sum(map(_size, paths))) for kind, paths in self.files.items()}


def plan(settings: Settings, keep: int) -> Plan:
    """What can go if the newest `keep` of each kind stay. Nothing is changed.

    Raises:
        BundleRefused: the manifest of a version cannot be read, so nobody knows what it needs.
        NoAnswer: MLflow cannot be asked.
    """
    registry = Registry(settings)
    needed = needed_versions(registry.store)
    published = [path.parent for path in settings.bundles.glob(f"*/{MANIFEST}") if not path.parent.name.startswith(".")]
    newest = sorted(published, key=lambda bundle: _number(bundle.name))[-keep:]
    staying = _with_parents(settings, needed | {bundle.name for bundle in newest})
    bundles = [bundle for bundle in published if bundle.name not in staying]
    kept = [_manifest(bundle) for bundle in published if bundle not in bundles]
    digests = {manifest.get("data_digest") for manifest in kept}
    names = {bundle.name for bundle in published if bundle not in bundles} | staying
    reports = settings.home / "reports"
    cards, pages = reports / "level1" / problem.NAME, reports / "monitor" / problem.NAME
    project = evidently_snapshot.workspace(settings) / str(evidently_snapshot.project_id(problem.NAME))
    return Plan(
        frozenset(needed),
        tuple(sorted(bundles)),
        mlflow_runs.old(registry, names, {str(manifest.get("run_id")) for manifest in kept}, keep),
        (*_oldest(cards.glob("*"), keep), *_oldest(pages.glob("*.html"), keep)),
        _oldest(project.glob("snapshots/*.json"), keep, by_time=True),
        tuple(file for file in training_data.files(settings) if file.stem not in digests),
    )


def needed_versions(store: Store) -> set[str]:
    """Versions that something may still ask for."""
    route, rollout = store.route(problem.NAME), store.rollout(problem.NAME)
    log = store.audit_log(problem.NAME)
    needed = {*route.versions, *champions(log)[:CHAMPIONS], *(str(line.from_version) for line in releases(log)[-1:])}
    answered = sa.select(predictions.c.version).where(predictions.c.problem == problem.NAME).distinct()
    with store.engine.connect().execution_options(reads_only=True) as connection:
        needed.update(connection.scalars(answered))
    return needed | ({str(rollout["version"])} if rollout else set())


def _with_parents(settings: Settings, versions: Iterable[str]) -> set[str]:
    """These versions, and those that the gate asks in their place: what a recalibration moved, and older evaluation models."""
    staying, open_ = set[str](), [*versions]
    while open_:
        version = open_.pop()
        manifest = settings.bundles / version / MANIFEST
        if version not in staying and manifest.exists():
            facts = _manifest(manifest.parent)
            below = (facts.get("recalibration", {}).get("parent"), facts.get("judged_version"))
            open_ += [str(other) for other in below if other]
        staying.add(version)
    return staying


def _manifest(bundle: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((bundle / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BundleRefused(
            f"{bundle / MANIFEST} cannot be read ({error}), so nobody knows what version {bundle.name} needs, and "
            f"nothing was deleted: make repair VERSION={bundle.name}, then prune again"
        ) from error


def prune(settings: Settings, keep: int, reason: str) -> Plan:
    """Delete what can go, under one line of the audit log, which is written first: a killed one is finished by the next.

    Raises:
        LeaseHeld: a training, a promotion, a backup or another pruning goes on at this moment.
        BundleRefused, NoAnswer: see `plan`; or MLflow did not delete its runs.
    """
    registry = Registry(settings)
    store, seconds = registry.store, settings.lease_seconds
    with lease(store, settings), leases.hold(store, f"train {problem.NAME}", seconds), registry.promotion():
        old = plan(settings, keep)
        counts = {kind: count for kind, (count, _) in old.sizes.items()}
        if not any(counts.values()):
            return old
        why = f"pruned, the newest {keep} of each kind stay: {reason}"
        evidence: dict[str, Any] = {"keep": keep, "deleted": counts, "versions": old.versions}
        store.record(problem.NAME, Change(settings.who, HomeMaintained(), why, clock.now(settings), evidence))
        for bundle in old.bundles:
            # Out of sight at once: a bundle is there whole or not at all.
            hidden = bundle.with_name(f".pruned-{bundle.name}")
            bundle.rename(hidden)
        for left in settings.bundles.glob(".pruned-*"):
            shutil.rmtree(left)
        for path in (*old.reports, *old.snapshots, *old.rows):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        mlflow_runs.delete(registry, old.runs)
    return old


def _oldest(paths: Iterable[Path], keep: int, by_time: bool = False) -> tuple[Path, ...]:
    """All but the newest; those that are named by their day are ordered by it."""
    return tuple(sorted(paths, key=lambda path: path.stat().st_mtime if by_time else path.name)[:-keep])


def _number(version: str) -> tuple[int, str]:
    return int(version) if version.isdecimal() else 0, version


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
