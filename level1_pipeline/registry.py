"""Versions of the model: register, publish, promote, roll back. The only file that names MLflow aliases.

MLflow keeps runs, versions and aliases for people. What is served stands in the `routes` row of the
store; the aliases mirror it. A promotion or rollback writes the row under a lease, with its audit
line, and works on published bundles, so it needs neither MLflow nor scikit-learn.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle, bundle_checksum, load_bundle, replace_folder, verify_bundle
from level1_pipeline.errors import BundleRefused, NotFound, PromotionRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Action, Change, Promoted, RolledBack
from level1_pipeline.store.database import ENDED, Lease, Store
from level1_pipeline.store.routes import Route
from level1_pipeline.store.tables import rollouts

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
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
        """MLflow, opened on the first use (it migrates a new database)."""
        import mlflow

        mlflow.set_tracking_uri(self.settings.tracking)
        client = mlflow.MlflowClient()
        database = Path(self.settings.tracking.removeprefix("sqlite:///"))
        if self.settings.tracking.startswith("sqlite:///"):
            client.search_experiments(max_results=1)
            with sqlite3.connect(database) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
        return client

    def experiment(self, name: str) -> str:
        """The id of an MLflow experiment, made when it is missing."""
        experiment = self.client.get_experiment_by_name(name)
        artifacts = (self.settings.home / "mlartifacts" / name).as_uri()
        return (
            experiment.experiment_id if experiment else self.client.create_experiment(name, artifact_location=artifacts)
        )

    def register(self, run_id: str, model_uri: str, folder: Path, tags: dict[str, str]) -> str:
        """Make a version of a logged model, with the bundle in `folder` as its artifact. Returns the version."""
        if not self.client.search_registered_models(f"name = '{problem.NAME}'"):
            self.client.create_registered_model(problem.NAME, description=(problem.__doc__ or "").strip())
        artifact = f"bundles/{folder.name}"
        self.client.log_artifacts(run_id, str(folder), artifact)
        tags = {**tags, "bundle": artifact, "bundle_sha256": bundle_checksum(folder)}
        return str(self.client.create_model_version(problem.NAME, model_uri, run_id, tags=tags).version)

    def bundle_folder(self, version: str) -> Path:
        """Where a published version lies."""
        return self.settings.bundles / version

    def publish(self, version: str) -> Path:
        """Copy a version's bundle to where it is served from, whole or not at all.

        Raises:
            BundleRefused: the bytes are not those that were registered.
            NotFound: there is no such version.
        """
        target = self.bundle_folder(version)
        from mlflow.exceptions import MlflowException

        try:
            registered = self.client.get_model_version(problem.NAME, version)
        except MlflowException as error:
            raise NotFound(
                f"version {version} of {problem.NAME} cannot be read from MLflow ({error}); see the history"
            ) from error
        partial = target.with_name(f".{version}-{uuid4().hex}")
        partial.mkdir(parents=True)
        try:
            copied = Path(self.client.download_artifacts(registered.run_id, registered.tags["bundle"], str(partial)))
            verify_bundle(copied)
            if bundle_checksum(copied) != registered.tags["bundle_sha256"]:
                raise BundleRefused(
                    f"the manifest of version {version} is not the one that was registered; train again"
                )
            replace_folder(copied, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target

    def load(self, version: str) -> Bundle:
        """A published version, verified; see `bundle.load`."""
        return load_bundle(self.bundle_folder(version))

    def evaluation_model(self, model: Bundle) -> Bundle | None:
        """The model that the gate judged in the place of a served one, if there is one.

        It lies in the served model's bundle. In a home made before, it is a version of its own.

        Raises:
            BundleRefused: it is damaged or gone.
        """
        older = model.manifest.get("judged_version")
        return self.load(older) if older else model.evaluation_model

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
        """
        if verify_bundle(self.bundle_folder(version)).get("verdict") != "pass":
            raise PromotionRefused(f"version {version} has not passed the gate, so it cannot become {alias}")
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

    def rollback(self, reason: str, version: str | None = None, evidence: dict[str, Any] | None = None) -> Route:
        """Serve the previous champion again (or `version`), and end any rollout; without a previous one only that.

        Works on the disk and the store alone, whatever MLflow or a process that holds the lease does; the
        aliases follow with the caller's `reconcile`.

        Raises:
            PromotionRefused: there is nothing to go back to and no rollout to end.
            BundleRefused: the older bundle is damaged.
        """
        with self.promotion(urgent=True) as lease:
            now = self.route()
            target = version or now.previous or now.champion
            wanted: dict[str, Any] = {CHALLENGER: None, "mode": None, "share": 0.0}
            if target != now.champion:
                if verify_bundle(self.bundle_folder(str(target))).get("verdict") != "pass":
                    raise PromotionRefused(f"version {target} never passed the gate")
                wanted |= {CHAMPION: target, PREVIOUS: None}
            elif not (now.mode or self.store.rollout(problem.NAME)):
                raise PromotionRefused(
                    f"there is no other version to go back to (champion: {now.champion}); name one with --to, see the history"
                )
            return self._change(lease, RolledBack(), reason, evidence, **wanted)

    def _change(
        self, lease: Lease, action: Action, reason: str, evidence: dict[str, Any] | None, **wanted: Any
    ) -> Route:
        change = Change(self.settings.who, action, reason, clock.now(self.settings), evidence or {})
        active = (rollouts.c.problem == problem.NAME) & rollouts.c.state.not_in(ENDED)
        # A promotion is refused while a rollout goes on; a rollback ends it.
        ended = rollouts.update().where(active).values(state="rolled back", waiting=None, since=change.at)
        return self.store.change_route(problem.NAME, lease, change, also=[ended], **wanted)

    def _mirror(self, route: Route) -> bool:
        """Make MLflow's aliases say what the route says. False when MLflow cannot be reached: the next
        change mends it, and nothing that is served depends on it."""
        wanted = {alias: getattr(route, alias) for alias in (CHAMPION, CHALLENGER, PREVIOUS)}
        if not any(wanted.values()):
            return True  # nothing was ever promoted, and MLflow may not even know the model
        try:
            have = self.client.get_registered_model(problem.NAME).aliases
            for alias, version in wanted.items():
                if version and str(have.get(alias)) != version:
                    self.client.set_registered_model_alias(problem.NAME, alias, version)
                elif not version and alias in have:
                    self.client.delete_registered_model_alias(problem.NAME, alias)
        except Exception as error:  # any failure of the registry must leave serving and rollback alone
            logger.warning(
                "MLflow's aliases could not be updated (%s); what is served is not affected", type(error).__name__
            )
            return False
        return True

    def reconcile(self) -> bool:
        """Make MLflow's aliases follow the route, after a change, a crash or an outage; never raises for MLflow.

        Needs no lease, so nobody waits for MLflow: MLflow checks no writer, but whoever may have written
        something old sees here that the route has changed, and writes again.

        Returns:
            Whether they agree; False, with a warning in the log, when MLflow cannot be asked.
        """
        route = self.route()
        while self._mirror(route):
            written, route = route, self.route()
            if route == written:
                return True
        return False
