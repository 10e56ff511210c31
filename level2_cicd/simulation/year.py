"""`make year`: every policy lives through the same year, side by side, on a simulated clock; then the scoreboard.

Two processes share the work and the fits. A policy that is done is kept, so that `--resume` goes on after a kill; the
managed one goes on at the midnight at which it was.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console

from level1_pipeline import problem, schema
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import start_of
from level2_cicd.simulation import pipelines, scoreboard, scoreboard_page
from level2_cicd.simulation.checkpoint import keep_checkpoint
from level2_cicd.simulation.faults import report, runs
from level2_cicd.simulation.faults.figures import FaultFigures
from level2_cicd.simulation.faults.table import START_WEEK, Planted, PlantedFault
from level2_cicd.simulation.pipelines import UNTIMED
from level2_cicd.simulation.policies import HANDED_OVER_DAYS, Played, calendar
from level2_cicd.simulation.processes import Tell, share_out, tell_as
from level2_cicd.simulation.scoreboard import Scoreboard
from level2_cicd.simulation.story import FAST, apart
from level2_cicd.simulation.world import World
from monitoring.reporting.evidently_snapshot import drifted_share
from monitoring.thresholds import REFERENCE_DAYS, WINDOW_DAYS

QUARTER_WEEKS, LEVEL1_WEEKS = 13, 4
MANUAL_STEPS = 6  # of Level 0, for each model: three notebooks, the file, its place, the callers
DRIFTED = 0.5  # share of the columns: the default of Evidently's preset
ORDER = ("never", "level 0", "level 1", "weekly", "evidently", "level 2")


@dataclass(frozen=True)
class Year:
    """The days, and the home in which every policy has a home of its own."""

    settings: Settings
    first: str
    last: str
    faults_week: int = START_WEEK

    @property
    def faults_begin(self) -> str | None:
        """The Monday on which planted faults begin; None if the year is shorter."""
        mondays = self.world.mondays
        return mondays[self.faults_week] if len(mondays) > self.faults_week else None

    @property
    def checkpoints(self) -> Path:
        """The folder with copies of the home of Level 2, by day."""
        return self.settings.home / "checkpoints"

    def is_lived(self) -> bool:
        """Whether every policy has lived through these days."""
        played = [Played.load(self.settings.home, name) for name in ORDER]
        return all(played) and all(each and len(each.scores) == len(self.world.rows) for each in played)

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
    share_out(year.settings, {name: partial(_job, name, job, year) for name, job in JOBS.items()}, console)
    return scored(year)


def scored(year: Year) -> Scoreboard:
    """The scoreboard of a year that is lived."""
    played = [Played.load(year.settings.home, name) for name in ORDER]
    return scoreboard.score(year.world, [each for each in played if each], year.settings.retraining.training_dollars)


def run_faults(
    year: Year, faults: Sequence[PlantedFault], console: Console, resume: bool = False
) -> list[FaultFigures]:
    """Plant each fault in the year, which is lived, and live through them, two at a time."""
    home = year.settings.home
    if not (year.checkpoints / str(year.faults_begin)).exists():  # the year was lived by an earlier release
        share_out(year.settings, {"checkpoint": partial(_checkpoint_job, year)}, console)
    for fault in faults if not resume else ():
        (home / f"fault {fault.name}.json").unlink(missing_ok=True)
        shutil.rmtree(home / f"fault-{fault.name}", ignore_errors=True)
    share_out(year.settings, {fault.name: partial(_fault_job, fault, year) for fault in faults}, console)
    return [figures for fault in faults if (figures := FaultFigures.load(home, fault.name))]


def _checkpoint_job(year: Year) -> None:
    """Live with Level 2 alone until the faults begin."""
    day, own = str(year.faults_begin), year.home("until-faults")
    eve = str((pd.Timestamp(day) - pd.Timedelta(days=1)).date())
    pipelines.managed(replace(year.world, last=eve), own, tell_as("checkpoint"))
    keep_checkpoint(own.home, year.checkpoints / day)
    shutil.rmtree(own.home)


def _fault_job(fault: PlantedFault, year: Year) -> None:
    home, day = year.settings.home, year.faults_begin
    if FaultFigures.load(home, fault.name) or not day:
        return
    clean, own = (year.settings.changed({"home": home / name}) for name in ("level2", f"fault-{fault.name}"))
    planted, checkpoint = Planted(fault, day), year.checkpoints / day
    runs.live_through(year.world, clean, own, planted, checkpoint, tell_as(fault.name)).save(home)


def _job(name: str, job: Callable[[Year, Tell], list[Played]], year: Year) -> None:
    if all(Played.load(year.settings.home, policy) for policy in MAKES.get(name, (name,))):
        return
    for played in job(year, tell_as(name)):
        played.save(year.settings.home)


def _managed(year: Year, tell: Tell) -> list[Played]:
    own = year.home("level2")

    def keep(day: str) -> None:
        if day == year.faults_begin:
            keep_checkpoint(own.home, year.checkpoints / day)

    return [pipelines.managed(year.world, own, tell, keep)]


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


def tell(board: Scoreboard, year: Year, console: Console, faults: Sequence[FaultFigures] = ()) -> str:
    """Print the tables and what one sees, write the page, and return the last line."""
    scoreboard_page.show(board, console)
    for line in scoreboard_page.lessons(board):
        console.print(f"  {line}")
    if faults:
        report.show(faults, console)
    page = scoreboard_page.write(board, year.settings.home / "scoreboard.html", faults)
    level1, level2 = board.row("level 1"), board.row("level 2")
    assert level1
    assert level2
    figures = f"managed/oracle={level2.over_oracle:.4f} trainings={level2.played.trainings} bad_promotions={level2.bad}"
    return f"{figures} dollars={level2.total:.0f} level1_dollars={level1.total:.0f} | {os.path.relpath(page)}"
