"""`make level2`: the whole loop on an empty home, from the first champion to the next one, told as a story."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.orchestration.run import day
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.control_loop.operate import Operator
from level2_cicd.control_loop.training_job import environment
from level2_cicd.simulation import replay

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
# Lines of the audit log that are part of the story; the others are in `make history`.
TOLD = (
    "train: ",
    "promote",
    "rollout: ",
    "roll back",
    "governor: ",
    "operate: quarantine",
    "operate: note",
    "operate: refused",
)

SKIPPED = ("rollout: start", "rollout: blessed", "promote to challenger")  # the line after each says the same
WIDTH = 150  # of the table, where the terminal is narrower or a file


@dataclass(frozen=True)
class Story:
    """What happened."""

    lines: list[dict[str, Any]]
    traffic: replay.Traffic
    champion: str | None

    def count(self, action: str) -> int:
        """How often something happened."""
        return sum(line["action"].startswith(action) for line in self.lines)


def apart(settings: Settings) -> Settings:
    """The settings of a simulation: the defaults, in a home of its own. The user's databases, keys, webhook and
    rules of a rollout are those of production, wherever they were set (so the environment is not read here).
    """
    kept: dict[str, Any] = {name: getattr(settings, name) for name in KEPT}
    return Settings.model_construct(**kept, home=settings.home / "level2").changed(FAST)


def run(settings: Settings, trained: str, first: str, last: str, fault: replay.Fault | None, console: Console) -> Story:
    """Live through the days from `first` to `last` in a home of its own, which is made anew, with a champion that was
    `trained` as of that day or an earlier one."""
    mine = apart(settings)
    shutil.rmtree(mine.home, ignore_errors=True)
    mine.home.mkdir(parents=True)
    store = Store(mine.operations)
    store.set_replay_time(day(trained).to_pydatetime())
    with console.status(f"Level 1 trains the first champion as of {trained}"):
        _first_champion(mine, trained)
    store.set_replay_time(day(first).to_pydatetime())
    with replay.service(mine) as url:
        traffic = replay.Traffic(url)
        for _ in _progress(replay.live(mine, traffic, first, last, fault), first, last, console):
            time.sleep(SETTLE)
            Operator(mine).cycle()
    lines = [line for line in store.history(problem.NAME) if line["action"].startswith(TOLD)]
    champion = store.route(problem.NAME).champion
    store.close()
    return Story(lines, traffic, champion)


def _first_champion(settings: Settings, as_of: str) -> None:
    command = [sys.executable, "-m", "level1_pipeline", "train", "--as-of", as_of]
    done = subprocess.run(command, env=environment(settings), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"Level 1 made no champion as of {as_of}:\n{done.stdout}{done.stderr}")


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
    """The story as a table, one line for each event."""
    table = Table(title="What happened", title_justify="left")
    for name, width in (("when", 10), ("what", 26), ("version", 7), ("why", WIDTH - 60)):
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=width, max_width=width)
    for line in story.lines:
        if line["action"] in SKIPPED:
            continue
        when = line["at"].astimezone(ZoneInfo(problem.TIMEZONE))
        about = line["evidence"].get("candidate") or line["to_version"] or ""
        table.add_row(f"{when:%Y-%m-%d}", line["action"], about, line["reason"])
    Console(file=console.file, width=max(console.width, WIDTH)).print(table)
