"""The schema of a store is brought up to date at its first use: a new store is made, an older one is migrated.

All of it is one transaction, which is the lock as well: of several processes that start at once one migrates and the
others wait, and a process that is killed in the middle leaves the store as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from level1_pipeline.errors import StoreRefused
from level1_pipeline.store.tables import APPEND_ONLY, metadata

REVISION = "0002"  # of the schema in `tables`; a change there needs a new file in `migrations/versions` and a new test
# Not `alembic_version`: MLflow has a table of that name, and may live in the same database.
VERSION_TABLE = "operations_version"
_version = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
FIRST_TABLE = "routes"  # is in every store, also in those without a revision


def bring_up_to_date(engine: sa.Engine) -> None:
    """Make or migrate the tables. One read, and no import of Alembic, when there is nothing to do.

    Raises:
        StoreRefused: a newer release has used the store, or it is damaged.
    """
    try:
        with engine.connect().execution_options(reads_only=True) as connection:
            if _revision(connection) == REVISION:
                return
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(20130101)"))
            _make_or_migrate(connection)
    except Exception as error:
        engine.dispose()
        cause = getattr(error, "orig", error)
        if getattr(cause, "sqlite_errorname", "") not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise
        raise StoreRefused(
            f"the operations store {engine.url!r} is damaged ({cause}): restore it from a backup"
        ) from error


def _revision(connection: sa.Connection) -> str | None:
    """The revision of the store; None for a new one, and for one of a release that had none."""
    return connection.scalar(sa.select(_version)) if sa.inspect(connection).has_table(VERSION_TABLE) else None


def _make_or_migrate(connection: sa.Connection) -> None:
    revision = _revision(connection)
    if revision is not None and revision > REVISION:
        raise StoreRefused(
            f"the operations store {connection.engine.url!r} has the revision {revision}, and this release knows them up "
            f"to {REVISION}: a newer release has used it; install that release, or restore a backup from before"
        )
    if revision is not None or sa.inspect(connection).has_table(FIRST_TABLE):
        _migrate(connection)
    for table in metadata.sorted_tables:  # all of a new store; of an old one what its release did not have
        connection.execute(CreateTable(table, if_not_exists=True))
        for index in table.indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))
    for statement in APPEND_ONLY[connection.dialect.name]:
        connection.exec_driver_sql(statement)
    connection.execute(CreateTable(_version, if_not_exists=True))
    connection.execute(_version.delete())
    connection.execute(_version.insert().values(version_num=REVISION))


def _migrate(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
    config.set_main_option("script_location", "level1_pipeline.store:migrations")
    command.upgrade(config, REVISION)
