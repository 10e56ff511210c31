"""The tables of the operations store, and what the database itself enforces. `database` says how they are used."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


class UtcTime(sa.TypeDecorator[datetime]):
    """Aware times, kept as UTC. A naive time is refused: nobody can say what it means.

    SQLite has no times; there they are text in the same form as SQLAlchemy's own, which costs a third of its time.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        """What the database keeps."""
        return dialect.type_descriptor(sa.String() if dialect.name == "sqlite" else self.impl)

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | str | None:
        """To the database: UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no UTC offset; give an aware datetime")
        utc = value.astimezone(UTC)
        return utc.isoformat(" ", "microseconds")[:26] if dialect.name == "sqlite" else utc

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        """From the database, which may have forgotten the zone."""
        if value is None:
            return None
        time = datetime.fromisoformat(value) if isinstance(value, str) else value
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


metadata = sa.MetaData()
routes = sa.Table(
    "routes",
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("champion", sa.String),
    sa.Column("challenger", sa.String),
    sa.Column("mode", sa.String),  # of the challenger: shadow or canary
    sa.Column("share", sa.Float, nullable=False),  # of the traffic that the challenger answers
    sa.Column("previous", sa.String),  # where a rollback leads
    sa.Column("changed_at", UtcTime),
)
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("token", sa.Integer, nullable=False),  # grows with every holder: an old one is fenced off
    sa.Column("expires_at", UtcTime, nullable=False),  # wall time: a lease is about living processes
    sa.Column("seconds", sa.Float),  # its length: one that ends later than so many seconds from now cannot be genuine
)
bundles = sa.Table(
    "bundles",  # what each version is, since it was registered: the first checksum counts, and no other ever does
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("checksum", sa.String, nullable=False),  # SHA-256 of bundle.json, and through it of every file
    sa.Column("recorded_at", UtcTime, nullable=False),  # wall time
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("problem", sa.String, nullable=False, index=True),
    sa.Column("at", UtcTime, nullable=False),  # on the clock of decisions
    sa.Column("recorded_at", UtcTime, nullable=False),  # wall time
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("from_version", sa.String),
    sa.Column("to_version", sa.String),
    sa.Column("evidence", sa.JSON, nullable=False),
)
predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("arm", sa.String, primary_key=True),  # champion, canary, batch, or shadow (never returned to anybody)
    sa.Column("entity_id", sa.String, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),  # on the clock of decisions
    sa.Column("recorded_at", UtcTime, nullable=False),  # wall time
    sa.Column("record", sa.JSON, nullable=False),
    sa.Column("score", sa.Float),  # missing when the model failed; of several classes the largest of `scores`
    sa.Column("error", sa.String),  # why it failed; where a canary failed the champion answered in its place
    sa.Column("latency_ms", sa.Float, nullable=False),  # of the model, for the rows that it scored together
    sa.Column("checksum", sa.String),  # of the bundle that answered; missing in rows of an earlier release
    sa.Column("scores", sa.JSON(none_as_null=True)),  # the probability of each class, in the order of CLASSES
    sa.Index("predictions_by_time", "problem", "at"),
)
outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),  # of the prediction, which need not be known (yet)
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("known_at", UtcTime, nullable=False),  # when this value first became known, on the clock of decisions
    sa.Column("confirmed_at", UtcTime, nullable=False),  # the latest known_at of any report: later ones count
    sa.Column("recorded_at", UtcTime, nullable=False),  # wall time of the first report
    sa.Column("corrected_at", UtcTime),  # wall time of the last report that changed the value
    sa.Column("other_values", sa.JSON(none_as_null=True)),  # that were reported, too: first and last known_at of each
)
monitoring_runs = sa.Table(
    "monitoring_runs",  # one for each end of a window: the same run again replaces itself
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("window_end", UtcTime, primary_key=True),
    sa.Column("window_start", UtcTime, nullable=False),
    sa.Column("at", UtcTime, nullable=False),  # on the clock of decisions
    sa.Column("recorded_at", UtcTime, nullable=False),  # wall time
    sa.Column("version", sa.String),  # the champion
    sa.Column("cause", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),  # the whole run: monitoring.results
)
tickets = sa.Table(
    "tickets",
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("incident", sa.String, nullable=False),  # what it is about: at most one is open for each
    sa.Column("opened_at", UtcTime, nullable=False),  # on the clock of decisions, as the two below
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("closed_at", UtcTime),
    sa.Column("seen", sa.Integer, nullable=False),  # by how many monitoring runs
    sa.Column("window_end", UtcTime, nullable=False),  # of the last of them: the same run again does not count
    sa.Column("title", sa.String, nullable=False),
    sa.Column("body", sa.String, nullable=False),  # Markdown
    sa.Index(
        "one_open_ticket",
        "problem",
        "incident",
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    ),
)
quarantine = sa.Table(
    "quarantine",  # rows, or their labels, not to be trained on or judged with: a span of time, perhaps of one slice
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("start", UtcTime, primary_key=True),  # by EVENT_TIME, start included
    sa.Column("end", UtcTime, primary_key=True),  # excluded
    sa.Column("slice", sa.String, primary_key=True),  # `column=value`, or empty for all rows
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("at", UtcTime, nullable=False),  # on the clock of decisions
    sa.Column("lifted_at", UtcTime),  # by a person, who found no fault: the span counts no more and stays known
    # "rows", or "labels": then the inputs go on counting, and the labels are missing.
    sa.Column("what", sa.String, primary_key=True, default="rows"),
)
rollouts = sa.Table(
    "rollouts",  # of the model: the desired state, which the control loop brings about
    metadata,
    sa.Column("problem", sa.String, primary_key=True),
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),  # registered, blessed, shadow, canary, bake, champion, rolled back
    sa.Column("share", sa.Float, nullable=False),
    sa.Column("waiting", sa.String),  # for a person: the step that needs an approval
    sa.Column("opened_at", UtcTime, nullable=False),  # on the clock of decisions
    sa.Column("since", UtcTime, nullable=False),  # in this state and share
    sa.Column("evidence", sa.JSON, nullable=False),
)
replay = sa.Table(
    "replay", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("now", UtcTime, nullable=False)
)
clock = sa.Table(
    "clock",  # which one the home lives by: wall, replay or fixed
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
)

# An insert that may meet its own row: both databases can do nothing or update then, each with its own statement.
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}

_REFUSE = "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit {_REFUSE}",
        f"CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit {_REFUSE}",
        # INSERT OR REPLACE fires no delete trigger, so an id that exists is refused here.
        "CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit "  # noqa: S608 (no input)
        f"WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) {_REFUSE}",
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger AS "
        "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$ LANGUAGE plpgsql",
        "CREATE OR REPLACE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
        "CREATE OR REPLACE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    ],
}
