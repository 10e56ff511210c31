"""The operations store: a change of the route and its audit line happen together, fenced, or not at all."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from level1_pipeline.errors import LeaseLost
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.audit import Change, Unrecognised
from level1_pipeline.store.database import Lease, Store
from level1_pipeline.store.routes import Route
from tests.support.store import exit_codes, start_processes

NOW = datetime(2013, 4, 1, 4, tzinfo=UTC)


def change(action: str = "promote to champion", at: datetime = NOW, **evidence: Any) -> Change:
    return Change("tester", Unrecognised(action), "it is better", at, evidence)


def test_before_the_first_promotion_the_route_is_empty(store: Store) -> None:
    assert store.route("flights") == Route(champion=None, challenger=None, mode=None, share=0.0, previous=None)
    assert store.audit_log("flights") == []


def test_a_change_of_the_route_writes_one_audit_line(store: Store, home: Settings) -> None:
    with leases.hold(store, "flights", 60) as lease:
        store.change_route("flights", lease, change(log_loss=0.48), champion="1")
        after = store.change_route("flights", lease, change("canary"), challenger="2", mode="canary", share=0.05)
        store.change_route(
            "flights", lease, change(), champion="2", previous="1", challenger=None, mode=None, share=0.0
        )
    assert after == Route("1", "2", "canary", 0.05, None)
    other_process = Store(home.operations)
    assert other_process.route("flights") == Route("2", None, None, 0.0, "1")
    lines = other_process.audit_log("flights")
    assert [(line.text, line.from_version, line.to_version) for line in lines] == [
        ("promote to champion", None, "1"),
        ("canary", "1", "1"),
        ("promote to champion", "1", "2"),
    ]
    first = lines[0]
    assert (first.actor, first.reason, first.at) == ("tester", "it is better", NOW)
    assert first.evidence["log_loss"] == 0.48
    canary = {"champion": "1", "challenger": "2", "mode": "canary", "share": 0.05, "previous": None, "checksums": {}}
    assert lines[1].evidence["route_before"] == {**canary, "challenger": None, "mode": None, "share": 0.0}
    assert lines[1].evidence["route_after"] == canary
    assert first.at.tzinfo is first.recorded_at.tzinfo is UTC
    assert first.recorded_at > NOW  # wall time, not the clock of decisions


@pytest.mark.evidence("Level 1: an audit log")
def test_when_the_audit_line_cannot_be_written_the_route_does_not_change(store: Store) -> None:
    with leases.hold(store, "flights", 60) as lease:
        store.change_route("flights", lease, change(), champion="1")
        with pytest.raises(sa.exc.StatementError):
            store.change_route("flights", lease, change(model=object()), champion="2")  # no JSON
        with store.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        with pytest.raises(sa.exc.IntegrityError, match="disk full"):
            store.change_route("flights", lease, change(), champion="2")
    assert store.route("flights").champion == "1"
    assert len(store.audit_log("flights")) == 1


def test_problems_share_a_store_without_seeing_each_other(store: Store) -> None:
    with leases.hold(store, "a", 60) as lease:
        store.change_route("a", lease, change(), champion="1")
        store.change_route("b", lease, change(), champion="7")
    store.record("b", change("refused"), "7", "8")
    assert (store.route("a").champion, store.route("b").champion) == ("1", "7")
    assert [line.text for line in store.audit_log("a")] == ["promote to champion"]
    assert [(line.text, line.to_version) for line in store.audit_log("b")] == [
        ("promote to champion", "7"),
        ("refused", "8"),
    ]
    assert store.route("b").champion == "7"  # a record changes nothing


def test_a_column_that_does_not_exist_is_refused(store: Store) -> None:
    with leases.hold(store, "a", 60) as lease, pytest.raises(TypeError, match="chamption"):
        store.change_route("a", lease, change(), chamption="1")
    assert store.audit_log("a") == []


@pytest.mark.evidence("Level 1: an audit log")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'nobody'",
        "UPDATE audit SET reason = 'no reason' WHERE id = 1",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 1",
        (
            "INSERT OR REPLACE INTO audit SELECT id, problem, at, recorded_at, 'nobody', "
            "action, reason, from_version, to_version, evidence FROM audit"
        ),
    ],
)
def test_nobody_can_alter_the_audit_log(store: Store, home: Settings, statement: str) -> None:
    store.record("flights", change())
    before = store.audit_log("flights")
    with (
        sqlite3.connect(home.home / "operations.db") as by_hand,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        by_hand.execute(statement)
    assert store.audit_log("flights") == before


def test_the_audit_log_is_indexed_by_problem(store: Store) -> None:
    assert [index["column_names"] for index in sa.inspect(store.engine).get_indexes("audit")] == [["problem"]]


@pytest.mark.evidence("clocks change, or a stamp is wrong")
def test_naive_times_are_refused_everywhere(store: Store) -> None:
    naive = datetime(2013, 4, 1)
    with pytest.raises(sa.exc.StatementError, match="no UTC offset"):
        store.record("flights", change(at=naive))
    with pytest.raises(sa.exc.StatementError, match="no UTC offset"):
        store.set_replay_time(naive)
    with leases.hold(store, "flights", 60) as lease, pytest.raises(sa.exc.StatementError, match="no UTC offset"):
        store.change_route("flights", lease, change(at=naive), champion="1")
    assert store.audit_log("flights") == []
    assert store.route("flights") == Route()


def test_a_time_in_another_zone_comes_back_as_the_same_moment_in_utc(store: Store) -> None:
    in_new_york = datetime(2013, 4, 1, 0, 30, 0, 123456, tzinfo=timezone(timedelta(hours=-4)))
    store.record("flights", change(at=in_new_york))
    at = store.audit_log("flights")[0].at
    assert at == in_new_york
    assert (at.tzinfo, at.hour) == (UTC, 4)


def test_the_replay_clock_must_be_set_and_then_keeps_one_time(store: Store, home: Settings) -> None:
    with pytest.raises(LookupError, match="never set"):
        store.replay_time()
    for days in (0, 1, -1):
        store.set_replay_time(NOW + timedelta(days=days))
        assert Store(home.operations).replay_time() == NOW + timedelta(days=days)


def test_a_refused_time_leaves_the_replay_clock_as_it_was(store: Store) -> None:
    store.set_replay_time(NOW)
    with pytest.raises(sa.exc.StatementError):
        store.set_replay_time(datetime(2014, 1, 1))
    assert store.replay_time() == NOW


def test_an_expired_holder_cannot_write_once_another_holds_the_lease(store: Store) -> None:
    old = leases.acquire(store, "flights", 0)  # expired at once
    new = leases.acquire(store, "flights", 60)
    with pytest.raises(LeaseLost, match="nothing was changed"):
        store.change_route("flights", old, change("late"), champion="66")
    assert store.route("flights") == Route()
    assert store.audit_log("flights") == []
    store.change_route("flights", new, change(), champion="1")
    assert store.route("flights").champion == "1"


def test_an_expired_holder_cannot_write_even_when_nobody_took_the_lease(store: Store) -> None:
    with pytest.raises(LeaseLost):
        store.change_route("flights", leases.acquire(store, "flights", 0), change(), champion="66")
    with pytest.raises(LeaseLost):
        store.change_route("flights", Lease("never acquired", 1), change(), champion="66")
    assert store.audit_log("flights") == []


def test_the_database_is_in_wal_mode_so_that_readers_do_not_wait(store: Store, home: Settings) -> None:
    store.route("flights")
    with sqlite3.connect(home.home / "operations.db") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO replay VALUES (1, '2013-04-01 00:00:00.000000')")
        with sqlite3.connect(home.home / "operations.db", timeout=0) as reader:
            assert reader.execute("SELECT count(*) FROM replay").fetchone() == (0,)
        other.rollback()


def test_nothing_is_opened_before_the_first_use(home: Settings) -> None:
    Store(home.operations)
    assert not home.home.exists()


def test_eight_parallel_first_opens_make_the_tables_once(tmp_path: Path) -> None:
    for attempt in range(10):
        url, start = f"sqlite:///{tmp_path}/{attempt}/operations.db", threading.Barrier(8)
        failures: list[Exception] = []

        def first_open(
            number: int, url: str = url, start: threading.Barrier = start, failures: list[Exception] = failures
        ) -> None:
            start.wait()
            try:
                store = Store(url)
                store.record("flights", change(f"open {number}"))
                store.engine.dispose()
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=first_open, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sorted(line.text for line in Store(url).audit_log("flights")) == [
            f"open {number}" for number in range(8)
        ]


@pytest.mark.evidence("the database is locked")
@pytest.mark.integration
@pytest.mark.slow
def test_eight_processes_that_open_a_new_store_together_all_succeed(home: Settings) -> None:
    assert exit_codes(start_processes(_record_a_line, 8, home.operations)) == [0] * 8
    assert len(Store(home.operations).audit_log("flights")) == 8


def _record_a_line(url: str) -> None:
    Store(url).record("flights", change())


def test_reading_waits_for_no_writer(store: Store, home: Settings) -> None:
    store.record("flights", change())
    writer = sqlite3.connect(home.operations.removeprefix("sqlite:///"), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")  # as long as it lasts, a second writer would give up after 30 s
    try:
        assert store.route("flights") == Route()
        assert len(store.audit_log("flights")) == 1
    finally:
        writer.close()
