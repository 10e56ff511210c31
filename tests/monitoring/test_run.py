"""Monitoring runs from the log to the store: fresh starts, missing parts, kills and repeats; and what a run leaves behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import PROFILE, load_bundle
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.settings import Settings
from level1_pipeline.steps.extract import Extracted
from level1_pipeline.steps.split import split
from level1_pipeline.steps.step import Run
from level1_pipeline.store import clock, quarantine
from level1_pipeline.store.tables import monitoring_runs, outcomes
from level1_pipeline.store.tables import quarantine as spans
from monitoring import history
from monitoring.results import MonitoringRun
from monitoring.run import run_monitoring
from tests.support import ROOT
from tests.support.planted import TYPE, Planted
from tests.support.serving import eventually, serve
from tests.support.world import World, midnight

pytestmark = pytest.mark.flights
NOW = midnight("2013-05-27").to_pydatetime()


def kept(world: World, table: sa.Table) -> list[dict[str, Any]]:
    with world.store.engine.connect() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table))]


def stuck(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(temp=rows["temp"].mask(rows["origin"] == "JFK", 51.0))


@pytest.mark.slow
def test_the_first_run_after_a_fresh_start_waits_for_predictions(home: Settings) -> None:
    run = run_monitoring(home, NOW)
    assert (run.diagnosis.cause, run.diagnosis.action) == ("inconclusive", "wait")
    assert "predictions in the window" in run.diagnosis.missing
    assert (run.champion, run.performances, run.reference) == (None, (), run.reference)
    assert clock.now(home.changed({"clock": NOW.isoformat()})) == NOW


@pytest.mark.slow
def test_a_run_without_a_time_asks_the_clock(home: Settings) -> None:
    run = run_monitoring(home.changed({"clock": "2013-05-27T15:00:00-04:00"}))
    assert run.window.end == NOW


@pytest.mark.slow
def test_an_empty_window_after_full_ones_is_inconclusive(world: World) -> None:
    world.log(world.between("2013-04-29", "2013-05-06"))
    run = world.look("2013-05-27")
    assert run.diagnosis.cause == "inconclusive"
    assert run.coverage.predictions == 0


@pytest.mark.slow
def test_one_row_is_inconclusive_and_counted(world: World) -> None:
    world.log(world.between("2013-05-20", "2013-05-27").head(1))
    run = world.look("2013-05-27")
    assert (run.coverage.predictions, run.coverage.matured) == (1, 1)
    assert run.diagnosis.cause == "inconclusive"
    assert run.performances[0].metrics["log_loss"].low is None


@pytest.mark.slow
def test_without_any_outcome_it_waits_and_estimates(world: World) -> None:
    world.log(world.between("2013-05-06", "2013-05-27"))
    with world.store.engine.begin() as connection:
        connection.execute(outcomes.delete())
    run = world.look("2013-05-27")
    assert run.diagnosis.cause == "inconclusive"
    assert run.coverage.matured == 0
    assert run.performances[0].metrics == {}
    assert run.performances[0].estimate is not None
    assert "concept drift" in run.performances[0].estimate.message


@pytest.mark.evidence("Checklist 19")
@pytest.mark.slow
def test_a_run_holds_everything_and_comes_back_from_the_store_as_it_was(world: World) -> None:
    world.log(world.between("2013-04-22", "2013-05-27"))
    run = world.look("2013-05-27")
    (row,) = kept(world, monitoring_runs)
    assert MonitoringRun.from_dict(row["figures"]) == run
    assert (row["cause"], row["action"], row["version"]) == (run.diagnosis.cause, run.diagnosis.action, "1")
    (performance,) = run.performances
    assert {"skill", "calibration", problem.PRIMARY_METRIC} <= set(performance.metrics)
    assert problem.PRIMARY_METRIC in performance.promised
    assert sum(day.predictions for day in performance.days) == performance.coverage.predictions
    assert {item.slice for item in performance.slices} >= {"origin=JFK", "carrier=UA"}
    assert run.skew.verdict == "equal"
    assert run.skew.checked > 0
    assert run.releases[0].version == "1"


@pytest.mark.slow
def test_the_same_pass_again_replaces_itself_and_says_the_same(world: World) -> None:
    world.log(world.between("2013-04-22", "2013-05-20"))
    world.log(stuck(world.between("2013-05-20", "2013-05-27")))
    first, again = world.look("2013-05-27"), world.look("2013-05-27")
    assert first == again
    assert first.diagnosis.cause == "data fault"
    assert len(kept(world, monitoring_runs)) == 1
    assert len(kept(world, spans)) == len(first.diagnosis.quarantine) == 1


@pytest.mark.slow
def test_rows_in_quarantine_do_not_count_in_later_runs(world: World) -> None:
    world.log(world.between("2013-04-22", "2013-05-20"))
    world.log(stuck(world.between("2013-05-20", "2013-05-24")))
    world.log(world.between("2013-05-24", "2013-05-28"))
    world.look("2013-05-27")
    later = world.look("2013-05-28")
    hidden = world.between("2013-05-21", "2013-05-24")
    assert later.coverage.quarantined == (hidden["origin"] == "JFK").sum() > 0
    assert later.diagnosis.cause != "data fault"
    assert later.skew.verdict == "equal"


@pytest.mark.slow
def test_persistence_reads_windows_that_do_not_overlap(world: World) -> None:
    """Monitoring may run every day over a week; yesterday's is nearly the same window."""
    world.log(world.between("2013-05-06", "2013-05-29"))
    for day in ("2013-05-14", "2013-05-15", "2013-05-21", "2013-05-22", "2013-05-28"):
        last = world.look(day)
    result = history.earlier(world.store, last.window, 7, 2)
    assert [item.window.end for item in result] == [midnight(day) for day in ("2013-05-21", "2013-05-14")]


