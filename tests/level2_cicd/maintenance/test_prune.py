"""What a home no longer needs goes, and nothing that serves, may serve again, or is asked for by a trace."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import MANIFEST
from level1_pipeline.errors import BundleRefused, LeaseHeld
from level1_pipeline.registry import CHAMPION, Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.audit import HomeMaintained
from level2_cicd.lineage import trace
from level2_cicd.maintenance.prune import needed_versions, plan, prune
from level2_cicd.rollout.advance import start
from monitoring.reporting import evidently_snapshot
from tests.support.days import Days
from tests.support.homes import Models
from tests.support.prediction_log import log_predictions
from tests.support.serving import NOW

pytestmark = pytest.mark.integration


@pytest.fixture
def old_home(home: Settings, rows: pd.DataFrame) -> Models:
    """Eight registered versions: 1, 2 and 3 were champion one after the other; version 4 answered a logged prediction."""
    models = Models(home, rows)
    for number in range(8):
        models.register(1.0 + number, data_digest=f"digest-{number + 1}", run_id="")
    for version in ("1", "2", "3"):
        models.registry.promote(version, CHAMPION, "a test")
    line = {"id": "case", "at": NOW, "record": rows_of(models)[0], "score": 0.5, "version": "4"}
    log_predictions(models.registry.store, [line])
    pages = home.home / "reports"
    project = evidently_snapshot.workspace(home) / str(evidently_snapshot.project_id(problem.NAME)) / "snapshots"
    for place in (pages / "level1" / problem.NAME, pages / "monitor" / problem.NAME, project):
        place.mkdir(parents=True)
    for day in range(1, 9):
        (pages / "level1" / problem.NAME / f"2013-04-0{day}").mkdir()
        (pages / "monitor" / problem.NAME / f"2013-04-0{day}.html").write_text("a page")
        (project / f"{9 - day}.json").write_text("a snapshot")
        os.utime(project / f"{9 - day}.json", (day, day))
    kept = home.home / "training_data" / problem.NAME
    kept.mkdir(parents=True)
    for number in range(1, 10):
        (kept / f"digest-{number}.parquet").write_text("rows")
    return models


def rows_of(models: Models) -> list[dict[str, object]]:
    return schema.records(models.rows.head(2))


def published(registry: Registry) -> list[str]:
    return sorted(path.name for path in registry.settings.bundles.iterdir())


@pytest.mark.slow
def test_what_is_needed_stays_however_old_it_is_and_the_rest_goes_with_one_line_in_the_audit_log(
    old_home: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, settings = old_home.registry, old_home.registry.settings
    run, commands = subprocess.run, list[str]()

    def noted(command: list[str], **how: Any) -> Any:
        commands.append(" ".join(command))
        return run(command, **how)

    monkeypatch.setattr(subprocess, "run", noted)
    before = len(registry.store.audit_log(problem.NAME))
    assert needed_versions(registry.store) == {"1", "2", "3", "4"}, (
        "the champion, those before it, and what the log names"
    )
    prune(settings, 2, "a test")
    (collected,) = commands
    assert "mlflow gc" in collected
    assert settings.tracking not in collected, "of a server it holds the password, and everybody sees command lines"
    assert published(registry) == ["1", "2", "3", "4", "7", "8"]
    line, *more = registry.store.audit_log(problem.NAME)[before:]
    assert not more
    assert line.action == HomeMaintained()
    assert line.evidence["versions"] == ["5", "6"]
    made = registry.client.search_model_versions(f"name = '{problem.NAME}'")
    assert sorted(str(version.version) for version in made) == ["1", "2", "3", "4", "7", "8"]
    runs = registry.client.search_runs([registry.experiment(problem.NAME)], run_view_type=3)
    assert {run.info.run_id for run in runs} == {version.run_id for version in made}
    artifacts = settings.home / "mlartifacts" / problem.NAME
    assert {path.name for path in artifacts.iterdir()} - {"models"} == {run.info.run_id for run in runs}
    kept = sorted(path.stem for path in (settings.home / "training_data" / problem.NAME).iterdir())
    assert kept == [f"digest-{version}" for version in published(registry)]
    reports = settings.home / "reports"
    assert sorted(path.name for path in (reports / "level1" / problem.NAME).iterdir()) == ["2013-04-07", "2013-04-08"]
    assert sorted(path.stem for path in (reports / "monitor" / problem.NAME).iterdir()) == ["2013-04-07", "2013-04-08"]
    assert sorted(path.stem for path in reports.glob("evidently/*/snapshots/*.json")) == ["1", "2"], (
        "the newest by time"
    )
    (traced,) = trace(settings, "case")
    assert traced.again is not None, "its version can be asked again"
    assert registry.rollback("a test").champion == "2"
    after = len(registry.store.audit_log(problem.NAME))
    prune(settings, 2, "again")
    assert len(registry.store.audit_log(problem.NAME)) == after, "nothing was left to delete"


def test_without_a_confirmation_only_the_figures_are_said(old_home: Models) -> None:
    settings = old_home.registry.settings
    before = sorted(path for path in settings.home.rglob("*") if ".db" not in path.name)
    said = plan(settings, 2)
    assert said.versions == ["5", "6"]
    counts = {kind: count for kind, (count, _) in said.sizes.items()}
    assert counts == {"bundles": 2, "MLflow runs": 2, "reports": 12, "Evidently snapshots": 6, "training data": 3}
    assert said.sizes["bundles"][1] > 1000
    assert sorted(path for path in settings.home.rglob("*") if ".db" not in path.name) == before


def test_the_version_that_a_recalibration_moved_stays_because_the_gate_asks_it(old_home: Models) -> None:
    old_home.register(9.0, data_digest="digest-9", run_id="", recalibration={"parent": "5"})
    assert plan(old_home.registry.settings, 2).versions == ["6", "7"]


def test_where_a_manifest_cannot_be_read_nothing_is_deleted_and_one_line_says_what_to_do(old_home: Models) -> None:
    registry = old_home.registry
    for content in ("{", "[1]"):
        (registry.bundle_folder("8") / MANIFEST).write_text(content)
        with pytest.raises(BundleRefused, match=r"bundle.json cannot be read .* make repair VERSION=8") as refusal:
            prune(registry.settings, 2, "a test")
        assert "\n" not in str(refusal.value)
    assert len(published(registry)) == 8


def test_the_candidate_of_a_rollout_stays(days: Days) -> None:
    days.register("2")
    start(days.settings, "2", "a test", now=days.now)
    assert "2" in needed_versions(days.store)


def test_nothing_is_pruned_during_a_training_or_a_backup(old_home: Models) -> None:
    registry = old_home.registry
    for name in (f"train {problem.NAME}", f"maintain {problem.NAME}"):
        with leases.hold(registry.store, name, 30), pytest.raises(LeaseHeld):
            prune(registry.settings, 2, "a test")
    assert len(published(registry)) == 8


@pytest.mark.slow
def test_one_that_was_killed_is_finished_by_the_next(old_home: Models) -> None:
    registry = old_home.registry
    bundle = registry.bundle_folder("5")
    bundle.rename(bundle.with_name(".pruned-5"))
    registry.client.delete_run(registry.client.get_model_version(problem.NAME, "5").run_id)
    prune(registry.settings, 2, "a test")
    assert published(registry) == ["1", "2", "3", "4", "7", "8"]
    assert len(registry.client.search_runs([registry.experiment(problem.NAME)], run_view_type=3)) == 6
