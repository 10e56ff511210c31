"""What Alembic runs: it migrates on the connection, and in the transaction, of `store.schema`."""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes
context.configure(connection=attributes["connection"], version_table=attributes["version_table"])
context.run_migrations()