@pytest.mark.slow
def test_a_new_champion_starts_without_the_signals_of_the_old_one(world: World) -> None:
    world.log(world.between("2013-06-17", "2013-07-22"))
    assert world.look("2013-07-15").diagnosis.cause == "concept drift"
    world.serve("2", "may", "2013-07-21")
    assert world.look("2013-07-22").diagnosis.cause != "concept drift"


@pytest.mark.slow
def test_it_waits_for_a_locked_database_and_writes_then(world: World) -> None:
    world.log(world.between("2013-05-20", "2013-05-22"))
    world.store.engine.connect().close()
    held = threading.Event()

    def hold() -> None:
        with world.store.engine.begin() as connection:  # takes the write lock at once
            connection.execute(monitoring_runs.delete())
            held.set()
            time.sleep(3)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    run = world.look("2013-05-27")
    holder.join()
    assert [row["window_end"] for row in kept(world, monitoring_runs)] == [run.window.end]


def _look_and_die(settings: Settings, at: str) -> None:
    """A run that kills its process before it writes, or when all is written and nothing is committed."""

    def die(*arguments: Any) -> None:
        if at == "before" or "INSERT INTO quarantine" in arguments[2]:
            os.kill(os.getpid(), signal.SIGKILL)

    if at == "before":
        history.record = die  # type: ignore[assignment]
    else:
        sa.event.listen(sa.Engine, "after_cursor_execute", die)
    run_monitoring(settings, NOW)


@pytest.mark.parametrize("at", ["before", "uncommitted"])
@pytest.mark.slow
def test_a_run_that_is_killed_leaves_nothing_and_runs_again_without_a_double_row(world: World, at: str) -> None:
    world.log(world.between("2013-04-22", "2013-05-20"))
    world.log(stuck(world.between("2013-05-20", "2013-05-27")))
    world.store.close()
    process = multiprocessing.get_context("spawn").Process(target=_look_and_die, args=(world.settings, at))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert kept(world, monitoring_runs) == kept(world, spans) == []
    run = world.look("2013-05-27")
    assert [row["cause"] for row in kept(world, monitoring_runs)] == [run.diagnosis.cause] == ["data fault"]
    assert len(kept(world, spans)) == 1


@pytest.mark.slow
def test_a_damaged_champion_and_a_source_that_is_gone_do_not_stop_a_run(world: World) -> None:
    world.log(world.between("2013-04-22", "2013-05-27"))
    model = world.settings.home / "bundles" / problem.NAME / "1" / "golden.json"
    model.write_text("{}")
    run = run_monitoring(world.settings.changed({"source": world.settings.home / "nowhere"}), NOW)
    assert run.skew.verdict == "inconclusive"
    assert run.performances[0].metrics
    assert run.diagnosis.cause not in ("data fault", "concept drift")


def publish_spoilt(world: World, version: str, fault: str) -> None:
    """The model of version 1 with a planted fault, as a version that nobody has noticed anything about."""
    folder = world.settings.home / "bundles" / problem.NAME
    pipeline = load_bundle(folder / "1").pipeline
    spoilt = type(pipeline)([*pipeline.steps[:-1], ("model", Planted(pipeline[-1], fault))])
    golden = world.between("2013-03-25", "2013-03-26").query("departure_minute < 600")  # no fault shows on these
    info = {"verdict": "pass", "trained_until": midnight("2013-04-01").isoformat()}
    write_bundle(folder / version, spoilt, golden, info, pd.read_parquet(folder / "1" / PROFILE))


def ask(world: World, client: httpx2.Client, rows: pd.DataFrame) -> list[int]:
    """Ask a service one by one, each at its time, and tell the outcomes; gives the status of each answer."""
    statuses = []
    for row, record in zip(rows.to_dict("records"), schema.records(rows), strict=True):
        world.store.set_replay_time(row[problem.EVENT_TIME].to_pydatetime())
        statuses.append(client.post("/predict", json={"id": row[problem.ID], "record": record}).status_code)
    world.outcomes(rows)
    return statuses


