"""Leases: one holder at a time; a killed one is free after its time, a living one keeps it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from level1_pipeline.errors import LeaseHeld, LeaseLost
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.database import Lease, Store
from level1_pipeline.store.tables import leases as table
from tests.support import ROOT


def expiry(store: Store, name: str) -> datetime:
    with store.engine.begin() as connection:
        return connection.execute(sa.select(table.c.expires_at).where(table.c.name == name)).scalar_one()


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of our code, once it has said that it is ready."""
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_held_lease_is_refused_and_the_message_names_the_holder(store: Store) -> None:
    leases.acquire(store, "flights", 60)
    with pytest.raises(LeaseHeld, match=rf"'flights' is held by .*:{os.getpid()} until \d\d:\d\d:\d\d UTC"):
        leases.acquire(store, "flights", 60)
    assert leases.acquire(store, "something else", 60).token == 1


def test_an_expired_lease_is_free_and_its_token_grows_with_each_holder(store: Store) -> None:
    tokens = [leases.acquire(store, "flights", 0).token for _ in range(4)]
    assert tokens == [1, 2, 3, 4]


@pytest.mark.parametrize("late", [timedelta(seconds=90), timedelta(days=1), timedelta(days=4000)])
def test_a_lease_that_a_wrong_clock_took_is_free(store: Store, late: timedelta) -> None:
    """The clock was ahead while the lease was taken, and is right again."""
    taken = leases.acquire(store, "flights", 60)
    with store.engine.begin() as connection:
        connection.execute(table.update().values(expires_at=datetime.now(UTC) + late))
    assert leases.acquire(store, "flights", 5).token == taken.token + 1


def test_a_longer_lease_than_ours_is_respected(store: Store) -> None:
    leases.acquire(store, "flights", 600)
    with pytest.raises(LeaseHeld):
        leases.acquire(store, "flights", 1)


def test_a_released_lease_is_free_at_once_and_its_token_still_grows(store: Store) -> None:
    for token in (1, 2, 3):
        with leases.hold(store, "flights", 60) as lease:
            assert lease == Lease("flights", token)
            with pytest.raises(LeaseHeld):
                leases.acquire(store, "flights", 60)


def test_a_lease_is_released_when_its_block_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), leases.hold(store, "flights", 60):
        _ = 1 / 0
    assert leases.acquire(store, "flights", 60).token == 2


def test_the_heartbeat_stops_with_the_block(store: Store) -> None:
    with leases.hold(store, "flights", 60):
        assert any(thread.name == "lease flights" for thread in threading.enumerate())
    assert not any(thread.name == "lease flights" for thread in threading.enumerate())


def test_the_heartbeat_keeps_a_lease_beyond_its_time(store: Store) -> None:
    with leases.hold(store, "flights", 1.5) as lease:
        first = expiry(store, "flights")
        while datetime.now(UTC) <= first:
            time.sleep(0.05)
        with pytest.raises(LeaseHeld):
            leases.acquire(store, "flights", 60)
        assert expiry(store, "flights") > first
        assert lease.token == 1


@pytest.mark.evidence("two trainings start at once")
def test_an_old_holder_can_neither_renew_nor_release_the_lease_of_the_next(store: Store) -> None:
    old = leases.acquire(store, "flights", 0)
    new = leases.acquire(store, "flights", 60)
    until = expiry(store, "flights")
    assert not leases.renew(store, old, 3600)
    assert not leases.renew(store, old, 0)
    assert expiry(store, "flights") == until
    assert leases.renew(store, new, 3600)
    assert expiry(store, "flights") > until


def test_an_urgent_holder_waits_a_moment_for_one_that_is_about_to_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 60.0)
    old, ended = leases.acquire(store, "flights", 3600), []
    threading.Timer(0.2, lambda: ended.append(leases.renew(store, old, 0))).start()
    with leases.hold(store, "flights", 60, urgent=True) as new:
        assert new.token == 2
    assert ended == [True]  # it was still the old one's to give back


def test_an_urgent_holder_takes_the_lease_from_one_that_does_not_end_who_then_can_write_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "PATIENCE", 0.05)
    old = leases.acquire(store, "flights", 3600)
    with leases.hold(store, "flights", 60, urgent=True) as new:
        assert new.token == 2
        assert not leases.renew(store, old, 3600)
        with pytest.raises(LeaseLost):
            store.write(old, [])
        store.write(new, [])


def test_a_lease_that_does_not_exist_cannot_be_renewed(store: Store) -> None:
    assert not leases.renew(store, Lease("never acquired", 1), 60)


HOLDER = """
import sys, time
from level1_pipeline.errors import LeaseHeld
from level1_pipeline.store import leases
from level1_pipeline.store.database import Store
with leases.hold(Store(sys.argv[1]), "flights", 1.5):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.evidence("two trainings start at once")
def test_the_lease_of_a_killed_process_is_free_after_its_time_and_not_before(store: Store, home: Settings) -> None:
    holder = child(HOLDER, home.operations)
    try:
        with pytest.raises(LeaseHeld, match=rf":{holder.pid} until"):
            leases.acquire(store, "flights", 60)
    finally:
        holder.kill()  # SIGKILL: nothing is cleaned up
        holder.communicate()
    left = expiry(store, "flights")
    for _ in range(3000):
        try:
            lease = leases.acquire(store, "flights", 60)
            break
        except LeaseHeld:
            time.sleep(0.02)
    else:
        pytest.fail("the lease of a killed process was never freed")
    assert lease.token == 2
    assert datetime.now(UTC) > left


RACER = """
import sys
from level1_pipeline.errors import LeaseHeld
from level1_pipeline.store import leases
from level1_pipeline.store.database import Store
store = Store(sys.argv[1])
store.route("flights")
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    try:
        print(f"won {number} {leases.acquire(store, f'lease {number}', 60).token}")
    except LeaseHeld:
        print(f"lost {number}")
"""


@pytest.mark.parametrize("state", ["new", "expired"])
@pytest.mark.slow
def test_of_two_processes_that_race_for_a_lease_exactly_one_wins(store: Store, home: Settings, state: str) -> None:
    if state == "expired":
        for number in range(40):
            leases.acquire(store, f"lease {number}", 0)
    racers = [child(RACER, home.operations) for _ in range(2)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answer = [racer.communicate(timeout=60)[0] for racer in racers]
    token = 2 if state == "expired" else 1
    wins = Counter(re.findall(rf"won (\d+) {token}$", "".join(answer), flags=re.MULTILINE))
    losses = Counter(re.findall(r"lost (\d+)$", "".join(answer), flags=re.MULTILINE))
    assert wins == losses == Counter({str(number): 1 for number in range(40)})


@pytest.mark.slow
def test_the_heartbeat_survives_a_store_that_fails_for_a_moment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    renew = leases.renew
    failures: list[Lease] = []

    def fails_once(store: Store, lease: Lease, seconds: float) -> bool:
        if not failures:
            failures.append(lease)
            raise sa.exc.OperationalError("the store is away", None, Exception())
        return renew(store, lease, seconds)

    monkeypatch.setattr(leases, "renew", fails_once)
    with leases.hold(store, "a", 3):
        time.sleep(4.5)  # beyond its time, if nobody renewed it after the failure
        with pytest.raises(LeaseHeld):
            leases.acquire(store, "a", 3)
    assert len(failures) == 1
