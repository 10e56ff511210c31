"""Lines of the audit log without a store, for tests of what is derived from it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from level1_pipeline.store.audit import Action, Change, Line
from level1_pipeline.store.audit_columns import columns, parse
from level1_pipeline.store.routes import Route

START = datetime(2013, 4, 1, tzinfo=UTC)


def a_line(
    action: Action | str,
    day: float = 0,
    evidence: dict[str, Any] | None = None,
    champions: tuple[str | None, str | None] | None = None,
    number: int = 1,
) -> Line:
    """A line as it is read from the store, `day` days after START; `champions` before and after if the route changed."""
    at, evidence = START + timedelta(days=day), evidence or {}
    if champions:
        evidence = evidence | {"route_after": asdict(Route(champion=champions[1]))}
    before, after = champions or (None, None)
    if isinstance(action, str):
        text = action
    else:
        row = columns(Change("tester", action, "a reason", at, evidence))
        text, evidence = row["action"], row["evidence"]
    return Line(number, at, at, "tester", parse(text, evidence), text, "a reason", before, after, evidence)


def a_log(*actions: Action | str) -> list[Line]:
    """One line for each action, a day apart."""
    return [a_line(action, day, number=day + 1) for day, action in enumerate(actions)]
