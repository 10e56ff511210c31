"""`make level2`: the whole loop on an empty home, from the first champion to the next one, told as a story."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.command_line import LiteralConsole
from level1_pipeline.errors import TrainingStopped
from level1_pipeline.processes import environment
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit
from level1_pipeline.store.audit_queries import trainings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import start_of
from level2_cicd.control_loop.operate import Operator
from level2_cicd.rollout.states import ROLLED_BACK
from level2_cicd.simulation import replay
from level2_cicd.simulation.faults.table import Planted
from monitoring import after_run
from monitoring.reporting import overview
from monitoring.reporting.overview import is_told

FAST: dict[str, Any] = {
    "clock": "replay",
    "serving_port": 0,
    "rate_limit": 0.0,
    "watch_seconds": 0.05,
    "flush_seconds": 0.05,
    "monitor_every_days": 7.0,
    "canary_shares": "0.25,0.5",
}
KEPT = ("actor", "source")  # of the user's settings: who acts, and on which raw data
SETTLE = 0.25  # seconds for the service to see a new route and to write its log: the clock waits, not the callers
MOST_REASONS = 3  # of failed requests that are shown; more of them mostly say the same
# With Evidently's view of each week, of fewer rows than usual: 3 s of a core, where all rows take 5 s.
PUBLISH = partial(after_run.publish_with_snapshot, rows=5000)
WIDTH = 150  # of the table, where the terminal is narrower or a file


@dataclass(frozen=True)
class Story:
    """What happened: the audit log from the first champion on, the traffic, and who serves in the end."""

    log: list[audit.Line]
    traffic: replay.Traffic
    champion: str | None
    home: Path

    @property
    def quarantines(self) -> int:
        """How often the control loop set rows apart."""
        return sum(isinstance(line.action, audit.DataQuarantined) for line in self.log)

    @property
    def retrainings(self) -> int:
        """How many trainings ended, without the one that made the first champion."""
        return len(trainings(self.log)) - 1

    @property
    def rollbacks(self) -> int:
        """How often a candidate was rolled back, or a champion."""
        ended = (isinstance(line.action, audit.RolledBack) or _step(line) == ROLLED_BACK for line in self.log)
        return sum(ended)

    @property
    def summary(self) -> str:
        """The counts, who serves in the end, and what failed."""
        sent = self.traffic
        counts = f"{self.quarantines} faults quarantined | {self.retrainings} retrainings | {self.rollbacks} rollbacks"
        requests = f"failed requests {sent.failed_predictions} of {sent.predictions:,}"
        outcomes = f"failed outcomes {sent.failed_outcomes} of {sent.outcomes:,}"
        return f"{counts} | champion {self.champion} | {requests} | {outcomes} | {self.home}, to be seen with make ui"


def _step(line: audit.Line) -> str | None:
    return line.action.step if isinstance(line.action, audit.RolloutMoved) else None


def apart(settings: Settings) -> Settings:
    """The settings of a simulation, in a home of its own: the user's rules of rollout, retraining and loop, and else the
    defaults. The user's databases, keys and webhook are those of production, wherever they were set (so the environment
    is not read here), and nobody is there to approve a step.
    """
    kept: dict[str, Any] = {name: getattr(settings, name) for name in KEPT}
    groups = settings.rollout, settings.retraining, settings.loop
    rules = {name: getattr(group, name) for group in groups for name in group.model_fields_set - {"approvals"}}
    return Settings.model_construct(**kept, home=settings.summer).changed(FAST | rules)


def run(settings: Settings, trained: str, first: str, last: str, fault: Planted | None, console: Console) -> Story:
    """Live through the days from `first` to `last` in a home of its own, which is made anew, with a champion that was
    `trained` as of that day or an earlier one."""
    settings = apart(settings)
    shutil.rmtree(settings.home, ignore_errors=True)
    settings.home.mkdir(parents=True)
    store = Store(settings.operations)
    store.set_replay_time(start_of(trained).to_pydatetime())
    with console.status(f"Level 1 trains the first champion as of {trained}"):
        _first_champion(settings, trained)
    store.set_replay_time(start_of(first).to_pydatetime())
    with replay.service(settings) as url:
        traffic = replay.Traffic(url)
        for _ in _progress(replay.live(settings, traffic, first, last, fault), first, last, console):
            time.sleep(SETTLE)
            Operator(settings, publish=PUBLISH).cycle()
    story = Story(store.audit_log(problem.NAME), traffic, store.route(problem.NAME).champion, settings.home)
    store.close()
    overview.write(settings, overview.SUMMER)
    return story


def _first_champion(settings: Settings, as_of: str) -> None:
    command = [sys.executable, "-m", "level1_pipeline", "train", "--as-of", as_of]
    done = subprocess.run(command, env=environment(settings), capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise TrainingStopped(f"Level 1 made no champion as of {as_of}:\n{done.stdout}{done.stderr}")


def _progress(days: Iterable[pd.Timestamp], first: str, last: str, console: Console) -> Iterator[None]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} days"),
        TimeElapsedColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task(first, total=(pd.Timestamp(last) - pd.Timestamp(first)).days + 1)
        for now in days:
            yield
            bar.update(task, advance=1, description=f"{now.tz_convert(problem.TIMEZONE):%Y-%m-%d}")


def tell(story: Story, console: Console) -> None:
    """The story as a table, one line for each event; then what failed first, and the summary."""
    table = Table(title="What happened", title_justify="left")
    for name, width in (("when", 10), ("what", 26), ("version", 7), ("why", WIDTH - 60)):
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=width, max_width=width)
    for line in filter(is_told, story.log):
        version = getattr(line.action, "candidate", None) or line.to_version or ""
        when = line.at.astimezone(ZoneInfo(problem.TIMEZONE))
        table.add_row(f"{when:%Y-%m-%d}", line.text, version, line.reason)
    LiteralConsole(file=console.file, width=max(console.width, WIDTH)).print(table)
    if story.traffic.reasons:
        console.print(f"  what failed first (the service's log: {story.home / 'service.log'}):")
    for reason in story.traffic.reasons[:MOST_REASONS]:
        console.print(f"  {reason}")
    console.print(f"level 2 | {problem.NAME} | {story.summary}")
