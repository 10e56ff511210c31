"""Follows the `routes` row: what it names is loaded, checked and warmed up, and only then served.

A version that fails any check is never served: the last good one stays, and the reason is reported.
"""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from level1_pipeline import problem
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
        if route and (not self.serving or route != self.serving.route or self.trouble):
            self._follow(route, trouble)
        self._report(trouble)

    def _follow(self, route: Route, trouble: dict[str, str]) -> None:
        before = self.serving
        champion = self._model(route.champion, CHAMPION, trouble)
        if not champion and before:
            champion = before.champion
            trouble.setdefault(CHAMPION, "the route names no champion any more; the last one is served")
        elif not champion and route.previous:
            champion = self._model(route.previous, "previous champion", trouble)
        if not champion:
            return
        challenger = self._model(route.challenger, "challenger", trouble) if route.mode else None
        if before and (before.route, before.champion, before.challenger) == (route, champion, challenger):
            return
        self.serving = Serving(route, champion, challenger, self._since(champion.version, before))
        self._loaded = {model.version: model for model in (champion, challenger, before and before.champion) if model}
        self._remember(route)
        self.metrics.swaps.inc()
        self._count(before, -1)
        self._count(self.serving, 1)
        both = {"champion": champion.version, "challenger": challenger and challenger.version}
        facts = {**both, "mode": route.mode, "share": route.share, **champion.engine}
        logger.info("now serving version %s", champion.version, extra={"facts": facts})

    def _model(self, version: str | None, role: str, trouble: dict[str, str]) -> Model | None:
        """A version, loaded now or before; None, with the reason in `trouble`, when it is refused."""
        if version is None or version in self._loaded:
            return self._loaded.get(version or "")
        again, reason = self._refused.get(version, (0.0, ""))
        if time.monotonic() >= again:
            try:
                loaded = self._loaded[version] = loaded_model.load(self.settings, version)
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
