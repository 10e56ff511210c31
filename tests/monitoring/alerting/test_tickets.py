"""One ticket per incident, whatever happens to the monitoring runs; and a webhook that cannot stop one."""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import tickets
from level1_pipeline.webhook import TRIES
from monitoring import history
from monitoring.alerting import tickets as incidents
from monitoring.alerting import webhook
from monitoring.alerting.tickets import Event, follow
from monitoring.results import MonitoringRun
from tests.serving.conftest import both
from tests.support.monitoring_runs import (
    CHANGE,
    FAULT,
    NOTHING,
    RELEASE,
    RETURN,
    SHIFT,
    SPAN,
    UNSURE,
    a_run,
    later,
)
from tests.support.serving import opened
from tests.support.webhook import listener

__all__ = ["both"]  # a fixture


def rows(store: Store) -> list[Any]:
    with store.engine.begin() as connection:
        return list(connection.execute(sa.select(tickets).order_by(tickets.c.number)).all())


def kinds(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.event, event.number) for event in events]


def test_an_incident_is_opened_then_updated_then_closed(both: Settings) -> None:
    with opened(both) as store:
        assert kinds(follow(store, a_run(FAULT))) == [("opened", 1)]
        assert kinds(follow(store, a_run(FAULT, weeks=1))) == [("updated", 1)]
        assert rows(store)[0].seen == 2
        assert [ticket["number"] for ticket in incidents.open_tickets(store)] == [1]
        assert kinds(follow(store, a_run(NOTHING, weeks=2))) == [("closed", 1)]
        (row,) = rows(store)
        assert (row.closed_at, row.seen) == (a_run(weeks=2).at, 2)
        assert "Performance is as promised." in row.body
        assert incidents.open_tickets(store) == []
        assert follow(store, a_run(NOTHING, weeks=3)) == []


def test_whoever_asks_a_person_at_the_same_time_is_heard_once(both: Settings) -> None:
    """Eight processes with four questions: each question has one ticket, and each ticket was told to others once."""
    count, told = 8, list[Event]()
    with opened(both) as store:
        store.audit_log(problem.NAME)  # the tables are there
        together = threading.Barrier(count)

        def ask(number: int) -> None:
            own = Store(store.url)
            own.audit_log(problem.NAME)
            together.wait()
            told.extend(incidents.ask_a_person(own, f"question {number % 4}", "why", a_run(FAULT).at))
            own.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asked = [row.incident.removeprefix(incidents.PERSON_NEEDED) for row in rows(store)]
        assert sorted(asked) == [f"question {number}" for number in range(4)]
        assert sorted(kinds(told)) == [("opened", number) for number in (1, 2, 3, 4)]
        assert {event.number: event.incident for event in told} == {row.number: row.incident for row in rows(store)}


def test_an_incident_that_comes_back_gets_a_ticket_of_its_own(store: Store) -> None:
    for week, answer in enumerate((FAULT, NOTHING, FAULT)):
        follow(store, a_run(answer, weeks=week))
    assert [(row.number, row.closed_at is None) for row in rows(store)] == [(1, False), (2, True)]


def test_another_cause_closes_the_ticket_and_opens_its_own(store: Store) -> None:
    follow(store, a_run(FAULT))
    assert kinds(follow(store, a_run(CHANGE, weeks=1))) == [("closed", 1), ("opened", 2)]


def test_the_same_fault_in_another_slice_is_another_incident(store: Store) -> None:
    elsewhere = replace(FAULT, quarantine=(replace(SPAN, slice="origin=LGA"),))
    follow(store, a_run(FAULT))
    assert kinds(follow(store, a_run(elsewhere, weeks=1))) == [("closed", 1), ("opened", 2)]


def test_a_new_champion_that_is_bad_too_is_another_incident(store: Store) -> None:
    follow(store, a_run(RELEASE))
    follow(store, a_run(RELEASE, weeks=1, champion="3"))
    assert [row.incident for row in rows(store)] == ["bad release: version 2", "bad release: version 3"]


def test_nothing_and_a_covariate_shift_open_no_ticket(store: Store) -> None:
    assert follow(store, a_run(NOTHING)) == follow(store, a_run(SHIFT, weeks=1)) == []


def test_a_run_that_does_not_know_closes_nothing(store: Store) -> None:
    follow(store, a_run(CHANGE))
    assert follow(store, a_run(UNSURE, weeks=1)) == []
    assert len(incidents.open_tickets(store)) == 1


def test_the_second_inconclusive_pass_in_a_row_is_an_incident(store: Store) -> None:
    for week, expected in enumerate(([], [("opened", 1)], [("updated", 1)])):
        run = a_run(UNSURE, weeks=week)
        history.record(store, run)
        assert kinds(follow(store, run)) == expected
    assert kinds(follow(store, a_run(NOTHING, weeks=3))) == [("closed", 1)]


def test_a_killed_run_that_runs_again_counts_once(both: Settings) -> None:
    with opened(both) as store:
        follow(store, a_run(FAULT))
        follow(store, later(a_run(FAULT), hours=1))
        (row,) = rows(store)
        assert (row.seen, row.updated_at) == (1, later(a_run(FAULT), hours=1).at)


def test_a_run_over_an_older_window_changes_nothing(store: Store) -> None:
    follow(store, a_run(FAULT, weeks=2))
    again = later(a_run(NOTHING, weeks=1), hours=24 * 8)
    assert follow(store, again) == []
    assert len(incidents.open_tickets(store)) == 1


