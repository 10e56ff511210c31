"""`make year`: every policy lives through the same year, side by side, on a simulated clock; then the scoreboard.

Two processes share the work and the fits. A policy that is done is kept, so that `--resume` goes on after a kill; the
managed one goes on at the midnight at which it was.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from queue import Empty
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from level1_pipeline import problem, schema
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import start_of
from level2_cicd.simulation import pipelines, scoreboard, scoreboard_page
from level2_cicd.simulation.pipelines import UNTIMED, Tell
from level2_cicd.simulation.policies import HANDED_OVER_DAYS, Played, calendar
from level2_cicd.simulation.scoreboard import Scoreboard
from level2_cicd.simulation.story import FAST, apart
from level2_cicd.simulation.world import World
from monitoring.reporting.evidently_snapshot import drifted_share
from monitoring.thresholds import REFERENCE_DAYS, WINDOW_DAYS

QUARTER_WEEKS, LEVEL1_WEEKS = 13, 4
MANUAL_STEPS = 6  # of Level 0, for each model: three notebooks, the file, its place, the callers
DRIFTED = 0.5  # share of the columns: the default of Evidently's preset
ORDER = ("never", "level 0", "level 1", "weekly", "evidently", "level 2")
WORKERS = 2
Messages = Any  # a queue between processes: the job, what it does now, and the share that is done
_messages: Messages = None  # of this process, where it is one of the workers


@dataclass(frozen=True)
class Year:
    """The days, and the home in which every policy has a home of its own."""

    settings: Settings
    first: str
    last: str

    @property
    def world(self) -> World:
        """What all policies share."""
        return World(self.settings, self.first, self.last)

    def home(self, name: str) -> Settings:
        """The settings of a policy that runs the pipeline."""
        own = self.settings.changed({"home": self.settings.home / name})
        own.home.mkdir(parents=True, exist_ok=True)
        if not (own.home / "cache").exists():
            (self.settings.home / "cache").mkdir(exist_ok=True)
            (own.home / "cache").symlink_to(self.settings.home / "cache")
        return own


def of(settings: Settings, first: str, last: str) -> Year:
    """The year of a user: their rules of rollout, retraining and loop, and the machine's speed without a say."""
    own = apart(settings).changed(FAST | UNTIMED | {"home": settings.home / "year"})
    return Year(own, first, last)


def run(year: Year, console: Console, resume: bool = False) -> Scoreboard:
    """Live through the year with every policy, and score them."""
    if not resume:
        shutil.rmtree(year.settings.home, ignore_errors=True)
    year.settings.home.mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"  # of each process, which begins with this environment
    context = multiprocessing.get_context("spawn")
    messages: Messages = context.Queue()
    with ProcessPoolExecutor(WORKERS, context, _begin, (year.settings, os.getpid(), messages)) as pool:
        _watch({name: pool.submit(_job, name, job, year) for name, job in JOBS.items()}, messages, console)
    played = [Played.load(year.settings.home, name) for name in ORDER]
    return scoreboard.score(year.world, [each for each in played if each], year.settings.retraining.training_dollars)


def _watch(futures: dict[str, Future[None]], messages: Messages, console: Console) -> None:
    """A bar for each job, until all are done; raises what a job raised."""
    columns = (TextColumn("{task.fields[job]:<10}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        tasks = {name: bars.add_task("waits", total=1.0, job=name) for name in futures}
        while not all(future.done() for future in futures.values()):
            if any(future.done() and future.exception() for future in futures.values()):
                break
            try:
                name, message, done = messages.get(timeout=1.0)
                bars.update(tasks[name], description=message, completed=done)
            except Empty:
                continue
        for name, future in futures.items():
            if future.done():
                bars.update(tasks[name], description="done", completed=1.0)
    for future in futures.values():
        if not future.done():
            future.cancel()
    for future in futures.values():
        if future.done() and not future.cancelled():
            future.result()


def _begin(settings: Settings, parent: int, messages: Messages) -> None:
    """Of each process: its output goes into a file, and it ends when the one that began it is gone."""
    global _messages
    _messages = messages
    log = (settings.home / "year.log").open("a")
    os.dup2(log.fileno(), sys.stdout.fileno())
    os.dup2(log.fileno(), sys.stderr.fileno())
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _job(name: str, job: Callable[[Year, Tell], list[Played]], year: Year) -> None:
    if all(Played.load(year.settings.home, policy) for policy in MAKES.get(name, (name,))):
        return
    for played in job(year, lambda message, done: _messages.put((name, message, done))):
        played.save(year.settings.home)


def _managed(year: Year, tell: Tell) -> list[Played]:
    return [pipelines.managed(year.world, year.home("level2"), tell)]


def _level1(year: Year, tell: Tell) -> list[Played]:
    return [pipelines.level1(year.world, year.home("level1"), LEVEL1_WEEKS, tell)]


def _calendars(year: Year, tell: Tell) -> list[Played]:
    """Everything that needs no gate: the models of all Mondays are made first."""
    world = year.world
    mondays = world.mondays
    for number, monday in enumerate(mondays):
        tell(f"model of {monday}", number / len(mondays))
        world.scores(monday)
    alarms = [monday for monday in mondays[1:] if _alarm(year, monday, tell)]
    by_hand = mondays[::QUARTER_WEEKS]
    return [
        calendar(world, "never", mondays[:1]),
        calendar(world, "level 0", by_hand, HANDED_OVER_DAYS, MANUAL_STEPS),
        calendar(world, "weekly", mondays),
        calendar(world, "evidently", [mondays[0], *alarms]),
    ]


def _alarm(year: Year, monday: str, tell: Tell) -> bool:
    """Whether Evidently's default preset says on a Monday that the newest week drifted from the four weeks before it."""
    tell(f"Evidently on {monday}", 1.0)
    now = start_of(monday)
    start = now - pd.Timedelta(days=WINDOW_DAYS)
    rows = source.load(year.settings, now)
    time = rows[problem.EVENT_TIME]
    inputs = rows[schema.names()].astype(schema.dtypes())
    current = inputs[time >= start]
    reference = inputs[(time >= start - pd.Timedelta(days=REFERENCE_DAYS)) & (time < start)]
    return drifted_share(current, reference) >= DRIFTED


JOBS = {"level 2": _managed, "the others": _calendars, "level 1": _level1}
MAKES = {"the others": ("never", "level 0", "weekly", "evidently")}  # policies of a job that makes more than its own


def tell(board: Scoreboard, year: Year, console: Console) -> str:
    """Print the table and what one sees, write the page, and return the last line."""
    scoreboard_page.show(board, console)
    for line in scoreboard_page.lessons(board):
        console.print(f"  {line}")
    page = scoreboard_page.write(board, year.settings.home / "scoreboard.html")
    level1, level2 = board.row("level 1"), board.row("level 2")
    assert level1
    assert level2
    figures = f"managed/oracle={level2.over_oracle:.4f} trainings={level2.played.trainings} bad_promotions={level2.bad}"
    return f"{figures} dollars={level2.total:.0f} level1_dollars={level1.total:.0f} | {os.path.relpath(page)}"
