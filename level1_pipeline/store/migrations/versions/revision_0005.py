"""The prediction log keeps the probabilities of all classes, for a problem that has several."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    """Add the column; a number or an event has no need of it."""
    if sa.inspect(op.get_bind()).has_table("predictions"):
        op.add_column("predictions", sa.Column("scores", sa.JSON(none_as_null=True)))
