"""A PostgreSQL server that a test may use, where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

URL = os.environ.get("MLOPS_TEST_POSTGRES", "")
NEEDS_POSTGRES = [
    pytest.mark.integration,
    pytest.mark.postgres,
    pytest.mark.skipif(not URL, reason="no PostgreSQL: `.ci/postgres make test` starts one"),
]


@contextmanager
def empty_schema(name: str) -> Iterator[str]:
    """The address of a database without tables: a schema of its own, which is dropped afterwards."""
    admin = sa.create_engine(sa.make_url(URL).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP SCHEMA IF EXISTS {name} CASCADE"))
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    try:
        yield sa.make_url(URL).update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(False)
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP SCHEMA {name} CASCADE"))
        admin.dispose()
