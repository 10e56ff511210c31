"""A home lives by one clock, and a command with another one is refused in words before it does anything."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.cli import main as level1
from level1_pipeline.errors import ClockRefused
from level1_pipeline.schema.task import task
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, leases
from level1_pipeline.store.audit import Change, ClockSet, Promoted
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep
from level1_pipeline.store.tables import outcomes, predictions
from level2_cicd.cli import main as level2
from level2_cicd.control_loop import situation
from monitoring import history
from monitoring.alerting import tickets
from monitoring.cli import main as monitoring
from serving.__main__ import main as serving
from tests.support.monitoring_runs import CHANGE, END, NOTHING, WEEK, a_run
from tests.support.prediction_log import log_predictions

KINDS = {"wall": "wall", "replay": "replay", "fixed": "2013-07-08T12:00:00-04:00"}


def filled(home: Settings, store: Store) -> None:
    """Days of 2013, as a replay leaves them."""
    store.set_replay_time(END)
    rows = [
        {"id": f"{n}", "entity_id": "e", "version": "1", "at": END - timedelta(hours=n), "record": {}, "score": 0.5}
        for n in range(100)
    ]
    log_predictions(store, rows)
    keep(store, [Reported(f"{n}", 1, END - timedelta(hours=n)) for n in range(100)], END)


def rows(store: Store) -> tuple[int, ...]:
    with store.engine.connect() as connection:
        count = sa.func.count()
        return tuple(connection.scalar(sa.select(count).select_from(table)) or 0 for table in (predictions, outcomes))


@pytest.mark.evidence("a command lives by another clock")
@pytest.mark.parametrize(("lives_by", "given"), list(itertools.permutations(KINDS, 2)))
def test_another_clock_than_that_of_the_home_is_refused_and_says_what_to_set(
    home: Settings, store: Store, lives_by: str, given: str
) -> None:
    clock.live_by(home.changed({"clock": KINDS[lives_by]}), store)
    other = home.changed({"clock": KINDS[given]})
    for ask in (lambda: clock.now(other), lambda: clock.live_by(other, store)):
        with pytest.raises(
            ClockRefused, match=rf"lives by the clock '{lives_by}', and this command by '{given}'.*MLOPS_"
        ):
            ask()
    clock.change(other, store, given, "on purpose")
    clock.live_by(other, store)
    line = store.audit_log(problem.NAME)[-1]
    assert (line.action, line.reason) == (ClockSet(given), "on purpose")


def test_a_home_without_anything_takes_any_clock_and_another_fixed_time_is_the_same_clock(
    home: Settings, store: Store
) -> None:
    for kind in ("wall", "fixed"):
        clock.now(home.changed({"clock": KINDS[kind]}))
    assert clock.remembered(store) is None
    clock.live_by(home.changed({"clock": KINDS["fixed"]}), store)
    assert clock.now(home.changed({"clock": "2013-09-01T00:00:00Z"})) == datetime(2013, 9, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (monitoring, ["run", "--no-snapshot"]),
        (monitoring, ["retain"]),
        (monitoring, ["retain", "--confirm"]),
        (monitoring, ["forget", "--entity", "e"]),
        (monitoring, ["outcomes", "outcomes.csv"]),
        (level2, ["operate", "--once"]),
        (level2, ["trigger", "on demand", "--reason", "no"]),
        (level1, ["rollback", "--reason", "no"]),
        (level1, ["rollback", "--to", "1", "--reason", "no"]),
        (level1, ["watch", "--once"]),
        (level1, ["watch"]),
        (level1, ["worker"]),
        (level1, ["train", "--as-of", "2013-04-01"]),
        (level1, ["repair", "2"]),
        (level2, ["operate"]),
        (serving, ["run"]),
        (serving, ["route", "--mode", "none", "--reason", "no"]),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else part.__module__,
)
def test_a_replayed_home_loses_nothing_to_a_forgotten_variable(
    home: Settings,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: object,
    line: list[str],
) -> None:
    filled(home, store)
    with leases.hold(store, leases.promotion(problem.NAME), 30) as lease:
        store.change_route(problem.NAME, lease, Change("t", Promoted("champion"), "a test", END), champion="2")
    before, lines = rows(store), len(store.audit_log(problem.NAME))
    (home.home / "outcomes.csv").write_text("id,value\n1,1\n")
    monkeypatch.chdir(home.home)
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    code = command(line)  # type: ignore[operator]
    printed = capsys.readouterr()
    error = printed.err + printed.out  # a watcher says it, and would look again
    assert (code, "lives by the clock 'replay'" in error) == (1, True), error
    assert (rows(store), len(store.audit_log(problem.NAME))) == (before, lines)


NO_LABEL = "2" if problem.TASK == "classification" else "none"
LABEL = str(task().as_json(1.0))


@pytest.mark.parametrize(("value", "remembers"), [(NO_LABEL, None), (LABEL, "wall")])
def test_a_home_takes_the_clock_of_the_first_outcomes_that_are_kept(
    home: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, remembers: str | None
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    (file := tmp_path / "some.csv").write_text(f"id,value\n1,{value}\n")
    assert monitoring(["outcomes", str(tmp_path / "nowhere.csv")]) != 0
    assert clock.remembered(store) is None
    monitoring(["outcomes", str(file)])
    assert clock.remembered(store) == remembers


def test_a_cycle_that_finds_nothing_to_keep_leaves_the_clock_open(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    assert level2(["operate", "--once"]) == 0
    assert clock.remembered(store) is None


def test_reading_commands_need_no_clock_and_the_clock_is_shown_and_changed(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(home, store)
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    assert [level1(["history"]), monitoring(["tickets"]), level1(["clock"])] == [0, 0, 0]
    assert "the home lives by: replay" in capsys.readouterr().out
    assert level1(["clock", "wall", "--reason", "the replay is over"]) == 0
    assert "the home lives by: wall" in capsys.readouterr().out


@pytest.mark.evidence("a command lives by another clock")
def test_a_monitoring_run_whose_window_ends_in_the_future_is_ignored_until_then(home: Settings, store: Store) -> None:
    """A clock that was wrong for one run must not keep the loop from its work until that date."""
    real, future = a_run(CHANGE), a_run(CHANGE, weeks=30)
    for run in (real, future):
        history.record(store, run)
    assert history.newest(store, END) == real
    assert history.newest(store, END + WEEK) == real
    assert situation.read(store, END).newest == real
    assert history.newest(store, END + 30 * WEEK) == future


def test_tickets_are_followed_although_a_wrong_clock_has_seen_a_later_window(store: Store) -> None:
    assert [event.event for event in tickets.follow(store, a_run(CHANGE, weeks=30))] == ["opened"]
    assert [event.event for event in tickets.follow(store, a_run(NOTHING))] == ["closed"]
