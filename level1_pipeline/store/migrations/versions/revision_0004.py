"""A span in quarantine says what it sets apart: rows, as until now, or only their labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from level1_pipeline.store.tables import UtcTime

revision, down_revision = "0004", "0003"

COLUMNS = (
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("start", UtcTime, primary_key=True),
    sa.Column("end", UtcTime, primary_key=True),
    sa.Column("slice", sa.String, primary_key=True),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("lifted_at", UtcTime),
    sa.Column("what", sa.String, primary_key=True),
)


def upgrade() -> None:
    """Make the table again, because the new column belongs to the key, which SQLite cannot change."""
    connection = op.get_bind()
    if not sa.inspect(connection).has_table("quarantine"):
        return
    former = sa.table("quarantine", *(sa.column(column.name, column.type) for column in COLUMNS[:-1]))
    spans = [dict(row) | {"what": "rows"} for row in connection.execute(sa.select(former)).mappings()]
    op.drop_table("quarantine")
    table = op.create_table("quarantine", *COLUMNS)
    if spans:
        connection.execute(table.insert(), spans)
