"""A home that was moved, copied, or cannot be written: it goes on working, and nobody writes into another one."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from level1_pipeline import problem
from level1_pipeline.registry import CHAMPION
from level1_pipeline.settings import Settings
from level1_pipeline.store import schema
from level1_pipeline.store.database import Store
from level2_cicd.cli import main as level2
from monitoring.cli import main as monitoring
from tests.support.homes import Done, Models, run_level1
from tests.support.store import old_store


def files(home: Path) -> dict[str, bytes]:
    """Every file of a home but the databases, which reading may touch."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and ".db" not in path.name
    }


@pytest.fixture
def made(models: Callable[[], Models]) -> Models:
    """A home with one version, which serves."""
    made = models()
    made.registry.promote(made.register(1.0), CHAMPION, "planted by a test")
    made.registry.store.close()
    return made


def at(made: Models, home: Path) -> Models:
    return Models(made.registry.settings.changed({"home": home}), made.rows)


@pytest.mark.evidence("the machine is unusual")
@pytest.mark.parametrize("name", ["moved", "with a space & ü"])
@pytest.mark.slow
def test_a_moved_home_goes_on_where_it_lies_now(made: Models, tmp_path: Path, name: str) -> None:
    answers, old = made.answers(), made.registry.settings.home
    new = tmp_path / "elsewhere" / name
    new.parent.mkdir()
    old.rename(new)
    after = at(made, new)
    assert after.answers() == answers
    assert after.register(0.01) == "2"
    after.registry.promote("2", CHAMPION, "trained after the move")
    shutil.rmtree(after.registry.bundle_folder("1"))
    done = run_level1(new, "repair", "1", "--reason", "its artifact lies here, too")  # MLflow remembers addresses
    assert done.returncode == 0, done.stderr
    assert after.registry.load("1").manifest["problem"] == problem.NAME
    assert not old.exists()


def test_a_copy_never_writes_into_the_original(made: Models, tmp_path: Path) -> None:
    original = made.registry.settings.home
    copy = at(made, Path(shutil.copytree(original, tmp_path / "copy")))
    before = files(original)
    assert copy.register(0.01) == "2"
    assert files(original) == before
    assert len(list((copy.registry.settings.home / "mlartifacts").rglob("bundle.json"))) == 2
    assert at(made, original).register(0.1) == "2"
    with closing(sqlite3.connect(copy.registry.settings.home / "mlflow.db")) as database:
        places = [place for (place,) in database.execute("SELECT artifact_uri FROM runs")]
    assert places
    assert not [place for place in places if str(original) in place]


# ---- reading without writing


@pytest.fixture
def read_only(made: Models, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """For root every folder can be written, so the answer of the operating system is planted."""
    monkeypatch.setattr(schema, "is_read_only", lambda file: True)
    monkeypatch.setenv("MLOPS_HOME", str(made.registry.settings.home))
    return made.registry.settings


@pytest.mark.evidence("the machine is unusual")
def test_what_only_reads_works_in_a_home_that_cannot_be_written(
    read_only: Settings, level1: Callable[..., Done]
) -> None:
    done = level1(read_only.home, "history")
    assert (done.returncode, "planted by a test" in done.stdout) == (0, True), done.stderr
    assert monitoring(["tickets"]) == 0
    assert level2(["rollout", "status"]) == 0
    assert Store(read_only.operations).route(problem.NAME).champion == "1"


def test_a_reader_that_cannot_write_sees_what_others_write_meanwhile(
    made: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.register(0.01)
    made.registry.store.close()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "is_read_only", lambda file: True)
        reader = Store(made.registry.settings.operations)
        assert reader.route(problem.NAME).champion == "1"
    for version in ("2", "1"):
        made.registry.promote(version, CHAMPION, "meanwhile")
        assert reader.route(problem.NAME).champion == version
        made.registry.store.close()  # the write-ahead log is gone again
        assert reader.route(problem.NAME).champion == version


@pytest.mark.evidence("the machine is unusual")
def test_what_writes_ends_there_in_one_sentence(read_only: Settings, level1: Callable[..., Done]) -> None:
    done = level1(read_only.home, "promote", "1", "--reason", "no")
    assert done.returncode == 1
    assert "readonly database" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.flights
def test_an_old_store_that_cannot_be_written_is_refused_in_one_sentence(
    home: Settings, level1: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    home.home.mkdir()
    with closing(sqlite3.connect(home.home / "operations.db")) as connection:
        connection.executescript(f"BEGIN; {old_store('sqlite')} COMMIT")
    monkeypatch.setattr(schema, "is_read_only", lambda file: True)
    done = level1(home.home, "history")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "make a copy that can be" in done.stderr


@pytest.mark.parametrize("mode", ["WAL", "EXCLUSIVE"])
def test_a_store_that_is_locked_keeps_no_reader_waiting_for_long(
    made: Models, level1: Callable[..., Done], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer keeps out writers only; one that keeps out all ends a command in one sentence."""
    monkeypatch.setattr(schema, "READER_SECONDS", 1)
    settings, started = made.registry.settings, time.monotonic()
    with closing(sqlite3.connect(settings.home / "operations.db", isolation_level=None)) as other:
        if mode == "EXCLUSIVE":
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("DELETE FROM replay")
        done = level1(settings.home, "history")
        other.execute("ROLLBACK")
    assert time.monotonic() - started < 20
    if mode == "WAL":
        assert (done.returncode, "planted by a test" in done.stdout) == (0, True), done.stderr
    else:
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert "locked" in done.stderr


@pytest.mark.evidence("the machine is unusual")
@pytest.mark.parametrize("where", ["a file in the place of the home", "a folder in the place of the database"])
def test_a_disk_that_is_not_as_it_should_be_ends_a_command_in_one_sentence(
    home: Settings, level1: Callable[..., Done], where: str
) -> None:
    if where.startswith("a file"):
        home.home.write_text("no folder")
    else:
        (home.home / "operations.db").mkdir(parents=True)
    done = level1(home.home, "history")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
