"""Plays the world for two weeks, inside a container: real flights are predicted by the service and answered by their
outcomes, on the replay clock. At each midnight it waits for the control loop, which runs in its own container.

Its input is the script itself, after a first line that sets KEYS.
"""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import leases, monitoring_runs
from level2_cicd.simulation import replay

PATIENCE = 200  # seconds for a cycle, in which a training may run


def cycles(store: Store) -> int:
    """How often the loop has begun a cycle: each takes its lease, with a higher token."""
    with store.engine.connect() as connection:
        return connection.scalar(sa.select(leases.c.token).where(leases.c.name == f"operate {problem.NAME}")) or 0


def wait_for_the_loop(store: Store) -> None:
    """Until a cycle that began after now has ended."""
    until, before = time.monotonic() + PATIENCE, cycles(store)
    while cycles(store) < before + 2:
        if time.monotonic() > until:
            raise TimeoutError("the control loop does nothing")
        time.sleep(0.2)


def main(first: str, last: str, keys: dict[str, str]) -> dict[str, Any]:
    """What was sent, and what the loop did with it."""
    settings = Settings()
    store = Store(settings.operations)
    traffic = replay.Traffic("http://serving:8000", keys=keys)
    # The simulation keeps its prepared rows beside its home.
    beside = settings.changed({"home": settings.home / "replay"})
    midnights = 0
    for _ in replay.live(beside, traffic, first, last, None):
        wait_for_the_loop(store)
        midnights += 1
    with store.engine.connect() as connection:
        runs = connection.scalar(sa.select(sa.func.count()).select_from(monitoring_runs))
    return {
        "midnights": midnights,
        "predictions": traffic.predictions,
        "failed": traffic.reasons,
        "monitoring runs": runs,
        "actions": [line.text for line in store.audit_log(problem.NAME)],
    }
