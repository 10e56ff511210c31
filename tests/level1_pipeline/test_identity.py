"""A version is its content: no loss or exchange of MLflow, and nobody who can write files, changes what it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR

from level1_pipeline import problem
from level1_pipeline.bundle.load import MANIFEST, MODEL, bundle_checksum, verify_bundle
from level1_pipeline.errors import BundleRefused, NotFound
from level1_pipeline.registry import CHAMPION, Registry, tracking
from level1_pipeline.registry.tracking import PREVIOUS
from level1_pipeline.settings import Settings
from tests.support.homes import Done, Models
from tests.support.serving import edit_manifest


@pytest.fixture
def made(models: Callable[[], Models]) -> Models:
    """Two published versions; the second is the champion."""
    made = models()
    made.register(0.001)
    made.registry.promote(made.register(1.0), CHAMPION, "planted by a test")
    return made


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def new_database(migrated: Path) -> Callable[[Models], None]:
    """As if `mlflow.db` had been removed, and MLflow had made a new one: this process keeps the file open."""

    def replace(made: Models) -> None:
        database = made.registry.settings.home / "mlflow.db"
        with closing(sqlite3.connect(migrated)) as empty, closing(sqlite3.connect(database)) as target:
            empty.backup(target)

    return replace


def other_tracking_uri(made: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return made.registry.settings.changed({"tracking_uri": f"sqlite:///{made.registry.settings.home}/other.db"})


def model_deleted(made: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made.registry.client.delete_registered_model(problem.NAME)
    return made.registry.settings


def newest_version_deleted(made: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    made.registry.client.delete_registered_model_alias(problem.NAME, CHAMPION)
    made.registry.client.delete_model_version(problem.NAME, "2")
    return made.registry.settings


def foreign_registry(made: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{made.registry.settings.home}/foreign.db")
    return made.registry.settings


def artifacts_removed(made: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    shutil.rmtree(made.registry.settings.home / "mlartifacts")
    return made.registry.settings


WAYS = (
    *(other_tracking_uri, model_deleted, newest_version_deleted),
    *(foreign_registry, artifacts_removed),
)


@pytest.mark.evidence("the database of MLflow is lost")
@pytest.mark.parametrize("lose", [*WAYS, None], ids=lambda lose: lose.__name__ if lose else "database_removed")
def test_a_lost_mlflow_changes_nothing_that_is_served_and_the_next_version_gets_a_new_number(
    made: Models,
    lose: Callable[..., Settings] | None,
    new_database: Callable[[Models], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, bundles = made.answers(), content(made.registry.settings.bundles)
    settings = lose(made, monkeypatch) if lose else made.registry.settings
    if lose is None:
        new_database(made)
    after = Models(settings, made.rows)
    assert after.register(0.01) == "3"
    assert after.answers() == answers
    assert content(settings.bundles).items() >= bundles.items()
    after.registry.promote("3", CHAMPION, "trained after the loss")
    assert after.answers() != answers
    assert after.registry.rollback("it was better before").champion == "2"
    assert after.answers() == answers


def test_numbers_that_only_the_store_or_only_the_folder_knows_are_not_given_again(
    made: Models, new_database: Callable[[Models], None]
) -> None:
    settings = made.registry.settings
    shutil.rmtree(made.registry.bundle_folder("2"))
    shutil.copytree(made.registry.bundle_folder("1"), settings.bundles / "7")
    (settings.bundles / "20130501").mkdir()  # somebody's folder, and no bundle
    new_database(made)
    after = Models(settings, made.rows)
    assert after.register(0.01) == "8"
    numbers = after.registry.client.search_model_versions(f"name = '{problem.NAME}'")
    assert [str(version.version) for version in numbers] == ["8"]  # those that were skipped are gone


def test_a_registry_that_is_far_behind_is_not_counted_up_for_ever(
    made: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "MOST_SKIPPED", 3)
    made.registry.store.record_checksum(problem.NAME, "20130501", "of a version with a large number")
    with pytest.raises(
        NotFound, match=r"MLflow would give number .* next, and more than 3 higher ones were given before"
    ):
        made.register(0.01)
    numbers = made.registry.client.search_model_versions(f"name = '{problem.NAME}'")
    assert {str(version.version) for version in numbers} == {"1", "2"}


def test_two_that_register_the_same_number_get_different_ones(made: Models) -> None:
    """Another MLflow gives number 3, too, while this one registers."""
    taken = made.registry.store.record_checksum(problem.NAME, "3", "somebody was quicker")
    assert taken == "somebody was quicker"
    assert made.register(0.01) == "4"


def test_other_content_under_a_published_number_is_refused_and_nothing_changes(made: Models) -> None:
    before = content(made.registry.bundle_folder("2"))
    made.registry.publish("2")  # the same content again
    assert content(made.registry.bundle_folder("2")) == before
    with made.registry.published.workplace("2") as partial:
        other = Path(shutil.copytree(made.registry.bundle_folder("1"), partial / "other"))
        with pytest.raises(BundleRefused, match="holds another bundle"):
            made.registry.published.put("2", other)
    assert content(made.registry.bundle_folder("2")) == before


def bit_flipped(folder: Path) -> None:
    data = bytearray((folder / MANIFEST).read_bytes())
    place = data.index(b"trained_until") + 20
    data[place] ^= 1
    (folder / MANIFEST).write_bytes(data)


def forged(folder: Path) -> None:
    model = folder / MODEL
    model.write_bytes(model.read_bytes() + b"\0")
    edit_manifest(folder)


def blessed_by_hand(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"verdict": "pass"}))


@pytest.mark.parametrize("attack", [bit_flipped, forged, blessed_by_hand], ids=lambda attack: attack.__name__)
def test_a_bundle_whose_own_checksums_fit_is_refused_when_the_store_knows_another(
    made: Models, attack: Callable[[Path], None]
) -> None:
    version = made.register(0.5, verdict="fail" if attack is blessed_by_hand else "pass")
    folder = made.registry.bundle_folder(version)
    attack(folder)
    verify_bundle(folder)  # consistent in itself
    for act in (made.registry.load, made.registry.published.prove, made.registry.published.verify):
        with pytest.raises(BundleRefused, match="holds another bundle"):
            act(version)
    with pytest.raises(BundleRefused, match="holds another bundle"):
        made.registry.promote(version, CHAMPION, "no")
    with pytest.raises(BundleRefused, match="holds another bundle"):
        made.registry.rollback("no", version)
    assert made.registry.route().champion == "2"


def test_route_and_audit_log_name_each_version_with_its_checksum(made: Models) -> None:
    made.registry.promote(made.register(0.5), CHAMPION, "and one more")
    sums = {version: bundle_checksum(made.registry.bundle_folder(version)) for version in ("1", "2", "3")}
    assert made.registry.route().checksums == {version: sums[version] for version in ("2", "3")}
    line = made.registry.store.audit_log(problem.NAME)[-1]
    assert line.route
    assert line.route.checksums == {version: sums[version] for version in ("2", "3")}


def test_a_version_of_an_earlier_release_is_taken_as_it_lies_there_once(made: Models) -> None:
    from level1_pipeline.store.tables import bundles

    with made.registry.store.engine.begin() as connection:
        connection.execute(bundles.delete())
    checksum = bundle_checksum(made.registry.bundle_folder("2"))
    assert made.registry.route().checksums == {}
    made.registry.load("2")
    assert made.registry.route().checksums == {"2": checksum}
    bit_flipped(made.registry.bundle_folder("2"))
    with pytest.raises(BundleRefused, match="holds another bundle"):
        made.registry.load("2")


def test_a_folder_that_somebody_put_there_is_no_version(made: Models) -> None:
    shutil.copytree(made.registry.bundle_folder("1"), made.registry.bundle_folder("77"))
    blessed_by_hand(made.registry.bundle_folder("77"))
    edit_manifest(made.registry.bundle_folder("77"))
    for act in (made.registry.load, lambda version: made.registry.promote(version, CHAMPION, "no")):
        with pytest.raises(BundleRefused, match="was never registered as version 77"):
            act("77")
    with pytest.raises(BundleRefused, match="was never registered as version 77"):
        made.registry.rollback("no", "77")
    assert made.registry.route().champion == "2"


def test_a_damaged_bundle_is_no_first_truth(made: Models) -> None:
    from level1_pipeline.store.tables import bundles

    with made.registry.store.engine.begin() as connection:
        connection.execute(bundles.delete())
    (made.registry.bundle_folder("2") / MODEL).write_bytes(b"rubbish")
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        made.registry.load("2")
    assert made.registry.store.checksums(problem.NAME) == {}


def test_a_path_is_no_version(made: Models) -> None:
    acts = (made.registry.load, made.registry.publish, lambda version: made.registry.rollback("no", version))
    for name in ("2/", "./2", "../2", "2\n", ".", "..", "a/b", "/2", ".damaged-2-abc"):
        for act in acts:
            with pytest.raises(NotFound, match="is no version"):
                act(name)
    assert made.registry.route().champion == "2"


# ---- a way back that can be walked


def spoil(registry: Registry, version: str) -> None:
    """It verifies, and cannot be loaded: what a checksum alone does not see."""
    from level1_pipeline.store.tables import bundles

    folder = registry.bundle_folder(version)
    (folder / MODEL).write_bytes(b"a file of another library")
    edit_manifest(folder)
    with registry.store.engine.begin() as connection:
        values = {"checksum": bundle_checksum(folder)}
        connection.execute(bundles.update().where(bundles.c.version == version).values(values))
    verify_bundle(folder, bundle_checksum(folder))


@pytest.mark.evidence("the previous version does not load")
def test_a_rollback_to_what_cannot_be_loaded_changes_nothing(made: Models) -> None:
    registry = made.registry
    registry.promote("1", CHAMPION, "back and")
    registry.promote("2", CHAMPION, "forth")
    spoil(registry, "1")
    before, lines = registry.route(), len(registry.store.audit_log(problem.NAME))
    for version in (None, "1"):
        with pytest.raises(BundleRefused, match=r"not version 1: .*not a readable skops file"):
            registry.rollback("no", version)
    assert (registry.route(), len(registry.store.audit_log(problem.NAME))) == (before, lines)
    with pytest.raises(BundleRefused, match="not a readable skops file"):
        registry.promote("1", CHAMPION, "no")
    assert registry.route() == before


@pytest.mark.evidence("the previous version does not load")
def test_a_previous_champion_that_cannot_serve_is_passed_over_in_words(made: Models) -> None:
    registry = made.registry
    registry.promote("1", CHAMPION, "for a day")
    registry.promote(made.register(0.5), CHAMPION, "the newest")
    assert registry.route().previous == "1"
    spoil(registry, "1")
    assert registry.rollback("complaints").champion == "2"
    assert "complaints (not version 1: " in registry.store.audit_log(problem.NAME)[-1].reason


def test_a_version_that_is_named_has_no_substitute(made: Models) -> None:
    registry = made.registry
    registry.promote("1", CHAMPION, "for a day")
    registry.promote(made.register(0.5), CHAMPION, "the newest")
    spoil(registry, "1")
    with pytest.raises(BundleRefused, match="not version 1"):
        registry.rollback("that one and no other", "1")
    assert registry.route().champion == "3"


# ---- repair


@pytest.mark.parametrize(
    ("damage", "source"), [("a byte", "MLflow"), ("a file", "the bundle"), ("everything", "the home")]
)
def test_a_damaged_bundle_is_brought_back(
    made: Models, tmp_path: Path, level1: Callable[..., Done], damage: str, source: str
) -> None:
    home, folder = made.registry.settings.home, made.registry.bundle_folder("2")
    before = content(folder)
    backup = shutil.copytree(home, tmp_path / "backup") if source != "MLflow" else None
    if damage == "a byte":
        (folder / MODEL).write_bytes(before[MODEL][:-1] + b"!")
    elif damage == "a file":
        (folder / MANIFEST).unlink()
    else:
        shutil.rmtree(folder)
    arguments: list[Any] = ["repair", "2", "--reason", "a disk fault"]
    if backup:
        arguments += ["--from", str(backup / folder.relative_to(home) if source == "the bundle" else backup)]
    done = level1(home, *arguments)
    assert (done.returncode, content(folder)) == (0, before), done.stderr
    assert "version 2" in done.stdout
    line = made.registry.store.audit_log(problem.NAME)[-1]
    assert (line.text, line.to_version, line.reason) == ("repair bundle", "2", "a disk fault")
    kept = list(folder.parent.glob(".damaged-2-*"))
    assert len(kept) == (damage != "everything")
    assert "nothing was done" in level1(home, "repair", "2").stdout


@pytest.mark.parametrize("is_there", [True, False], ids=["damaged", "gone"])
def test_a_bundle_of_an_earlier_release_is_repaired_by_what_mlflow_remembers(made: Models, is_there: bool) -> None:
    from level1_pipeline.store.tables import bundles

    folder = made.registry.bundle_folder("2")
    before = content(folder)
    with made.registry.store.engine.begin() as connection:
        connection.execute(bundles.delete())
    (folder / MODEL).write_bytes(b"rubbish")
    if not is_there:
        shutil.rmtree(folder)
    assert made.registry.repair("2", "a disk fault")
    assert content(folder) == before
    assert made.registry.store.checksums(problem.NAME) == {"2": bundle_checksum(folder)}


def test_another_mlflow_does_not_say_what_a_version_of_an_earlier_release_was(made: Models) -> None:
    from level1_pipeline.store.tables import bundles

    with made.registry.store.engine.begin() as connection:
        connection.execute(bundles.delete())
    made.registry.client.set_model_version_tag(problem.NAME, "2", "bundle_sha256", "of another model")
    (made.registry.bundle_folder("2") / MODEL).write_bytes(b"rubbish")
    with pytest.raises(NotFound, match="neither the store nor MLflow knows what version 2 was"):
        made.registry.repair("2", "no")


def test_no_alias_names_other_content_and_the_other_aliases_are_right_all_the_same(made: Models) -> None:
    registry = made.registry
    registry.promote("1", CHAMPION, "for a day")
    registry.client.set_model_version_tag(problem.NAME, "1", "bundle_sha256", "of another model")
    registry.client.delete_registered_model_alias(problem.NAME, PREVIOUS)
    assert not registry.reconcile()
    assert registry.client.get_registered_model(problem.NAME).aliases.keys() == {PREVIOUS}


def busy(*_: object) -> None:
    raise MlflowException("the database is busy", INTERNAL_ERROR)


def test_a_repair_says_that_mlflow_cannot_be_asked_and_not_that_it_does_not_know(
    made: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    from level1_pipeline.store.tables import bundles

    with made.registry.store.engine.begin() as connection:
        connection.execute(bundles.delete())
    monkeypatch.setattr(made.registry.client, "get_model_version", busy)
    with pytest.raises(NotFound, match=f"MLflow cannot be asked what version 2 of {problem.NAME} is"):
        made.registry.repair("2", "no")


def test_a_version_that_mlflow_cannot_show_for_a_moment_keeps_its_alias(
    made: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = made.registry
    before = registry.client.get_registered_model(problem.NAME).aliases
    with monkeypatch.context() as patch:
        patch.setattr(registry.client, "get_model_version", busy)
        assert not registry.reconcile()
    assert str(before[CHAMPION]) == "2"
    assert registry.client.get_registered_model(problem.NAME).aliases == before
    assert registry.reconcile()


def test_a_repair_takes_nothing_else_than_what_the_version_was(made: Models, tmp_path: Path) -> None:
    folder = made.registry.bundle_folder("2")
    other = shutil.copytree(made.registry.bundle_folder("1"), tmp_path / "2")
    (folder / MODEL).write_bytes(b"rubbish")
    with pytest.raises(BundleRefused, match="holds another bundle"):
        made.registry.repair("2", "no", Path(other))
    with pytest.raises(NotFound, match="holds no bundle of version 2"):
        made.registry.repair("2", "no", tmp_path / "nowhere")
    with pytest.raises(NotFound, match="neither the store nor MLflow knows what version 9 was"):
        made.registry.repair("9", "no")
    assert (folder / MODEL).read_bytes() == b"rubbish"
