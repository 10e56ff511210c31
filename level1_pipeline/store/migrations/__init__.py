"""Alembic's folder: one file in `versions` for each change of the schema, numbered. `store.schema` runs what is due.

A new one is written by hand, works on SQLite and PostgreSQL, and leaves the lines of the audit log alone.
"""
