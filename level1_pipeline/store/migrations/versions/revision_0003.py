"""Checksums of bundles, the length of leases, every value that an outcome had, and the clock that the home lives by.

The checksums of versions that were published before are not here: who first loads such a version records that of its
bundle. The tables `bundles` and `clock` of a store without them are made like those of a new one.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

from level1_pipeline.store.tables import UtcTime

revision, down_revision = "0003", "0002"

COLUMNS = (
    ("predictions", "checksum", sa.String()),
    ("leases", "seconds", sa.Float()),
    ("outcomes", "other_values", sa.JSON(none_as_null=True)),
)
SAME_TIME = timedelta(hours=1)  # between the clock of decisions and the wall, if they are one
times = sa.table("predictions", sa.column("at", UtcTime), sa.column("recorded_at", UtcTime))
clock = sa.table("clock", sa.column("id"), sa.column("kind"))


def upgrade() -> None:
    """Add the columns, and write down by which clock the predictions were made."""
    connection = op.get_bind()
    tables = sa.inspect(connection).get_table_names()
    for table, name, kind in COLUMNS:
        if table in tables:
            op.add_column(table, sa.Column(name, kind))
    lived_by = _clock_until_now(connection, tables)
    op.create_table(
        "clock", sa.Column("id", sa.Integer, primary_key=True), sa.Column("kind", sa.String, nullable=False)
    )
    if lived_by:
        connection.execute(clock.insert().values(id=1, kind=lived_by))


def _clock_until_now(connection: sa.Connection, tables: list[str]) -> str | None:
    newest = sa.select(times).order_by(times.c.recorded_at.desc()).limit(1)
    row = connection.execute(newest).first() if "predictions" in tables else None
    if row and abs(row.at - row.recorded_at) < SAME_TIME:
        return "wall"
    if "replay" in tables and connection.scalar(sa.text("SELECT COUNT(*) FROM replay")):
        return "replay"
    return "fixed" if row else None
