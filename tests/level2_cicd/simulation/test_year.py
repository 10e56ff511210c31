"""The simulated year: what is counted, that it is the same each time and over HTTP, and the page that people change."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.schema.task import task
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.simulation import scoreboard, scoreboard_page, year
from level2_cicd.simulation.faults import report
from level2_cicd.simulation.faults.figures import FaultFigures
from level2_cicd.simulation.policies import Played, calendar
from level2_cicd.simulation.world import World
from tests.support import ROOT

CHROMIUM = shutil.which("chromium")
WEEKS, ROWS = 6, 400  # of a planted world: rows of each day
classification = pytest.mark.skipif(problem.TASK != "classification", reason="its planted scores are probabilities")


@dataclass(frozen=True)
class Planted(World):
    """A world whose models lose `a_week` more for each week of their age."""

    a_week: float = 0.02

    @cached_property
    def labels(self) -> np.ndarray:
        y = (np.random.default_rng(0).random(len(self.day)) < 0.25).astype(float)
        return np.where(np.arange(len(y)) % 50 == 0, np.nan, y)

    @cached_property
    def day(self) -> np.ndarray:
        return np.repeat(np.arange(7 * WEEKS), ROWS)

    @cached_property
    def rows(self) -> pd.DataFrame:
        return pd.DataFrame(index=range(len(self.day)))

    def scores(self, monday: str) -> np.ndarray:
        age = (self.day - (pd.Timestamp(monday) - pd.Timestamp(self.first)).days) / 7
        right = np.exp(-(0.2 + self.a_week * age))
        return np.where(self.since(monday), np.where(self.labels == 1, right, 1 - right), np.nan)

    def compute(self, monday: str) -> int:
        return 1000


@pytest.fixture
def world(home: Settings) -> Planted:
    return Planted(home, "2013-04-01", "2013-05-12")


def loss(world: World, played: Played) -> float:
    known = ~np.isnan(world.labels)
    return float(task().losses(world.labels[known], played.scores[known]).mean())


@classification
def test_a_calendar_serves_each_model_from_its_day_on_and_a_fresher_one_costs_less(world: Planted) -> None:
    mondays = world.mondays
    never, weekly = calendar(world, "never", mondays[:1]), calendar(world, "weekly", mondays)
    late = calendar(world, "late", mondays, delay_days=3, manual_steps=2)
    assert loss(world, weekly) < loss(world, late) < loss(world, never)
    assert loss(world, never) == pytest.approx(0.2 + world.a_week * (7 * WEEKS - 1) / 14, rel=0.01)
    assert (weekly.trainings, weekly.compute, late.manual_steps) == (WEEKS - 1, 1000 * (WEEKS - 1), 2 * (WEEKS - 1))
    assert [promotion.day for promotion in late.promotions][:2] == ["2013-04-11", "2013-04-18"]


@classification
@pytest.mark.parametrize(("a_week", "bad"), [(0.02, 0), (0.0, 0), (-0.02, WEEKS - 1)])
def test_a_promotion_is_bad_when_its_predecessor_would_surely_have_done_better(
    world: Planted, a_week: float, bad: int
) -> None:
    weekly = calendar(replace(world, a_week=a_week), "weekly", world.mondays)
    assert sum(promotion.bad for promotion in weekly.promotions) == bad


@classification
def test_nobody_beats_the_oracle_and_the_fewest_dollars_follow_from_the_prices(world: Planted) -> None:
    played = [calendar(world, name, world.mondays[:n]) for name, n in (("never", 1), ("level 1", 3), ("level 2", 6))]
    cheap, dear = (scoreboard.score(world, played, price) for price in (0.0, 1e6))
    assert min(row.over_oracle for row in cheap.rows) >= 1.0 - 1e-12
    assert [row.played.name for row in (cheap.cheapest, dear.cheapest)][1] == "never"
    assert cheap.cheapest.total <= min(row.total for row in cheap.rows)
    assert all(len(row.weekly) == WEEKS for row in cheap.rows)


@classification
def test_what_was_played_is_read_again_as_it_was(world: Planted, tmp_path: Path) -> None:
    played = calendar(world, "weekly", world.mondays)
    assert Played.load(tmp_path, "weekly") is None
    played.save(tmp_path)
    again = Played.load(tmp_path, "weekly")
    assert again is not None
    assert again == played
    np.testing.assert_array_equal(again.scores, played.scores)


@classification
def test_the_page_shows_each_planted_fault_and_where_a_goal_is_missed(world: Planted, tmp_path: Path) -> None:
    board = scoreboard.score(world, [calendar(world, "never", world.mondays[:1])], 1.0)
    fault = FaultFigures(
        "stuck", "it repeats <itself>", "data fault", "2013-06-03", 14, None, "", 3, 129, 0, (), 0, 1.0
    )
    without, page = (
        scoreboard_page.write(board, tmp_path / "scoreboard.html", faults).read_text() for faults in ((), [fault])
    )
    assert "Planted faults" not in without
    assert "stuck: no alarm named it." in page
    assert "it repeats &lt;itself&gt;" in page
    assert len(re.findall("<th>", page)) == len(re.findall("<th>", without)) + len(report.COLUMNS)


@classification
@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium: install Debian's package `chromium`")
def test_who_changes_traffic_or_prices_on_the_page_sees_the_answer_turn(world: Planted, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    played = [calendar(world, name, world.mondays[:n]) for name, n in (("never", 1), ("level 1", 3), ("level 2", 6))]
    page_file = scoreboard_page.write(scoreboard.score(world, played, 1.0), tmp_path / "scoreboard.html")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        failures: list[Any] = []
        page.on("pageerror", lambda error: failures.append(error))
        page.goto(page_file.as_uri())
        before = page.inner_text("#answer")
        page.fill("#training", "1000000")
        after = page.inner_text("#answer")
        lines = page.locator("#totals tbody tr").count()
        browser.close()
    assert (before, after) == ("The fewest dollars: level 1.", "The fewest dollars: never.")
    assert (lines, failures) == (3, [])


# ---- the real loop, in process

MANAGED = """
import sys
from level1_pipeline.settings import Settings
from level2_cicd.simulation import pipelines, year
lived = year.of(Settings(), "2013-04-01", sys.argv[1])
pipelines.managed(lived.world, lived.home("level2"), lambda *_: None).save(lived.settings.home)
"""


def _live(home: Path, cache: Path, last: str = "2013-04-13", code: str = MANAGED) -> subprocess.Popen[bytes]:
    """The managed policy from 1 April on, as a process."""
    (home / "year").mkdir(parents=True, exist_ok=True)
    if not (home / "year" / "cache").exists():
        (home / "year" / "cache").symlink_to(cache)
    given = os.environ | {"MLOPS_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code, last], env=given, cwd=home)


def _said(home: Path) -> list[str]:
    """The lines of the audit log with their days."""
    store = Store(f"sqlite:///{home / 'year' / 'level2' / 'operations.db'}")
    log = [f"{line.at.isoformat()} {line.text} {line.to_version}" for line in store.audit_log(problem.NAME)]
    store.close()
    return log


def _year(home: Path, cache: Path, *options: str) -> subprocess.Popen[str]:
    """The command of `make year`, over the first weeks."""
    (home / "year").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "level2_cicd", "year", "--until", "2013-04-14", *options]
    given = os.environ | {"MLOPS_HOME": str(home), "MLOPS_SOURCE": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=given, cwd=home, stdout=subprocess.PIPE, text=True)


@pytest.mark.flights
@pytest.mark.slow
def test_a_year_that_is_killed_and_resumed_gives_the_same_numbers_to_the_last_digit(
    tmp_path: Path, rows: pd.DataFrame, cache: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    lines = [_year(whole, cache).communicate(timeout=500)[0].splitlines()[-1]]
    process, store = _year(killed, cache), killed / "year" / "level2" / "operations.db"
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None and not _reached(store, "2013-04-12"):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "year" / "level 2.json").exists(), "it was killed too late"
    time.sleep(3)  # its workers see that it is gone, and end
    lines.append(_year(killed, cache, "--resume").communicate(timeout=500)[0].splitlines()[-1])
    assert re.match(rf"year \| {problem.NAME} \| managed/oracle=1\.\d+ trainings=1 bad_promotions=0 dollars=", lines[0])
    assert lines[0] == lines[1]
    for policy in year.ORDER:
        one, other = (np.load(home / "year" / f"{policy}.npy") for home in (whole, killed))
        np.testing.assert_array_equal(one, other)
        assert not np.isnan(one).any(), policy
        counted = [json.loads((home / "year" / f"{policy}.json").read_text()) for home in (whole, killed)]
        assert len({(each["trainings"], each["compute"], str(each["promotions"])) for each in counted}) == 1
    assert _said(whole) == _said(killed)
    assert (whole / "year" / "scoreboard.html").read_text() == (killed / "year" / "scoreboard.html").read_text()


OVER_HTTP = """
import sys, time
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.control_loop.operate import Operator
from level2_cicd.simulation import pipelines, replay, year
lived = year.of(Settings(), "2013-04-01", sys.argv[1])
own = lived.home("level2")
pipelines.first_champion(own, lived.first)
with replay.service(own) as url:
    traffic = replay.Traffic(url)
    for _ in replay.live(own, traffic, lived.first, lived.last, None):
        time.sleep(1.0)
        Operator(own, pipelines.train_order).cycle()
