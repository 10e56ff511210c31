"""Follows the `routes` row: what it names is loaded, checked and warmed up, and only then served.

A version that fails any check is never served: the last good one stays, and the reason is reported. So does a version
whose content is not what the store recorded: a number alone is no identity.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.bundle.load import REPAIR, bundle_checksum
from level1_pipeline.errors import BundleRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit_queries
from level1_pipeline.store.clock import Clock
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import CHAMPION, Route
from serving.models import loaded_model
from serving.models.loaded_model import Model
from serving.models.routing import Serving
from serving.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

LOOKS_BETWEEN_LOADS = 10  # of a refused version: publishing it again mends it, but each try costs a load


class HotSwap:
    """Keeps `serving` in step with the route. One thread calls `look`; any thread may read `serving`."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, metrics: Metrics):
        self.settings, self.store, self.clock, self.metrics = settings, store, clock, metrics
        self.serving: Serving | None = None
        self.trouble: dict[str, str] = {}  # by what it concerns: store, champion, challenger
        self._loaded: dict[str, Model] = {}
        self._refused: dict[str, tuple[float, str]] = {}  # when to try again, and why it was refused

    def look(self) -> None:
        """Compare what is served with the route, and follow it."""
        trouble: dict[str, str] = {}
        try:
            route: Route | None = self.store.route(problem.NAME)
        except Exception as error:  # the last bundle goes on answering, whatever the database does
            trouble["store"] = f"the store cannot be read ({type(error).__name__}); the last known route is served"
            route = self.serving.route if self.serving else self._remembered()
        if route and (not self.serving or _differ(route, self.serving.route) or self.trouble):
            self._follow(route, trouble)
        self._check_the_disk(trouble)
        self._report(trouble)

    def _follow(self, route: Route, trouble: dict[str, str]) -> None:
        before = self.serving
        champion = self._model(route, route.champion, CHAMPION, trouble)
        if not champion and before:
            champion = before.champion
            trouble.setdefault(CHAMPION, "the route names no champion any more; the last one is served")
        elif not champion and route.previous:
            champion = self._model(route, route.previous, "previous champion", trouble)
        if not champion:
            return
        challenger = self._model(route, route.challenger, "challenger", trouble) if route.mode else None
        same_models = before and (before.champion, before.challenger) == (champion, challenger)
        if before and same_models and not _differ(route, before.route):
            return
        self.serving = Serving(route, champion, challenger, self._since(champion.version, before))
        self._loaded = {model.version: model for model in (champion, challenger, before and before.champion) if model}
        loaded = {version: model.checksum for version, model in self._loaded.items() if version in route.versions}
        self._remember(replace(route, checksums={**route.checksums, **loaded}))
        self.metrics.swaps.inc()
        self._count(before, -1)
        self._count(self.serving, 1)
        both = {"champion": champion.version, "challenger": challenger and challenger.version}
        facts = {**both, "mode": route.mode, "share": route.share, **champion.engine}
        logger.info("now serving version %s", champion.version, extra={"facts": facts})

    def _model(self, route: Route, version: str | None, role: str, trouble: dict[str, str]) -> Model | None:
        """A version, loaded now or before; None, with the reason in `trouble`, when it is refused."""
        if version is None:
            return None
        checksum = route.checksums.get(version)
        if version in self._loaded and checksum in (None, self._loaded[version].checksum):
            return self._loaded[version]
        again, reason = self._refused.get(version, (0.0, ""))
        if time.monotonic() >= again:
            try:
                loaded = loaded_model.load(self.settings, version, checksum)
                if checksum is None:
                    self._record(version, loaded.checksum)
                self._loaded[version] = loaded
                self._refused.pop(version, None)
                return loaded
            except Exception as error:  # BundleRefused, or whatever else a damaged file provokes
                reason = f"{role} {version} is refused: {error}"
                logger.error(reason)
                self.metrics.refused.labels(version).inc()
                wait = LOOKS_BETWEEN_LOADS * self.settings.watch_seconds
                self._refused[version] = (time.monotonic() + wait, reason)
        trouble[role] = reason
        return None

    def _record(self, version: str, checksum: str) -> None:
        """A version of an earlier release, which has no checksum in the store, is from now on what was loaded first.
        Where nothing can be recorded it is served all the same, as before."""
        try:
            recorded = self.store.record_checksum(problem.NAME, version, checksum)
        except Exception:
            return
        if recorded != checksum:
            raise BundleRefused(f"another worker has loaded other content ({recorded[:12]})")

    def _check_the_disk(self, trouble: dict[str, str]) -> None:
        """Say so when a bundle that serves is no longer what lies on the disk: a restart would not serve it."""
        serving = self.serving
        for model in (serving.champion, serving.challenger) if serving else ():
            if model is None:
                continue
            try:
                same = bundle_checksum(model.bundle.folder) == model.checksum
            except OSError:
                same = False
            if not same:
                message = f"version {model.version} goes on serving, but its bundle on the disk is gone or another one"
                trouble.setdefault(f"bundle of version {model.version}", f"{message}; {REPAIR}")

    def _since(self, version: str, before: Serving | None) -> str | None:
        """When this version became champion, from the audit log."""
        if before and before.champion.version == version:
            return before.since
        try:
            lines = audit_queries.releases(self.store.audit_log(problem.NAME))
        except Exception:  # unknown is better than not serving
            return None
        return next((line.at.isoformat() for line in reversed(lines) if line.to_version == version), None)

    @property
    def _memory(self) -> Path:
        return self.settings.bundles / ".last-route.json"

    def _remember(self, route: Route) -> None:
        """Keep the route beside the bundles, for a restart while the store cannot be read."""
        try:
            partial = self._memory.with_name(f".route-{os.getpid()}")
            partial.write_text(json.dumps(asdict(route)))
            os.replace(partial, self._memory)
        except OSError as error:  # a read-only or full disk
            logger.warning("the route cannot be kept for a restart without the store: %s", error)

    def _remembered(self) -> Route | None:
        try:
            return Route(**json.loads(self._memory.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def _count(self, serving: Serving | None, change: int) -> None:
        if not serving:
            return
        self.metrics.workers.labels(serving.champion.version, CHAMPION).inc(change)
        if serving.challenger:
            self.metrics.workers.labels(serving.challenger.version, serving.route.mode).inc(change)

    def _report(self, trouble: dict[str, str]) -> None:
        for what, message in trouble.items():
            if self.trouble.get(what) != message:
                logger.warning("degraded: %s", message)
        self.trouble = trouble
        self.metrics.degraded.set(bool(trouble))
        until = self.serving and self.serving.champion.manifest.get("trained_until")
        if until:
            with suppress(Exception):  # a replay clock that cannot be read now
                self.metrics.age.set((self.clock.now() - datetime.fromisoformat(until)).total_seconds())


def _differ(route: Route, other: Route) -> bool:
    """Whether two routes name other versions, or the same ones with other content."""
    return (route, route.checksums) != (other, other.checksums)
