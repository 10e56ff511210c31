"""Opens a store, and brings its schema up to date at the first use: a new store is made, an older one is migrated.

All of it is one transaction, which is the lock as well: of several processes that start at once one migrates and the
others wait, and a process that is killed in the middle leaves the store as it was.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.schema import CreateIndex, CreateTable

from level1_pipeline.errors import StoreRefused
from level1_pipeline.store.tables import APPEND_ONLY, metadata

READER_SECONDS, WRITER_SECONDS = 5, 30  # that a connection waits for a lock
REVISION = "0005"  # of the schema in `tables`; a change there needs a new file in `migrations/versions` and a new test
# Not `alembic_version`: MLflow has a table of that name, and may live in the same database.
VERSION_TABLE = "operations_version"
_version = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
FIRST_TABLE = "routes"  # is in every store, also in those without a revision


def open_engine(store: str) -> sa.Engine:
    """The engine of a store's URL, with the tables made or migrated (safe for parallel starts).

    Raises:
        StoreRefused: see `_bring_up_to_date`.
    """
    engine = _engine(store)
    _bring_up_to_date(engine)
    return engine


def rehearse(store: str) -> None:
    """Find out whether this release can open a store. A migration that is due is done and taken back in one transaction.

    Raises:
        StoreRefused: see `_bring_up_to_date`.
    """
    url = sa.make_url(store)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return
    engine = _engine(store)
    _bring_up_to_date(engine, keep=False)
    engine.dispose()


def _engine(store: str) -> sa.Engine:
    url = sa.make_url(store)
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        read_only = is_read_only(file)
        if not read_only:
            file.parent.mkdir(parents=True, exist_ok=True)
        options = {"creator": lambda: _open_to_read(file), "poolclass": sa.NullPool} if read_only else {}
        engine = sa.create_engine(url, connect_args={"timeout": WRITER_SECONDS}, json_serializer=_json, **options)
        sa.event.listen(engine, "connect", _let_us_begin if read_only else _configure_sqlite)
        sa.event.listen(engine, "begin", _begin)
    else:
        # A restarted or unreachable server must cost seconds, not a broken pool or a hanging thread.
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 5}, json_serializer=_json)
    return engine


def _bring_up_to_date(engine: sa.Engine, keep: bool = True) -> None:
    """Make or migrate the tables; without `keep`, take it back. One read, and no import of Alembic, when there is nothing to do.

    Raises:
        StoreRefused: a newer release has used the store, or it is damaged.
    """
    try:
        with engine.connect().execution_options(reads_only=True) as connection:
            if (revision := _revision(connection)) == REVISION:
                return
        if isinstance(engine.pool, sa.NullPool):  # that of a store that is only read
            raise StoreRefused(
                f"the operations store {engine.url.database} has the revision {revision or 'of an early release'}, this "
                f"release needs {REVISION}, and the file or its folder cannot be written: make a copy that can be"
            )
        with engine.connect() as connection, connection.begin() as transaction:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(20130101)"))
            _make_or_migrate(connection)
            if not keep:
                transaction.rollback()
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


def _json(value: Any) -> str:
    """As `json.dumps`, in a quarter of the time."""
    return to_json(value).decode()


def is_read_only(file: Path) -> bool:
    """Whether a database exists that nobody can write here: SQLite needs the folder, too."""
    return file.exists() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def _open_to_read(file: Path) -> sqlite3.Connection:
    """A connection that only reads, for one use. Without a write-ahead log the file is taken as it is at that moment,
    because SQLite would want to make one; it would not notice when somebody else writes, so the next use opens anew."""
    log = file.with_name(f"{file.name}-wal")
    alone = "" if log.exists() and log.stat().st_size else "&immutable=1"
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro{alone}", uri=True, check_same_thread=False)


def _let_us_begin(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin`, not by the driver


def _configure_sqlite(connection: Any, _: Any) -> None:
    _let_us_begin(connection, _)
    connection.execute(f"PRAGMA busy_timeout = {1000 * READER_SECONDS}")
    deadline = time.monotonic() + READER_SECONDS
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            # SQLite does not wait for the lock when several first openers switch the mode at once.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin(connection: sa.Connection) -> None:
    # Take the write lock at the start: an upgrade in the middle of a transaction fails at once when raced.
    reads_only = connection.get_execution_options().get("reads_only")
    seconds = READER_SECONDS if reads_only else WRITER_SECONDS  # a reader meets a lock only where all are kept out
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * seconds}")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
