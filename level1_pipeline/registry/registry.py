"""Versions of the model: register, publish, promote, roll back.

MLflow keeps runs, versions and aliases for people. What is served stands in the `routes` row of the store, by version
and checksum; the aliases mirror it. A promotion or rollback loads the published bundle as the service will, and then
writes the row under a lease, with its audit line. It needs no MLflow.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle, bundle_checksum
from level1_pipeline.errors import PromotionRefused
from level1_pipeline.registry import tracking
from level1_pipeline.registry.mlflow_pages import experiment_tags
from level1_pipeline.registry.publication import Publication, find_copy
from level1_pipeline.registry.tracking import CHALLENGER, CHAMPION, PREVIOUS
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Action, BundleRepaired, Change, Promoted, RolledBack
from level1_pipeline.store.audit_queries import champions
from level1_pipeline.store.database import ENDED, Lease, Store
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import rollouts

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ANY = "any"  # a person promotes whatever serves now


class RouteSetByHand(PromotionRefused):
    """A person gave a challenger traffic without a rollout, and has to take it back first."""


@dataclass(frozen=True)
class Registry:
    """The model's versions in MLflow, on disk, and in the route."""

    settings: Settings

    @cached_property
    def store(self) -> Store:
        """The operations store."""
        return Store(self.settings.operations)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow, opened on the first use."""
        return tracking.open_client(self.settings)

    @cached_property
    def published(self) -> Publication:
        """The published bundles."""
        return Publication(self.settings.bundles, self.store)

    def experiment(self, name: str) -> str:
        """The id of an MLflow experiment, made when it is missing."""
        if experiment := self.client.get_experiment_by_name(name):
            return experiment.experiment_id
        artifacts = tracking.artifact_location(self.settings.home, name)
        return self.client.create_experiment(name, artifacts, experiment_tags())

    def register(self, run_id: str, model_uri: str, folder: Path, tags: dict[str, str], about: str = "") -> str:
        """Make a version of a logged model, described by `about`, with the bundle in `folder` as its artifact. Returns the version.

        Numbers that were given before are skipped, since MLflow counts from 1 again when its database is another one;
        the store, which records what the version is, decides between two that register at once.
        """
        artifact, checksum = f"bundles/{folder.name}", bundle_checksum(folder)
        self.client.log_artifacts(run_id, str(folder), artifact)
        tags = {**tags, "bundle": artifact, "bundle_sha256": checksum}
        highest = self.published.highest_number()

        def is_new(version: str) -> bool:
            return int(version) > highest and self.store.record_checksum(problem.NAME, version, checksum) == checksum

        return tracking.create_version(self.client, model_uri, run_id, tags, is_new, about)

    def bundle_folder(self, version: str) -> Path:
        """Where a published version lies."""
        return self.published.folder(version)

    def publish(self, version: str) -> Path:
        """Copy a version's bundle to where it is served from, whole or not at all. Nothing ever takes its place.

        Raises:
            BundleRefused: the bytes are not those that were registered.
            NotFound: there is no such version.
        """
        with self.published.workplace(version) as partial:
            self.published.put(version, tracking.fetch_bundle(self.client, version, partial))
        return self.bundle_folder(version)

    def repair(self, version: str, reason: str, backup: Path | None = None) -> bool:
        """Bring a published bundle back, from a backup or from MLflow. False when it is whole; else see `Publication`."""
        now = clock.now(self.settings)

        def fetch(partial: Path) -> Path:
            if backup:
                return Path(shutil.copytree(find_copy(backup, version), partial / version))
            return tracking.fetch_bundle(self.client, version, partial)

        registered = None if self.published.checksum(version) else tracking.registered_checksum(self.client, version)
        mended = self.published.repair(version, registered, fetch)
        if mended:
            change = Change(self.settings.who, BundleRepaired(), reason, now)
            self.store.record(problem.NAME, change, to_version=version)
        return mended

    def load(self, version: str) -> Bundle:
        """A published version, verified; see `bundle.load`."""
        return self.published.load(version)

    def route(self) -> Route:
        """What is served now."""
        return self.store.route(problem.NAME)

    def promotion(self, urgent: bool = False) -> Any:
        """The lease under which routes change; use as `with registry.promotion() as lease`; see `leases.hold`."""
        return leases.hold(self.store, leases.promotion(problem.NAME), self.settings.lease_seconds, urgent)

    def refuse_during_a_trial(self) -> None:
        """Nothing else begins while a challenger has traffic.

        Raises:
            PromotionRefused: a rollout is going on; RouteSetByHand: a person set the route without one.
        """
        rollout, route = self.store.rollout(problem.NAME), self.route()
        if rollout:
            raise PromotionRefused(
                f"the rollout of version {rollout['version']} is going on ({rollout['state']}): finish or reject it first"
            )
        if route.mode:
            raise RouteSetByHand(
                f"the route was set by hand: version {route.challenger} is in {route.mode} without a rollout; "
                "take that back first: python -m serving route --mode none --reason …"
            )

    def promote(
        self,
        version: str,
        alias: str,
        reason: str,
        evidence: dict[str, Any] | None = None,
        judged_against: str | None = ANY,
    ) -> Route:
        """Make a published and blessed version champion, or name it challenger.

        Raises:
            PromotionRefused: it has not passed the gate, a rollout is going on, or the champion is no
                longer the one that it was judged against.
            BundleRefused: its bundle is damaged or was never published.
            LeaseHeld: another promotion is going on.
            ClockRefused: the home lives by another clock.
        """
        clock.refuse_another(self.settings, self.store)
        if self.published.verify(version).get("verdict") != "pass":
            raise PromotionRefused(f"version {version} has not passed the gate, so it cannot become {alias}")
        self.published.prove(version)
        with self.promotion() as lease:
            now = self.route()
            self.refuse_during_a_trial()
            if judged_against not in (ANY, now.champion):
                raise PromotionRefused(
                    f"version {version} was judged against champion {judged_against}, but now {now.champion} serves: train again"
                )
            if alias == CHAMPION:
                previous = now.previous if now.champion == version else now.champion
                wanted = {
                    CHAMPION: version,
                    PREVIOUS: previous,
                    CHALLENGER: None if now.challenger == version else now.challenger,
                }
            else:
                wanted = {CHALLENGER: version}
            route = self._change(lease, Promoted(alias), reason, evidence, **wanted)
        self.reconcile()
        return route

    def rollback(
        self,
        reason: str,
        version: str | None = None,
        evidence: dict[str, Any] | None = None,
        or_earlier: bool = False,
    ) -> Route:
        """Serve the previous champion again (or `version`), and end any rollout; without a previous one only that.

        Works on the disk and the store alone, whatever MLflow or a process that holds the lease does; the aliases
        follow with the caller's `reconcile`. The older version is loaded first, as the service will load it. Where the
        previous champion cannot serve, the one before it does. A version that is named has a substitute only if the
        caller says so (`or_earlier`).

        Raises:
            PromotionRefused: there is nothing to go back to and no rollout to end.
            BundleRefused: no older bundle can serve.
            ClockRefused: the home lives by another clock.
        """
        clock.refuse_another(self.settings, self.store)
        while True:
            now, why = self.route(), ""
            target = version or now.previous or now.champion
            if target and target != now.champion:
                if version and not or_earlier and self.published.verify(version).get("verdict") != "pass":
                    raise PromotionRefused(f"version {version} never passed the gate")
                earlier = champions(self.store.audit_log(problem.NAME)) if or_earlier or not version else []
                target, why = self.published.first_that_serves([target, *earlier], but=now.champion)
            wanted: dict[str, Any] = {CHALLENGER: None, "mode": None, "share": 0.0}
            if target != now.champion:
                wanted |= {CHAMPION: target, PREVIOUS: None}
            elif not (now.mode or self.store.rollout(problem.NAME)):
                raise PromotionRefused(
                    f"there is no other version to go back to (champion: {now.champion}); name one with --to, see the history"
                )
            with self.promotion(urgent=True) as lease:
                if self.route() == now:  # else somebody was quicker, and what was proved may be the wrong one
                    return self._change(lease, RolledBack(), reason + why, evidence, **wanted)

    def _change(
        self, lease: Lease, action: Action, reason: str, evidence: dict[str, Any] | None, **wanted: Any
    ) -> Route:
        change = Change(self.settings.who, action, reason, clock.now(self.settings), evidence or {})
        active = (rollouts.c.problem == problem.NAME) & rollouts.c.state.not_in(ENDED)
        # A promotion is refused while a rollout goes on; a rollback ends it.
        ended = rollouts.update().where(active).values(state="rolled back", waiting=None, since=change.at)
        return self.store.change_route(problem.NAME, lease, change, also=[ended], **wanted)

    def reconcile(self) -> bool:
        """Make MLflow's aliases follow the route, after a change, a crash or an outage; never raises for MLflow.

        Needs no lease, so nobody waits for MLflow: MLflow checks no writer, but whoever may have written
        something old sees here that the route has changed, and writes again.

        Returns:
            Whether they agree; False, with a warning in the log, when MLflow cannot be asked.
        """
        route = self.route()
        while tracking.mirror(lambda: self.client, route):
            written, route = route, self.route()
            if route == written:
                return True
        return False