def test_the_database_itself_refuses_a_second_open_ticket_of_an_incident(both: Settings) -> None:
    with opened(both) as store:
        follow(store, a_run(FAULT))
        copy = {**rows(store)[0]._mapping, "number": 2}
        with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
            connection.execute(tickets.insert().values(copy))
        with store.engine.begin() as connection:  # a closed one may be there many times
            connection.execute(tickets.insert().values({**copy, "closed_at": copy["updated_at"]}))


@pytest.mark.parametrize("others", [FAULT, CHANGE])
def test_racing_passes_make_one_ticket_per_incident(both: Settings, others: Any) -> None:
    result: list[list[Event]] = []
    barrier = threading.Barrier(8)

    def one(run: MonitoringRun) -> None:
        with opened(both) as store:
            barrier.wait()
            result.append(follow(store, run))

    threads = [threading.Thread(target=one, args=(a_run(item),)) for item in (FAULT, others) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(result) == 8  # none failed
    with opened(both) as store:
        now_open = [row.incident for row in rows(store) if row.closed_at is None]
    assert len(now_open) == len(set(now_open)) == 1
    if others is FAULT:
        assert [event.event for events in result for event in events] == ["opened"]  # the others saw the same run


@pytest.mark.parametrize(
    ("answer", "command"),
    [
        (CHANGE, "python -m level1_pipeline train"),
        (RELEASE, "python -m level1_pipeline rollback --to 1"),
        (RETURN, "python -m level1_pipeline promote 1"),
        (FAULT, "python -m monitoring run"),
    ],
)
def test_a_ticket_says_what_it_is_how_we_know_how_to_decide_and_what_to_run(
    store: Store, answer: Any, command: str
) -> None:
    (event,) = follow(store, a_run(answer))
    assert event.body.startswith(f"# {problem.NAME}: {answer.cause}")
    assert all(message in event.body for message in (answer.message, *answer.evidence, "5,400 with an outcome"))
    assert command in event.body.split("## Commands")[1]
    assert "\n1. " in event.body.split("## How to decide")[1]
    assert incidents.ticket(store, event.number)["body"] == event.body


def test_the_commands_of_a_ticket_are_understood_by_the_command_line(store: Store) -> None:
    import shlex

    import typer

    from level1_pipeline.cli import app as level1_app
    from monitoring.cli import app as monitoring_app
    from monitoring.reporting.text import commands

    apps = {"level1_pipeline": level1_app, "monitoring": monitoring_app}

    for item in (FAULT, CHANGE, RELEASE, RETURN, UNSURE):
        for line in commands(a_run(item)):
            _, _, module, *arguments = shlex.split(line)
            group = typer.main.get_group(apps[module])
            group.commands[arguments[0]].make_context(arguments[0], list(arguments[1:]))


def test_a_ticket_that_does_not_exist_is_said(store: Store) -> None:
    with pytest.raises(LookupError, match="no ticket 7"):
        incidents.ticket(store, 7)


# ---- the webhook


EVENTS = [Event("closed", 1, "data fault", "a title", "# a body", 3), Event("opened", 2, "concept drift", "b", "", 1)]


def test_the_webhook_hears_of_every_event() -> None:
    with listener() as (url, got):
        assert webhook.send(url, EVENTS) == 2
    assert [(item["problem"], item["event"], item["number"]) for item in got] == [
        (problem.NAME, "closed", 1),
        (problem.NAME, "opened", 2),
    ]
    assert got[0]["body"] == "# a body"


def test_a_webhook_that_fails_twice_gets_it_the_third_time() -> None:
    with listener(fail=2) as (url, got):
        assert webhook.send(url, EVENTS[:1], pause=0.01) == 1
    assert got == [got[0]] * 3


def test_a_webhook_that_always_fails_is_logged_without_its_secrets(caplog: pytest.LogCaptureFixture) -> None:
    with listener(fail=99) as (url, got), caplog.at_level(logging.ERROR):
        assert webhook.send(url, EVENTS, pause=0.01) == 0
    assert len(got) == TRIES  # the second event is not tried any more
    assert "did not take ticket 1 after 3 tries" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_webhook_that_never_answers_costs_a_bounded_time() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        started = time.monotonic()
        assert webhook.send(f"http://127.0.0.1:{silent.getsockname()[1]}/", EVENTS, timeout=0.2, pause=0.01) == 0
        assert time.monotonic() - started < 10  # instead of for ever


def test_a_webhook_that_is_gone_or_talks_nonsense_does_not_raise() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as gone:
        port = gone.getsockname()[1]
    assert webhook.send(f"http://127.0.0.1:{port}/", EVENTS, pause=0.01) == 0

    def nonsense() -> None:
        for _ in range(TRIES):
            connection, _ = server.accept()
            connection.recv(65536)
            connection.sendall(b"this is not HTTP\r\n\r\n")
            connection.close()

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=nonsense)
        thread.start()
        assert webhook.send(f"http://127.0.0.1:{server.getsockname()[1]}/", EVENTS, pause=0.01) == 0
        thread.join()


def test_without_a_webhook_nobody_is_told_and_a_wrong_one_is_refused_at_the_start(home: Settings) -> None:
    assert webhook.send(home.webhook, EVENTS) == 0
    with pytest.raises(ValidationError, match="http:// or https://"):
        Settings(webhook="file:///etc/passwd")
