"""Many days of a home in one process, in a project with any problem.

`python -m tests.support.long_life live HOME FIRST LAST` trains every six weeks by the calendar, and prunes once a month.
`python -m tests.support.long_life time HOME` prints the seconds of a core that a monitoring run and the start of a
service take, in JSON.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import start_of
from level2_cicd.maintenance.prune import prune
from level2_cicd.simulation import pipelines
from level2_cicd.simulation.story import FAST, apart
from level2_cicd.simulation.world import World
from monitoring import after_run
from monitoring.data import retention
from monitoring.results import MonitoringRun
from monitoring.run import run_monitoring
from serving.service.service import Service

MONTH, SIX_WEEKS = 28, 42
RETENTION_DAYS, KEEP = 60.0, 3


def settings_of(home: Path) -> Settings:
    """A home that has not much room, and trains by the calendar."""
    of_60_rows_a_day = {"min_requests": 120, "step_requests": 60, "min_outcomes": 30}  # a rollout ends in two weeks
    by_calendar = {"triggers": "schedule", "schedule_days": SIX_WEEKS}
    rules = {"home": home, "retention_days": RETENTION_DAYS, **of_60_rows_a_day, **by_calendar}
    return apart(Settings()).changed(FAST | pipelines.UNTIMED | rules)


def publish(settings: Settings, store: Store, run: MonitoringRun) -> None:
    """The report of one week of each month, which saves seconds for each other one; and retention each week."""
    if run.window.end.day <= 7:
        after_run.publish(settings, store, run)
    retention.retain(settings, store, run.at)


def live(home: Path, first: str, last: str) -> None:
    """Live from the local day `first` to `last`, or go on where the home's clock stands."""
    home.mkdir(parents=True, exist_ok=True)
    settings = settings_of(home)
    pipelines.first_champion(settings, first)

    def keep(day: str) -> None:
        if (start_of(day) - start_of(first)) // timedelta(days=1) % MONTH == 0:
            prune(settings, KEEP, "a month ended")

    pipelines.live(World(settings, first, last), settings, lambda *_: None, None, keep, publish)


def seconds(home: Path) -> dict[str, float]:
    """What a monitoring run and the start of a service take."""
    settings = settings_of(home)
    run_monitoring(settings)  # the first one in a process imports libraries
    times = [time.process_time()]
    run_monitoring(settings)
    times.append(time.process_time())
    service = Service(settings)
    service.hot_swap.look()
    times.append(time.process_time())
    service.stop()
    return {"monitoring run": times[1] - times[0], "start of the service": times[2] - times[1]}


if __name__ == "__main__":
    command, folder, *days = sys.argv[1:]
    if command == "live":
        live(Path(folder), *days)
    else:
        print(json.dumps(seconds(Path(folder))))
