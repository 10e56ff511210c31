"""A home of the last release before migrations opens, migrates by itself, and everything in it is read."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import StoreRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit, audit_queries, clock, quarantine, schema, tables
from level1_pipeline.store.database import Store
from level1_pipeline.store.routes import Route
from monitoring import history
from monitoring.alerting import tickets
from tests.support import ROOT
from tests.support.store import exit_codes, old_store, read_audit_log, start_processes

pytestmark = pytest.mark.flights


@pytest.fixture
def old(home: Settings) -> Path:
    """The database of a home that the last release before migrations made."""
    home.home.mkdir(parents=True)
    path = home.home / "operations.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(f"BEGIN; {old_store('sqlite')} COMMIT")
    connection.close()
    return path


@pytest.fixture
def store(old: Path) -> Iterator[Store]:
    """The same, opened by this release."""
    store = Store(f"sqlite:///{old}")
    yield store
    store.close()


def table(path: Path, name: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(f"SELECT * FROM {name}").fetchall()


def test_the_monitoring_runs_of_an_old_home_are_read_in_the_standard_words(store: Store) -> None:
    newest = history.newest(store, datetime.now(UTC))
    assert newest
    assert (newest.diagnosis.cause, newest.diagnosis.action) == ("concept drift", "retrain")
    assert newest.diagnosis.message.startswith("over 20 days outcomes differ from the scores by +0.087")
    assert newest.drift.message
    assert newest.performances[0].estimate
    with store.engine.connect() as connection:
        causes = list(connection.scalars(sa.select(tables.monitoring_runs.c.cause)))
    assert causes == ["inconclusive", "data fault", "covariate shift", "concept drift"]


def test_route_rollout_tickets_and_quarantine_of_an_old_home_are_read(store: Store) -> None:
    assert store.route(problem.NAME) == Route("4", None, None, 0.0, "2")
    assert store.rollout(problem.NAME) is None
    with store.engine.connect() as connection:
        (rollout,) = connection.execute(sa.select(tables.rollouts)).all()
        incidents = list(connection.scalars(sa.select(tables.tickets.c.incident)))
        titles = list(connection.scalars(sa.select(tables.tickets.c.title)))
    assert rollout.evidence["decision"]["checks"][4] == {"name": "alarms", "status": "pass", "message": "awake"}
    assert incidents == ["data fault: all rows", "concept drift: champion 2"]
    assert titles[1] == "flight_delay: concept drift: champion 2"
    assert [span.what for span in quarantine.spans(store)] == ["rows"]
    assert tickets.open_tickets(store) == []


def test_the_audit_log_of_an_old_home_stays_as_it_is_and_answers_every_question(store: Store, old: Path) -> None:
    before = table(old, "audit")
    log = store.audit_log(problem.NAME)
    assert table(old, "audit") == before
    assert [line.text for line in log[2:6]] == [
        *("operate: quarantine", "operate: note", "operate: note"),
        "governor: allowed",
    ]
    assert not [line for line in log if isinstance(line.action, audit.Unrecognised)]
    assert audit_queries.champions(log) == ["4", "2"]
    assert [line.to_version for line in audit_queries.releases(log)] == ["2", "4"]
    assert audit_queries.open_order(log) is None
    assert audit_queries.was_ordered(log, "performance drop", "2013-07-16T04:00:00+00:00")
    assert audit_queries.candidates_tried(log) == {"4"}
    assert [training.seconds for training in audit_queries.trainings(log)] == [85.7, 65.4]
    newest = history.newest(store, datetime.now(UTC))
    assert newest
    assert audit_queries.was_answered(log, newest.window.end)


def test_an_old_home_knows_its_clock_and_learns_its_checksums_when_bundles_are_loaded(store: Store) -> None:
    assert clock.remembered(store) == "replay"
    assert store.checksums(problem.NAME) == {}
    assert store.versions(problem.NAME) == {"2", "4"}
    assert store.record_checksum(problem.NAME, "4", "the first") == "the first"
    assert store.record_checksum(problem.NAME, "4", "another") == "the first"
    assert store.route(problem.NAME).checksums == {"4": "the first"}


@pytest.mark.parametrize(("days", "kind"), [(0, "wall"), (400, "fixed")])
def test_an_old_home_without_a_replay_lives_by_the_clock_of_its_predictions(old: Path, days: int, kind: str) -> None:
    with sqlite3.connect(old) as connection:
        connection.execute("DELETE FROM replay")
        connection.execute(f"UPDATE predictions SET at = datetime(recorded_at, '-{days} days')")
    connection.close()
    store = Store(f"sqlite:///{old}")
    assert clock.remembered(store) == kind
    store.close()


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_the_audit_log_is_append_only_after_a_migration(store: Store, statement: str) -> None:
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), store.engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_a_migrated_store_has_the_schema_of_a_new_one(store: Store, tmp_path: Path) -> None:
    """Whoever changes `tables` without a revision fails here."""
    new = Store(f"sqlite:///{tmp_path / 'new.db'}")
    migrated, fresh = sa.inspect(store.engine), sa.inspect(new.engine)
    assert set(migrated.get_table_names()) == set(fresh.get_table_names())
    for name in fresh.get_table_names():
        described = [
            (
                [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)],
                [index["name"] for index in inspector.get_indexes(name)],
                inspector.get_pk_constraint(name)["constrained_columns"],
            )
            for inspector in (migrated, fresh)
        ]
        assert described[0] == described[1], name
    new.close()


def test_columns_and_tables_that_an_even_older_store_lacks_are_added(old: Path) -> None:
    with sqlite3.connect(old) as connection:
        connection.execute("ALTER TABLE quarantine DROP COLUMN lifted_at")
        connection.execute("DROP TABLE tickets")
    connection.close()
    store = Store(f"sqlite:///{old}")
    assert len(quarantine.spans(store)) == 1
    assert tickets.open_tickets(store) == []
    store.close()


@pytest.mark.integration
def test_eight_processes_that_start_at_once_migrate_an_old_store_once(old: Path) -> None:
    assert exit_codes(start_processes(read_audit_log, 8, f"sqlite:///{old}")) == [0] * 8
    assert table(old, schema.VERSION_TABLE) == [(schema.REVISION,)]
    assert len(table(old, "monitoring_runs")) == 4


def _stops_in_the_middle(url: str, reached: Event) -> None:
    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def _wait(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("UPDATE tickets"):
            reached.set()
            time.sleep(600)

    Store(url).audit_log(problem.NAME)


@pytest.mark.integration
def test_a_migration_that_was_killed_is_done_by_the_next_start(old: Path) -> None:
    reached = multiprocessing.get_context("forkserver").Event()
    (child,) = start_processes(_stops_in_the_middle, 1, f"sqlite:///{old}", reached)
    assert reached.wait(120)
    child.kill()
    child.join()
    assert len(table(old, "passes")) == 4  # nothing of it was done
    store = Store(f"sqlite:///{old}")
    newest = history.newest(store, datetime.now(UTC))
    assert newest
    assert newest.diagnosis.cause == "concept drift"
    assert len(table(old, "monitoring_runs")) == 4
    store.close()


def test_a_rehearsal_migrates_and_takes_it_back(old: Path) -> None:
    def content() -> list[str]:
        with closing(sqlite3.connect(old)) as connection:
            return list(connection.iterdump())

    before = content()
    schema.rehearse(f"sqlite:///{old}")
    assert content() == before


def test_a_rehearsal_makes_no_store_where_there_is_none(tmp_path: Path) -> None:
    schema.rehearse(f"sqlite:///{tmp_path / 'operations.db'}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("revision", ["0006", "1999"])
def test_a_store_that_a_newer_release_has_used_is_refused_and_untouched(old: Path, revision: str) -> None:
    with sqlite3.connect(old) as connection:
        connection.execute(f"CREATE TABLE {schema.VERSION_TABLE} (version_num VARCHAR(32) PRIMARY KEY)")
        connection.execute(f"INSERT INTO {schema.VERSION_TABLE} VALUES (?)", [revision])
    connection.close()
    store = Store(f"sqlite:///{old}")
    with pytest.raises(StoreRefused, match=f"revision {revision}.*newer release"):
        store.audit_log(problem.NAME)
    with pytest.raises(StoreRefused, match=f"revision {revision}.*newer release"):
        schema.rehearse(f"sqlite:///{old}")
    assert len(table(old, "passes")) == 4


def test_a_damaged_store_is_refused_in_one_sentence(home: Settings) -> None:
    home.home.mkdir(parents=True)
    (home.home / "operations.db").write_bytes(b"this is no database at all, " * 500)
    with pytest.raises(StoreRefused, match=r"operations\.db is damaged \(.*\): restore it from a backup") as refused:
        Store(home.operations).audit_log(problem.NAME)
    assert "\n" not in str(refused.value)


@pytest.mark.integration
def test_alembic_is_loaded_only_by_a_process_that_migrates(old: Path, tmp_path: Path) -> None:
    opens = (
        "import sys; from level1_pipeline.store.database import Store\n"
        "for url in sys.argv[1:]: Store(url).engine; print('alembic' in sys.modules)"
    )
    urls = [f"sqlite:///{tmp_path / 'new.db'}", f"sqlite:///{old}"]
    child = [sys.executable, "-c", opens, *urls]
    for loaded in (["False", "True"], ["False", "False"]):
        done = subprocess.run(child, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.split() == loaded