sys.exit(bool(traffic.failed))
"""


@pytest.mark.flights
@pytest.mark.slow
def test_a_month_over_http_gives_the_decisions_and_the_scores_of_the_month_in_process(
    tmp_path: Path, rows: pd.DataFrame, cache: Path
) -> None:
    one, other = tmp_path / "in process", tmp_path / "over http"
    both = [_live(one, cache, "2013-04-28"), _live(other, cache, "2013-04-28", OVER_HTTP)]
    assert [process.wait(800) for process in both] == [0, 0]
    assert _said(one) == _said(other)
    assert "rollout: champion" in "".join(_said(one)), "a rollout belongs to the month"
    asked = "SELECT id, arm, version, score FROM predictions WHERE arm != 'shadow' ORDER BY id, arm"
    answers = []
    for home in (one, other):
        store = Store(f"sqlite:///{home / 'year' / 'level2' / 'operations.db'}")
        with store.engine.connect() as connection:
            answers.append(connection.exec_driver_sql(asked).all())
        store.close()
    assert len(answers[0]) > 20_000
    assert answers[0] == answers[1]


def _reached(store: Path, day: str) -> bool:
    if not store.exists():
        return False
    opened = Store(f"sqlite:///{store}")
    try:
        return opened.replay_time() >= pd.Timestamp(day, tz=problem.TIMEZONE)
    except Exception:  # no clock yet
        return False
    finally:
        opened.close()
