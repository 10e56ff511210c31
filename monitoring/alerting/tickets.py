"""One ticket per incident, opened, updated and closed after monitoring runs. It lives in the store; a webhook may tell others.

A run that is killed and repeated, or two that race, make one ticket: runs follow up one after the other, the database
allows one open ticket for each incident, and a window is counted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import NotFound
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import local
from level1_pipeline.store.tables import monitoring_runs, tickets
from monitoring.reporting.text import body, title
from monitoring.results import MonitoringRun

T = tickets.c
QUIET = ("nothing", "covariate shift")
UNSURE = "inconclusive"
PERSON_NEEDED = "a person is needed: "
MINE = (T.problem == problem.NAME) & T.closed_at.is_(None)


@dataclass(frozen=True)
class Event:
    """What happened to a ticket: what the terminal and the webhook say."""

    event: Literal["opened", "updated", "closed"]
    number: int
    incident: str
    title: str
    body: str
    seen: int


def incident(run: MonitoringRun) -> str | None:
    """What a run reports: the cause and what it is about, the same for every run that sees it. None if all is well."""
    diagnosis = run.diagnosis
    if diagnosis.cause in QUIET:
        return None
    slices = ", ".join(sorted({span.slice or "all rows" for span in diagnosis.quarantine}))
    about = {
        "data fault": slices,
        "label fault": slices,
        "concept drift": f"champion {run.champion}",
        "bad release": f"version {run.champion}",
        "recurring concept": f"version {diagnosis.version}",
    }
    return (
        f"{diagnosis.cause}: {about[diagnosis.cause]}".removesuffix(": ")
        if diagnosis.cause in about
        else diagnosis.cause
    )


def follow(store: Store, run: MonitoringRun) -> list[Event]:
    """Open, update or close tickets after a run.

    An inconclusive run closes nothing, since it does not know; one alone is ordinary, the second in a row
    is an incident of its own: the monitoring is blind. An older window than the last one seen changes nothing,
    and neither does a run that was followed up already.
    """
    now = incident(run)
    if now == UNSURE and not _unsure_before(store, run):
        return []
    with _writing(store) as connection:
        seen = sa.select(sa.func.max(T.window_end)).where(T.problem == problem.NAME)
        newest = connection.scalar(seen.where(T.window_end <= run.at))  # later ones were seen by a wrong clock
        if newest and newest > run.window.end:
            return []
        closed = _close(connection, run, now)
        return closed + (_open_or_update(connection, run, now) if now else [])


def ask_a_person(store: Store, about: str, message: str, at: datetime) -> list[Event]:
    """Open a ticket that no monitoring run closes: the control loop has given up. A second call changes nothing.

    Returns what is to be told to others: nothing the second time.
    """
    text = {"title": f"A person is needed: {about}", "body": f"# A person is needed: {about}\n\n{message}\n"}
    with _writing(store) as connection:
        if connection.execute(sa.select(T.number).where(MINE, T.incident == PERSON_NEEDED + about)).first():
            return []
        return [_open(connection, PERSON_NEEDED + about, text, at, at)]


def person_answered(store: Store, message: str, at: datetime) -> None:
    """Close what `ask_a_person` opened."""
    with _writing(store) as connection:
        open_ones = MINE & T.incident.startswith(PERSON_NEEDED)
        body = T.body + f"\n## Closed\n\n{message}\n"
        connection.execute(tickets.update().where(open_ones).values(closed_at=at, updated_at=at, body=body))


@contextmanager
def _writing(store: Store) -> Iterator[sa.Connection]:
    """A transaction in which nobody else writes tickets, so that two writers do not take the same number."""
    with store.engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
            connection.execute(sa.text("LOCK TABLE tickets IN SHARE ROW EXCLUSIVE MODE"))
        yield connection


def open_tickets(store: Store) -> list[dict[str, Any]]:
    """The open tickets of the problem, oldest first."""
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(tickets).where(MINE).order_by(T.number))]


def all_tickets(store: Store) -> list[dict[str, Any]]:
    """The tickets of the problem, open and closed ones, oldest first."""
    with store.engine.connect().execution_options(reads_only=True) as connection:
        own = sa.select(tickets).where(T.problem == problem.NAME).order_by(T.number)
        return [dict(row._mapping) for row in connection.execute(own)]


def ticket(store: Store, number: int) -> dict[str, Any]:
    """One ticket, open or closed. Raises NotFound for a number that there is not."""
    with store.engine.connect().execution_options(reads_only=True) as connection:
        row = connection.execute(sa.select(tickets).where(T.problem == problem.NAME, T.number == number)).first()
    if row is None:
        raise NotFound(f"there is no ticket {number} of {problem.NAME}; list them: python -m monitoring tickets")
    return dict(row._mapping)


def _unsure_before(store: Store, run: MonitoringRun) -> bool:
    earlier = (monitoring_runs.c.problem == problem.NAME) & (monitoring_runs.c.window_end < run.window.end)
    last = sa.select(monitoring_runs.c.cause).where(earlier).order_by(monitoring_runs.c.window_end.desc()).limit(1)
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return connection.scalar(last) == UNSURE


def _close(connection: sa.Connection, run: MonitoringRun, now: str | None) -> list[Event]:
    if now == UNSURE:
        return []
    open_ones = MINE & ~T.incident.startswith(PERSON_NEEDED)  # a person closes these
    gone = open_ones & (T.incident != now) if now else open_ones
    events = []
    for row in connection.execute(sa.select(tickets).where(gone).order_by(T.number)).all():
        message = f"{row.body}\n## Closed\n\nThe monitoring run of {_day(run.at)} says: {run.diagnosis.message}\n"
        values = {"closed_at": run.at, "updated_at": run.at, "window_end": run.window.end, "body": message}
        connection.execute(tickets.update().where(T.problem == problem.NAME, T.number == row.number).values(values))
        events.append(Event("closed", row.number, row.incident, row.title, message, row.seen))
    return events


def _open_or_update(connection: sa.Connection, run: MonitoringRun, now: str) -> list[Event]:
    text = {"title": title(run, now), "body": body(run, now)}
    old = connection.execute(sa.select(tickets).where(MINE, T.incident == now)).first()
    if old and (old.updated_at, old.window_end) == (run.at, run.window.end):
        return []
    if old:
        seen = old.seen + (old.window_end < run.window.end)
        values = {**text, "seen": seen, "updated_at": run.at, "window_end": run.window.end}
        connection.execute(tickets.update().where(T.problem == problem.NAME, T.number == old.number).values(values))
        return [Event("updated", old.number, now, text["title"], text["body"], seen)]
    return [_open(connection, now, text, run.at, run.window.end)]


def _open(connection: sa.Connection, about: str, text: dict[str, str], at: datetime, window_end: datetime) -> Event:
    last = connection.scalar(sa.select(sa.func.max(T.number)).where(T.problem == problem.NAME)) or 0
    times = {"opened_at": at, "updated_at": at, "window_end": window_end}
    identity = {"problem": problem.NAME, "number": last + 1, "incident": about, "seen": 1}
    connection.execute(tickets.insert().values({**text, **times, **identity}))
    return Event("opened", last + 1, about, text["title"], text["body"], 1)


def _day(at: datetime) -> str:
    return local(at)
