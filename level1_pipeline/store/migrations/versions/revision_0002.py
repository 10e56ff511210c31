"""The standard words: monitoring runs, the causes of a diagnosis, `message` and `status`.

The lines of the audit log stay as they are: `audit_columns.parse` reads both vocabularies.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"

CAUSES = {
    "real change": "concept drift",
    "harmless shift": "covariate shift",
    "returning regime": "recurring concept",
    "governor": "a person is needed",  # of a ticket that no monitoring run opened
}
runs = sa.table("monitoring_runs", *map(sa.column, ("problem", "window_end", "cause")), sa.column("figures", sa.JSON))
tickets = sa.table("tickets", *map(sa.column, ("problem", "number", "incident", "title")))
rollouts = sa.table("rollouts", *map(sa.column, ("problem", "version")), sa.column("evidence", sa.JSON))


def upgrade() -> None:
    """Rename the table, then the words in each of its rows, and in tickets and rollouts."""
    connection = op.get_bind()
    tables = sa.inspect(connection).get_table_names()
    if "passes" in tables:
        op.rename_table("passes", "monitoring_runs")
        _update(connection, runs, ("problem", "window_end"), _run)
    if "tickets" in tables:
        _update(connection, tickets, ("problem", "number"), _ticket)
    if "rollouts" in tables:
        _update(connection, rollouts, ("problem", "version"), _rollout)


def _update(connection: sa.Connection, table: sa.TableClause, keys: tuple[str, ...], change: Any) -> None:
    for row in connection.execute(sa.select(table)).mappings().all():
        same = [table.c[key] == row[key] for key in keys]
        connection.execute(table.update().where(*same).values(change(row)))


def _run(row: Any) -> dict[str, Any]:
    figures = row["figures"]
    estimates = [performance.get("estimate") for performance in figures["performances"]]
    for part in (figures["drift"], figures["skew"], figures["diagnosis"], *filter(None, estimates)):
        _rename(part, "words", "message")
    figures["diagnosis"]["cause"] = cause = CAUSES.get(row["cause"], row["cause"])
    return {"cause": cause, "figures": figures}


def _ticket(row: Any) -> dict[str, Any]:
    cause, colon, about = row["incident"].partition(": ")
    incident = CAUSES.get(cause, cause) + colon + about
    return {"incident": incident, "title": row["title"].replace(row["incident"], incident)}


def _rollout(row: Any) -> dict[str, Any]:
    evidence = row["evidence"]
    for check in (evidence.get("decision") or {}).get("checks", []):
        _rename(check, "outcome", "status")
        _rename(check, "words", "message")
    return {"evidence": evidence}


def _rename(part: dict[str, Any], former: str, name: str) -> None:
    if former in part:
        part[name] = part.pop(former)
