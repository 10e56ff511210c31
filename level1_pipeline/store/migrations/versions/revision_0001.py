"""The schema before there were migrations: that of the commit 28d5e6f. Older stores may lack a column."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from level1_pipeline.store.tables import UtcTime

revision, down_revision = "0001", None


def upgrade() -> None:
    """Add `quarantine.lifted_at` where it is missing; tables that are missing are made after all revisions."""
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table("quarantine"):
        return
    if "lifted_at" not in {column["name"] for column in inspector.get_columns("quarantine")}:
        op.add_column("quarantine", sa.Column("lifted_at", UtcTime))