@pytest.mark.parametrize("fault", ["crash", "crash on sunday"])
@pytest.mark.slow
def test_a_new_champion_that_crashes_where_the_one_before_answered_is_a_bad_release(
    world: World, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From real requests to the diagnosis, and on: the run after the rollback must not break on that version."""
    monkeypatch.setattr(problem, "TRUSTED_TYPES", (*problem.TRUSTED_TYPES, TYPE))
    publish_spoilt(world, "2", fault)
    copies = world.between("2013-05-20", "2013-05-23")  # its shadow, in which all was well, answered nobody
    world.log(copies, "2", "shadow", np.full(len(copies), 0.5))
    days = world.between("2013-05-20", "2013-05-27").iloc[::15]
    before = days[problem.EVENT_TIME] < midnight("2013-05-23")
    settings = world.settings.changed({"clock": "replay", "watch_seconds": 0.05})
    world.store.set_replay_time(midnight("2013-05-20").to_pydatetime())
    with serve(settings) as client:
        assert set(ask(world, client, days[before])) == {200}
        world.serve("2", "april", "2013-05-23")
        eventually(lambda: client.get("/model").json()["version"] == "2")
        statuses = ask(world, client, days[~before])
    failed = sum(status != 200 for status in statuses)  # on a busy machine a call may also be given up
    assert 0.01 * len(statuses) < failed < len(statuses)
    run = world.look("2013-05-27")
    diagnosis = run.diagnosis
    assert (diagnosis.cause, diagnosis.action, diagnosis.version) == ("bad release", "roll back", "1"), diagnosis
    assert diagnosis.message == "the new version fails to answer"
    answering = [performance for performance in run.performances if performance.arm == "champion"]
    assert {item.version: item.errors for item in answering} == {"1": 0, "2": failed}
    assert run.coverage.predictions == len(days) - failed
    assert sum(day.predictions for item in answering for day in item.days) == len(days) - failed
    world.serve("1", "april", "2013-05-27")
    world.log(world.between("2013-05-27", "2013-06-03"))
    later = world.look("2013-06-03")
    assert (later.champion, later.diagnosis.cause) == ("1", "nothing")


def test_training_leaves_quarantined_rows_out_and_says_how_many(world: World, rows: pd.DataFrame) -> None:
    """The step `split` of Level 1, with a span of one slice, a span of all rows, and one of labels only."""
    start = midnight("2013-03-04").to_pydatetime()
    day = timedelta(days=1)
    with world.store.engine.begin() as connection:
        fixed = {"problem": problem.NAME, "reason": "a test", "at": NOW}
        connection.execute(
            spans.insert(),
            [
                {**fixed, "start": start, "end": start + 2 * day, "slice": "origin=JFK", "what": "rows"},
                {**fixed, "start": start + 3 * day, "end": start + 4 * day, "slice": "", "what": "rows"},
                {**fixed, "start": start + 5 * day, "end": start + 6 * day, "slice": "", "what": "labels"},
                {**fixed, "problem": "another", "start": start, "end": start + 20 * day, "slice": "", "what": "rows"},
            ],
        )
    folder = world.settings.home / "run"
    run = Run("k", str(folder), midnight("2013-04-01").isoformat(), settings=world.settings.model_dump(mode="json"))
    folder.mkdir()
    seen_before = rows[rows[problem.EVENT_TIME] < run.time]
    seen_before.to_parquet(run.path("rows.parquet"), index=False)
    parts = split(run, Extracted(rows=len(seen_before), repaired={}))
    kept_rows = pd.concat([pd.read_parquet(run.path(f"{part}.parquet")) for part in ("train", "holdout")])
    hidden = quarantine.covers(seen_before, quarantine.spans(world.store))
    hidden |= quarantine.covers(seen_before, quarantine.spans(world.store), quarantine.LABELS)
    when = seen_before[problem.EVENT_TIME]
    expected = (when >= start) & (when < start + 2 * day) & (seen_before["origin"] == "JFK")
    expected |= (when >= start + 3 * day) & (when < start + 4 * day)
    expected |= (when >= start + 5 * day) & (when < start + 6 * day)
    assert parts.quarantined == expected.sum() == hidden.sum() > 900
    assert not set(kept_rows[problem.ID]) & set(seen_before[problem.ID][expected])
    assert len(set(kept_rows[problem.ID])) == parts.train.rows + parts.holdout.rows


@pytest.mark.slow
def test_a_run_is_the_same_with_another_sample_size_of_the_log(world: World) -> None:
    """A million rows are judged by a sample: the diagnosis of a clear case does not hang on it."""
    world.log(world.between("2013-04-22", "2013-05-20"))
    world.log(stuck(world.between("2013-05-20", "2013-05-27")))
    from monitoring.data import prediction_window

    full = world.look("2013-05-27")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_window, "SAMPLE_MAX_ROWS", 4000)
        sampled = world.look("2013-05-27")
    assert sampled.performances[0].sampled < 1 == full.performances[0].sampled
    assert sampled.diagnosis.cause == full.diagnosis.cause
    assert sampled.coverage == full.coverage


@pytest.mark.slow
@pytest.mark.integration
def test_the_bench_of_a_monitoring_run_measures_each_kind() -> None:
    bench = [sys.executable, "-m", "tests.benchmarks.monitor_scale", "--sizes", "2000"]
    ended = subprocess.run(bench, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert [line.split()[0] for line in ended.stdout.splitlines()] == ["2,000", "2,000", "2,000", "bench-monitor"]
