"""A store is copied whole before a release takes over, also from PostgreSQL, where a rehearsal changes nothing either."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from level1_pipeline.errors import StoreRefused
from level1_pipeline.store import schema
from level1_pipeline.store.audit import Change, Promoted
from level1_pipeline.store.database import Store
from level2_cicd.delivery.deployment import back_up

POSTGRES = os.environ.get("MLOPS_TEST_POSTGRES", "")
CHANGE = Change("tester", Promoted("champion"), "a test", datetime(2013, 4, 1, tzinfo=UTC))


def test_a_copy_of_a_store_that_is_open_holds_all_of_it(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'operations.db'}")
    store.record("problem", CHANGE)  # still in the write-ahead log
    copy = back_up(store.url, tmp_path / "backups" / "before")
    assert copy == tmp_path / "backups" / "before.db"
    assert Store(f"sqlite:///{copy}").audit_log("problem") == store.audit_log("problem")


def test_a_home_without_a_store_has_nothing_to_copy(tmp_path: Path) -> None:
    assert back_up(f"sqlite:///{tmp_path / 'operations.db'}", tmp_path / "before") is None
    assert not list(tmp_path.iterdir())


def test_without_pg_dump_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreRefused, match=r"no pg_dump .* install PostgreSQL's client"):
        back_up("postgresql+psycopg://nobody@127.0.0.1:1/none", tmp_path / "before")


@pytest.mark.integration
@pytest.mark.postgres
@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL: `.ci/postgres make test` starts one")
@pytest.mark.skipif(shutil.which("pg_dump") is None, reason="no pg_dump: install PostgreSQL's client")
def test_a_store_in_postgresql_is_dumped_and_a_rehearsal_leaves_it_as_it_is(tmp_path: Path) -> None:
    engine = sa.create_engine(sa.make_url(POSTGRES).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("DROP DATABASE IF EXISTS backup_tests"))
        connection.execute(sa.text("CREATE DATABASE backup_tests"))
    url = sa.make_url(POSTGRES).set(database="backup_tests").render_as_string(hide_password=False)
    try:
        schema.rehearse(url)
        plain = sa.create_engine(url)
        with plain.connect() as connection:
            assert sa.inspect(connection).get_table_names() == []
        plain.dispose()
        store = Store(url)
        store.record("problem", CHANGE)
        copy = back_up(url, tmp_path / "before")
        store.close()
        assert copy == tmp_path / "before.sql"
        assert "CREATE TABLE public.audit" in copy.read_text()
        assert "a test" in copy.read_text()
    finally:
        with engine.connect() as connection:
            connection.execute(sa.text("DROP DATABASE backup_tests WITH (FORCE)"))
        engine.dispose()
