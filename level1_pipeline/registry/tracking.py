"""MLflow for a home: opened with our addresses only, versions made and fetched, aliases written.

The only file that names MLflow's aliases.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from level1_pipeline import problem
from level1_pipeline.bundle.load import verify_bundle
from level1_pipeline.errors import BundleRefused, NotFound
from level1_pipeline.settings import Settings
from level1_pipeline.store.routes import Route

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

ALIASES = CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
ARTIFACTS = "mlartifacts"
MOST_SKIPPED = 5000  # numbers of versions; each costs MLflow some 20 ms
PLACES = {  # where MLflow keeps absolute addresses of artifacts
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def open_client(settings: Settings) -> MlflowClient:
    """MLflow for this home, whatever addresses other projects have set in the environment. Migrates a new database."""
    import mlflow

    mlflow.set_tracking_uri(settings.tracking)
    mlflow.set_registry_uri(settings.tracking)  # else MLFLOW_REGISTRY_URI would win
    client = mlflow.MlflowClient(settings.tracking, settings.tracking)
    if settings.tracking.startswith("sqlite:///"):
        client.search_experiments(max_results=1)
        database = Path(settings.tracking.removeprefix("sqlite:///"))
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            if not settings.tracking_uri:
                _follow_the_home(connection, settings.home)
    return client


def artifact_location(home: Path, experiment: str) -> str:
    """Where the artifacts of an experiment lie."""
    return (home / ARTIFACTS / experiment).as_uri()


def _follow_the_home(connection: sqlite3.Connection, home: Path) -> None:
    """Let the addresses lead into this home again after it was moved, renamed or copied: MLflow keeps absolute ones,
    and a copy would read from, and write into, the original."""
    here = f"{(home / ARTIFACTS).as_uri()}/"
    with connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in PLACES.keys() & tables:
            for column in PLACES[table]:
                elsewhere = f"{column} LIKE 'file:%/{ARTIFACTS}/%' AND substr({column}, 1, :length) <> :here"
                rows = connection.execute(
                    f"SELECT DISTINCT {column} FROM {table} WHERE {elsewhere}",  # noqa: S608  (our own names)
                    {"here": here, "length": len(here)},
                ).fetchall()
                connection.executemany(
                    f"UPDATE {table} SET {column} = ? WHERE {column} = ?",  # noqa: S608  (our own names)
                    [(here + address.rpartition(f"/{ARTIFACTS}/")[2], address) for (address,) in rows],
                )


def create_version(
    client: MlflowClient,
    model_uri: str,
    run_id: str,
    tags: dict[str, str],
    is_new: Callable[[str], bool],
    about: str = "",
) -> str:
    """Make a version of a logged model, described by `about`, under a number that was never given before.

    MLflow counts from 1 again when its database is lost, or is another one: such numbers are skipped, and deleted.

    Raises:
        NotFound: more than MOST_SKIPPED would have to be skipped.
    """
    if not client.search_registered_models(f"name = '{problem.NAME}'"):
        client.create_registered_model(problem.NAME, description=(problem.__doc__ or "").strip())
    given: list[str] = []
    # A server wants it beside the address: without it, it refuses an address of a logged model.
    model_id = model_uri.removeprefix("models:/") if model_uri.startswith("models:/m-") else None
    make = partial(
        client.create_model_version, problem.NAME, model_uri, run_id, tags, description=about, model_id=model_id
    )
    try:
        while not given or not is_new(given[-1]):
            if len(given) > MOST_SKIPPED:
                raise NotFound(
                    f"MLflow would give number {given[-1]} next, and more than {MOST_SKIPPED:,} higher ones were given "
                    "before: restore its database from a backup, or begin with a new MLOPS_HOME"
                )
            given.append(str(make().version))
        return given.pop()
    finally:
        for version in given:  # only now, so that none of them is given again
            client.delete_model_version(problem.NAME, version)


def fetch_bundle(client: MlflowClient, version: str, folder: Path) -> Path:
    """A copy, in `folder`, of the bundle that was registered as this version.

    Raises:
        BundleRefused: the bytes are not those that were registered.
        NotFound: MLflow has no such version, or not its files.
    """
    from mlflow.exceptions import MlflowException

    try:
        registered = client.get_model_version(problem.NAME, version)
        copied = Path(client.download_artifacts(registered.run_id, registered.tags["bundle"], str(folder)))
        checksum = registered.tags["bundle_sha256"]
    except (MlflowException, KeyError, OSError) as error:
        raise NotFound(
            f"version {version} of {problem.NAME} cannot be read from MLflow ({error}); see the history"
        ) from error
    verify_bundle(copied, checksum)
    return copied


def registered_checksum(client: MlflowClient, version: str) -> str | None:
    """What MLflow says that a version is; None if it has no such version.

    Raises:
        NotFound: it cannot be asked now, which says nothing about the version.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(problem.NAME, version).tags.get("bundle_sha256")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(
                f"MLflow cannot be asked what version {version} of {problem.NAME} is ({error}); try again when it answers"
            ) from error
        return None


def mirror(open_mlflow: Callable[[], MlflowClient], route: Route) -> bool:
    """Make MLflow's aliases say what the route says. False when MLflow cannot be reached: the next change mends it,
    and nothing that is served depends on it."""
    wanted = {alias: getattr(route, alias) for alias in ALIASES}
    if not any(wanted.values()):
        return True  # nothing was ever promoted, and MLflow may not even know the model
    failures: list[object] = []
    try:
        client = open_mlflow()
        have = client.get_registered_model(problem.NAME).aliases
        for alias, version in wanted.items():
            try:
                _write_alias(client, alias, have.get(alias), version, route.checksums.get(version or ""))
            except Exception as error:  # the other aliases can be right all the same
                failures.append(error)
    except Exception as error:  # any failure of the registry must leave serving and rollback alone
        failures.append(error)
    for failure in failures:
        logger.warning("MLflow's aliases could not be updated (%s); what is served is not affected", failure)
    return not failures


def _write_alias(client: MlflowClient, alias: str, have: object, version: str | None, checksum: str | None) -> None:
    """Make an alias name this version, and no other content that has the same number in MLflow.

    Raises:
        BundleRefused: MLflow's version of this number is another one; the alias names nothing then.
    """
    is_it = version and checksum in (None, registered_checksum(client, version))
    if have and not (is_it and str(have) == version):
        client.delete_registered_model_alias(problem.NAME, alias)
    if version and not is_it:
        raise BundleRefused(f"MLflow's version {version} is not the one that is served")
    if version and str(have) != version:
        client.set_registered_model_alias(problem.NAME, alias, version)
