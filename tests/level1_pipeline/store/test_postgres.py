"""The operations store keeps its promises on PostgreSQL too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from level1_pipeline.errors import LeaseHeld, LeaseLost
from level1_pipeline.store import leases
from level1_pipeline.store.audit import Change
from level1_pipeline.store.database import Store

URL = os.environ.get("MLOPS_TEST_POSTGRES", "")
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not URL, reason="no PostgreSQL: `.ci/postgres make test` starts one"),
]


@pytest.fixture
def store() -> Iterator[Store]:
    """A store in a schema of its own, opened twice: making the tables must be repeatable."""
    admin = sa.create_engine(sa.make_url(URL).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text("DROP SCHEMA IF EXISTS level1_tests CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA level1_tests"))
    url = sa.make_url(URL).update_query_dict({"options": "-csearch_path=level1_tests"}).render_as_string(False)
    Store(url).engine.dispose()
    store = Store(url)
    yield store
    store.engine.dispose()
    with admin.connect() as connection:
        connection.execute(sa.text("DROP SCHEMA level1_tests CASCADE"))
    admin.dispose()


def change() -> Change:
    return Change("tester", "promote", "because", datetime.now(UTC), {"metrics": {"log_loss": 0.5}})


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"])
def test_nobody_can_alter_the_audit_log(store: Store, statement: str) -> None:
    store.record("p", change())
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), store.engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert [line["actor"] for line in store.history("p")] == ["tester"]


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
    assert [(line["from_version"], line["to_version"]) for line in store.history("p")] == [(None, "1")]
