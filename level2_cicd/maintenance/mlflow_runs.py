"""Old runs of MLflow, with their versions, models and files; those of versions that stay are kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from level1_pipeline import problem
from level1_pipeline.errors import NoAnswer
from level1_pipeline.registry import Registry

PAGE = 500  # entries that MLflow gives at once
IDS_IN_COMMAND = 200
ALSO_DELETED = 3  # runs that were deleted and still have their files: a pruning was killed


@dataclass(frozen=True)
class Old:
    """What can go: MLflow's names, and the folders of files where they lie on this machine."""

    runs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()


def old(registry: Registry, kept_versions: Set[str], kept_runs: Set[str], keep: int) -> Old:
    """The runs but for the newest `keep`, and those that versions which stay were made by.

    Raises:
        NoAnswer: MLflow cannot be asked.
    """
    try:
        return _old(registry, kept_versions, kept_runs, keep)
    except Exception as error:  # of the network, of the database, or of MLflow
        raise NoAnswer(f"MLflow cannot say which runs it has, so nothing was deleted: {error}") from error


def _old(registry: Registry, kept_versions: Set[str], kept_runs: Set[str], keep: int) -> Old:
    client = registry.client
    experiment = client.get_experiment_by_name(problem.NAME)
    if experiment is None:
        return Old()
    ids = [experiment.experiment_id]
    runs = _all(lambda token: client.search_runs(ids, "", ALSO_DELETED, PAGE, ["attributes.start_time DESC"], token))
    made = _all(lambda token: client.search_model_versions(f"name = '{problem.NAME}'", PAGE, None, token))
    stay = set(kept_runs) | {run.info.run_id for run in runs[:keep]}
    stay |= {version.run_id for version in made if str(version.version) in kept_versions}
    gone = {run.info.run_id: run for run in runs if run.info.run_id not in stay}
    models = _all(lambda token: client.search_logged_models(ids, None, None, PAGE, None, token)) if gone else []
    models = [model for model in models if model.source_run_id in gone]
    places = [run.info.artifact_uri for run in gone.values()] + [model.artifact_location for model in models]
    folders = [Path(unquote(urlsplit(str(place)).path)) for place in places if str(place).startswith("file:")]
    return Old(
        tuple(gone),
        tuple(str(version.version) for version in made if version.run_id in gone),
        tuple(model.model_id for model in models),
        tuple(folder.parent for folder in folders if folder.exists()),
    )


def delete(registry: Registry, gone: Old) -> None:
    """Delete them for good. A tracking server keeps the right to do the last part itself: `mlflow gc` there.

    Raises:
        NoAnswer: MLflow did not do it; the same command again goes on.
    """
    client = registry.client
    for version in gone.versions:
        client.delete_model_version(problem.NAME, version)
    for model in gone.models:
        client.delete_logged_model(model)
    for run in gone.runs:
        if client.get_run(run).info.lifecycle_stage == "active":
            client.delete_run(run)
    store = registry.settings.tracking
    if store.startswith("http") or not gone.runs:
        return
    for start in range(0, len(gone.runs), IDS_IN_COMMAND):
        runs = ",".join(gone.runs[start : start + IDS_IN_COMMAND])
        command = [sys.executable, "-m", "mlflow", "gc", f"--run-ids={runs}"]
        # The address may hold a password, and everybody on this machine sees the command lines of all processes.
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise NoAnswer(f"mlflow gc failed, the same command again goes on: {why}")
    for folder in gone.folders:  # which MLflow leaves, empty
        if folder.is_relative_to(registry.settings.home):
            shutil.rmtree(folder, ignore_errors=True)


def _all(page: Any) -> list[Any]:
    """All entries of a list that MLflow gives in pages."""
    entries, token = [], None
    while True:
        some = page(token)
        entries += some
        token = getattr(some, "token", None)
        if not token:
            return entries
