"""Leases: at most one process acts under a name, and a killed one blocks the others only for a while."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from level1_pipeline.errors import LeaseHeld
from level1_pipeline.store.database import Lease, Store
from level1_pipeline.store.tables import leases

logger = logging.getLogger(__name__)

SKEW = 5.0  # seconds by which the clocks of two machines may differ
PATIENCE = 1.0  # seconds: a holder that lives needs milliseconds for what it does under a lease of promotions


def promotion(problem: str) -> str:
    """The name of the lease under which the route of a problem changes."""
    return f"promote {problem}"


def acquire(store: Store, name: str, seconds: float, take_over: bool = False) -> Lease:
    """Take a lease that is free or expired, with a token higher than any before it.

    With `take_over` also one that is held: its holder then can neither renew it nor write (`LeaseLost`).

    One that ends later than its own length from now was taken by a wrong clock, and is free, too.

    Raises:
        LeaseHeld: it is held; the message says by whom and until when.
    """
    now = datetime.now(UTC)
    holder, expires_at = f"{socket.gethostname()}:{os.getpid()}", now + timedelta(seconds=seconds)
    values = {"holder": holder, "expires_at": expires_at, "seconds": seconds}
    with store.engine.begin() as connection:
        held = connection.execute(sa.select(leases).where(leases.c.name == name).with_for_update()).first()
        genuine = held and held.expires_at <= now + timedelta(seconds=(held.seconds or seconds) + SKEW)
        if held and held.expires_at > now and genuine and not take_over:
            until = f"{held.expires_at:%H:%M:%S} UTC"
            raise LeaseHeld(
                f"'{name}' is held by {held.holder} until {until}; it is renewed while that process lives, and free after that"
            )
        token = held.token + 1 if held else 1
        if held:
            connection.execute(leases.update().where(leases.c.name == name).values(token=token, **values))
            return Lease(name, token)
        try:
            connection.execute(leases.insert().values(name=name, token=token, **values))
        except sa.exc.IntegrityError as race:
            raise LeaseHeld(f"'{name}' was taken by another process at this moment; try again later") from race
    return Lease(name, token)


def renew(store: Store, lease: Lease, seconds: float) -> bool:
    """Prolong the lease from now on (0 seconds release it). False when it is no longer ours."""
    ours = (leases.c.name == lease.name) & (leases.c.token == lease.token)
    with store.engine.begin() as connection:
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        return connection.execute(leases.update().where(ours).values(expires_at=until)).rowcount == 1


def acquire_urgently(store: Store, name: str, seconds: float) -> Lease:
    """Wait a moment for whoever holds the lease, then take it over: also from a process that was killed or hangs."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with suppress(LeaseHeld):
            return acquire(store, name, seconds)
        time.sleep(0.02)
    return acquire(store, name, seconds, take_over=True)


@contextmanager
def hold(store: Store, name: str, seconds: float, urgent: bool = False) -> Iterator[Lease]:
    """Hold a lease for the duration of a block; a thread renews it every third of its time.

    `urgent` is for what must not fail because of another process, as a rollback; see `acquire_urgently`.

    Raises:
        LeaseHeld: somebody else holds it.
    """
    lease, done = (acquire_urgently if urgent else acquire)(store, name, seconds), threading.Event()

    def heartbeat() -> None:
        while not done.wait(seconds / 3):
            try:
                renew(store, lease, seconds)
            except sa.exc.SQLAlchemyError as error:  # try again; if it lasts, the lease ends and the fence holds
                logger.warning("the lease '%s' could not be renewed: %s", name, error)

    thread = threading.Thread(target=heartbeat, name=f"lease {name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        done.set()
        thread.join()
        try:
            renew(store, lease, 0)
        except sa.exc.SQLAlchemyError as error:  # it ends by itself; what happened in the block matters more
            logger.warning("the lease '%s' could not be released: %s", name, error)
