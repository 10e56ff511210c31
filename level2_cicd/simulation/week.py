"""The next days of the past, for a home that is kept from one run to the next: how the loop goes on where nobody has traffic.

The first run trains the first champion. Each run replays some days of real rows through the service, in this process,
with their outcomes and one cycle of the control loop at each midnight. The home's own clock says where the next one begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit
from level1_pipeline.store.audit_queries import releases
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of, start_of
from level2_cicd.rollout import record
from level2_cicd.simulation import pipelines
from level2_cicd.simulation.faults.table import Planted
from level2_cicd.simulation.pipelines import UNTIMED
from level2_cicd.simulation.processes import Tell
from level2_cicd.simulation.story import apart
from level2_cicd.simulation.world import LAG_DAYS, World
from monitoring import after_run


@dataclass(frozen=True)
class Week:
    """What happened on the days that were replayed."""

    first: str
    last: str
    log: list[audit.Line]  # of these days, and of the first champion if it was made now
    champion: str | None
    waiting: tuple[str, str] | None  # version and step of a rollout that waits for a person


def of(settings: Settings, home: Path) -> Settings:
    """The settings of a home that is kept: the user's rules, their approvals included, and the replay clock."""
    rules = {"home": home, "approvals": settings.rollout.approvals}
    return apart(settings).changed(UNTIMED | rules)


def replay(settings: Settings, start: str, days: int, fault: Planted | None, tell: Tell) -> Week | None:
    """Live through the next days; None if there are no rows of these days.

    A run that is killed changes nothing that is kept: the next one begins again with the home that was kept last.

    Args:
        settings: of the home that is kept (`of`).
        start: the day on which an empty home begins; the first champion is trained as of it.
        days: how many.
        fault: what goes wrong in what the callers send.
        tell: is told about each day.

    Raises:
        TrainingStopped: the first champion did not pass its gate, or the service refused a row.
    """
    _prepare(settings.home)
    store = Store(settings.operations)
    log = store.audit_log(problem.NAME)
    begun = str(date_of(releases(log)[0].at)) if releases(log) else start
    first = str(date_of(store.replay_time())) if releases(log) else start
    last = str(date_of(start_of(first)) + timedelta(days=days - 1))
    if not _has_rows(settings, first, last):
        return None
    tell(f"the first champion, as of {begun}", 0.0)
    pipelines.first_champion(settings, begun)
    pipelines.live(World(settings, begun, last), settings, tell, fault, publish=after_run.publish)
    rollout = record.current(store)
    waiting = (rollout.version, rollout.waiting) if rollout and rollout.waiting else None
    new = store.audit_log(problem.NAME)[len(log) :]
    champion = store.route(problem.NAME).champion
    store.close()
    return Week(first, last, new, champion, waiting)


def _prepare(home: Path) -> None:
    """The prepared rows lie beside the home, so that they are no part of what is kept."""
    for folder in (home, home.parent / "cache"):
        folder.mkdir(parents=True, exist_ok=True)
    if not (home / "cache").exists():
        (home / "cache").symlink_to(Path("..") / "cache")


def _has_rows(settings: Settings, first: str, last: str) -> bool:
    """Whether there is a row on the last of these days (the data of a problem end some time)."""
    times = source.load(settings, start_of(last) + timedelta(days=LAG_DAYS))[problem.EVENT_TIME]
    return bool((times >= start_of(last)).any())
