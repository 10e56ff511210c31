"""The operations store keeps its promises on PostgreSQL too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from level1_pipeline.errors import LeaseHeld, LeaseLost
from level1_pipeline.store import audit_queries, leases
from level1_pipeline.store.audit import Change, Promoted
from level1_pipeline.store.database import Store
from monitoring import history
from tests.support.postgres import NEEDS_POSTGRES, empty_schema
from tests.support.store import exit_codes, old_store, read_audit_log, start_processes

pytestmark = NEEDS_POSTGRES


@pytest.fixture
def url() -> Iterator[str]:
    """A database without tables."""
    with empty_schema("level1_tests") as address:
        yield address


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """A store opened twice: making the tables must be repeatable."""
    Store(url).engine.dispose()
    store = Store(url)
    yield store
    store.engine.dispose()


@pytest.fixture
def old(url: str) -> str:
    """A database that the last release before migrations made."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
        connection.exec_driver_sql(old_store("postgres").replace("%", "%%"))
    engine.dispose()
    return url


def change() -> Change:
    return Change("tester", Promoted("champion"), "because", datetime.now(UTC), {"metrics": {"log_loss": 0.5}})


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"])
def test_nobody_can_alter_the_audit_log(store: Store, statement: str) -> None:
    store.record("p", change())
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), store.engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert [line.actor for line in store.audit_log("p")] == ["tester"]


def test_a_route_changes_with_its_audit_line_and_only_under_the_current_lease(store: Store) -> None:
    old = leases.acquire(store, "promote p", 60)
    with pytest.raises(LeaseHeld):
        leases.acquire(store, "promote p", 60)
    store.change_route("p", old, change(), champion="1")
    leases.renew(store, old, 0)
    new = leases.acquire(store, "promote p", 60)
    assert new.token > old.token
    with pytest.raises(LeaseLost):
        store.change_route("p", old, change(), champion="2")
    assert store.route("p").champion == "1"
    assert [(line.from_version, line.to_version) for line in store.audit_log("p")] == [(None, "1")]


@pytest.mark.flights
def test_an_old_store_is_migrated_once_by_eight_processes_and_everything_is_read(old: str) -> None:
    assert exit_codes(start_processes(read_audit_log, 8, old)) == [0] * 8
    store = Store(old)
    newest = history.newest(store, datetime.now(UTC))
    assert newest
    assert newest.diagnosis.cause == "concept drift"
    assert store.route("flight_delay").champion == "4"
    log = store.audit_log("flight_delay")
    assert audit_queries.was_answered(log, newest.window.end)
    assert log[2].at == datetime(2013, 5, 14, 4, tzinfo=UTC)
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE audit SET actor = 'nobody'"))
    store.close()


@pytest.mark.flights
def test_a_migration_that_fails_in_the_middle_leaves_nothing_and_the_next_start_does_it(old: str) -> None:
    def fail(_: object, __: object, statement: str, *___: object) -> None:
        if statement.startswith("UPDATE tickets"):
            raise ConnectionError("the network is gone")

    sa.event.listen(sa.Engine, "before_cursor_execute", fail)
    with pytest.raises(ConnectionError):
        Store(old).audit_log("flight_delay")
    sa.event.remove(sa.Engine, "before_cursor_execute", fail)
    store = Store(old)
    newest = history.newest(store, datetime.now(UTC))
    assert newest
    assert newest.diagnosis.cause == "concept drift"
    store.close()
