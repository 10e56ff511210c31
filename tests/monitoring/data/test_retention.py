"""Deleted means gone: from tables, free pages, write-ahead log, reports and snapshots; and the others stay."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.errors import DeletionRefused, LeaseHeld
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep
from level1_pipeline.store.tables import monitoring_runs, outcomes, predictions, quarantine
from monitoring import history
from monitoring.alerting import tickets
from monitoring.data import forgetting, retention
from monitoring.reporting import evidently_snapshot, html_report, prometheus
from monitoring.results import Skew
from tests.serving.conftest import both
from tests.support.monitoring_runs import END, FAULT, WEEK, a_run
from tests.support.prediction_log import log_predictions
from tests.support.serving import opened

__all__ = ["both"]  # a fixture
SECRET = "person-4711"
KEPT = f"training_data/{problem.NAME}/digest.parquet"
NOW = END + timedelta(hours=3)


def log(store: Store, entities: dict[str, int], at: datetime = END - WEEK / 2, record: Any = None) -> list[str]:
    """Log predictions with outcomes for entities, `count` each, one shadowed; returns the ids."""
    lines: list[dict[str, Any]] = [
        {
            "id": f"case-of-{entity}-{n}",
            "arm": arm,
            "entity_id": entity,
            "at": at,
            "recorded_at": NOW,
            "record": record or {"note": f"raw row of {entity} number {n}"},
            "score": 0.5,
        }
        for entity, count in entities.items()
        for n in range(count)
        for arm in ("champion", "shadow")[: 2 if n == 0 else 1]
    ]
    log_predictions(store, lines)
    ids = sorted({line["id"] for line in lines})
    keep(store, [Reported(name, 1, at) for name in ids], NOW)
    return ids


def counts(store: Store) -> tuple[int, int]:
    with store.engine.begin() as connection:
        return tuple(
            connection.scalar(sa.select(sa.func.count()).select_from(item)) for item in (predictions, outcomes)
        )  # type: ignore[return-value]


def holding(home: Path, message: str) -> list[str]:
    """Files under the home that hold these bytes."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path.name for path in files if message.encode() in path.read_bytes()]


def everything(settings: Settings, store: Store) -> None:
    """All that a run leaves, with the name planted where words could carry it."""
    run = a_run(FAULT, skew=Skew("different", 9, 1, (f"case-of-{SECRET}-1: temp 40 became 4",), f"see {SECRET}"))
    history.record(store, run)
    with store.engine.begin() as connection:
        span = {
            "problem": problem.NAME,
            "start": END - WEEK,
            "end": END,
            "slice": "",
            "reason": f"of {SECRET}",
            "at": END,
        }
        connection.execute(quarantine.insert().values(span))
    tickets.follow(store, run)
    html_report.write(settings, store, run, tickets.open_tickets(store))
    prometheus.write(settings, run, 1)
    for name in ("cache/rows.parquet", f"runs/{problem.NAME}/a/extract.parquet", KEPT, "reports/monitor/notes.html"):
        (settings.home / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.home / name).write_text(f"the row of {SECRET} it is")


@pytest.mark.evidence("Data 5")
@pytest.mark.slow
def test_a_forgotten_entity_is_in_no_file_any_more_and_the_others_are_complete(home: Settings, store: Store) -> None:
    log(store, {SECRET: 40, "person-47110": 60, "someone": 60})
    everything(home, store)
    assert holding(home.home, f"case-of-{SECRET}-")
    result = forgetting.forget(home, store, SECRET)
    assert (result.predictions, result.outcomes) == (41, 40)
    assert result.files == ("reports/monitor/notes.html",)
    assert result.struck == 2  # the run and the quarantine; the ticket and the report never held the name
    for message in (f"case-of-{SECRET}-", f"raw row of {SECRET} ", f"see {SECRET}", f"of {SECRET} it is", f"{SECRET}:"):
        assert holding(home.home, message) == [], message
    assert counts(store) == (61 + 61, 120)
    with store.engine.begin() as connection:
        figures = connection.scalars(sa.select(monitoring_runs.c.figures)).one()
    assert figures["skew"]["examples"] == ["(forgotten): temp 40 became 4"]
    store.close()


def test_the_bytes_would_be_found_if_they_were_only_deleted(home: Settings, store: Store) -> None:
    ids = log(store, {SECRET: 40, "someone": 4})
    with store.engine.begin() as connection:
        connection.execute(predictions.delete().where(predictions.c.entity_id == SECRET))
        connection.execute(outcomes.delete().where(outcomes.c.id.in_(ids)))
    assert holding(home.home, f"case-of-{SECRET}-")  # this is what `scrub` is for
    forgetting.scrub(store)
    assert holding(home.home, f"case-of-{SECRET}-") == []
    store.close()


def test_forgetting_works_on_both_databases(both: Settings) -> None:
    with opened(both) as store:
        log(store, {SECRET: 700, "someone": 3})  # more ids than one statement takes
        forgetting.forget(both, store, SECRET)
        assert counts(store) == (4, 3)


def test_the_audit_log_says_that_something_was_forgotten_and_not_who(home: Settings, store: Store) -> None:
    log(store, {SECRET: 2})
    result = forgetting.forget(home, store, SECRET)
    (line,) = store.audit_log(problem.NAME)
    assert (line.text, line.actor) == ("forget", "tester")
    assert line.evidence == {"entity_sha256": forgetting.digest(SECRET)} == {"entity_sha256": result.digest}
    assert SECRET not in json.dumps(line, default=str)


def test_forgetting_again_is_fine_and_an_unknown_entity_is_an_error(home: Settings, store: Store) -> None:
    log(store, {SECRET: 2})
    forgetting.forget(home, store, SECRET)
    assert forgetting.forget(home, store, SECRET).predictions == 0
    with pytest.raises(LookupError, match="spelt as in the requests"):
        forgetting.forget(home, store, "person-471")


def test_a_training_that_goes_on_keeps_its_files_and_the_entity_until_it_is_done(home: Settings, store: Store) -> None:
    log(store, {SECRET: 2})
    with leases.hold(store, f"train {problem.NAME}", 30), pytest.raises(LeaseHeld):
        forgetting.forget(home, store, SECRET)
    assert counts(store) == (3, 2)


def test_a_reader_of_an_old_state_is_said_and_the_command_again_finishes(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(store, {SECRET: 40, "someone": 4})
    other = Store(home.operations)
    with other.engine.connect().execution_options(reads_only=True) as reading:
        connection = reading.connection.driver_connection
        assert connection
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM predictions").fetchone()
        sa.event.listen(store.engine, "checkout", lambda raw, *_: raw.execute("PRAGMA busy_timeout = 100"))
        with pytest.raises(TimeoutError, match="run the command again"):
            forgetting.forget(home, store, SECRET)
        connection.execute("COMMIT")
    other.close()
    forgetting.forget(home, store, SECRET)
    assert holding(home.home, f"case-of-{SECRET}-") == []
    store.close()


def test_a_name_inside_another_name_and_a_short_one_are_left_alone(home: Settings, store: Store) -> None:
    log(store, {"UA154": 1, "7": 1})
    run = a_run(skew=Skew("equal", 7, 0, ("UA1545", "7 days", "of UA154."), "7 of 7"))
    history.record(store, run)
    forgetting.forget(home, store, "UA154")
    forgetting.forget(home, store, "7")
    with store.engine.begin() as connection:
        figures = connection.scalars(sa.select(monitoring_runs.c.figures)).one()
    assert figures == {
        **run.as_dict(),
        "skew": {**run.skew.as_dict(), "examples": ["UA1545", "7 days", "of (forgotten)."]},
    }


def test_retention_deletes_by_age_on_the_clock_and_keeps_what_is_younger(both: Settings) -> None:
    settings = both.changed({"retention_days": 30.0})
    with opened(settings) as store:
        log(store, {"old": 20}, at=NOW - timedelta(days=31))
        log(store, {"new": 10}, at=NOW - timedelta(days=29))
        keep(store, [Reported("nobody", 1, NOW - timedelta(days=31)), Reported("late", 1, NOW)], NOW)
        keep(store, [Reported("case-of-new-1", 0, NOW - timedelta(days=40))], NOW)
        assert retention.retain(settings, store, NOW, confirmed=True) == (21, 21)
        assert counts(store) == (11, 11)
        assert retention.retain(settings, store, NOW) == (0, 0)
        (line,) = store.audit_log(problem.NAME)
        assert line.reason == "21 predictions and 21 outcomes older than 30 days deleted"


def test_retention_takes_a_large_log_in_pieces(home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS_IN_STATEMENT", 7)
    log(store, {"old": 50}, at=NOW - timedelta(days=401))
    assert retention.retain(home, store, NOW, confirmed=True) == (51, 50)


@pytest.mark.evidence("a command lives by another clock")
@pytest.mark.parametrize("years", [1, 3, 30, -30])
def test_a_wrong_clock_alone_deletes_nothing(home: Settings, store: Store, years: int) -> None:
    """Nothing in the log is older than a week; the machine's clock is wrong by years."""
    log(store, {"someone": 40})
    wrong = NOW + timedelta(days=366 * years)
    assert retention.retain(home, store, wrong) == (0, 0)
    assert counts(store) == (41, 40)
    assert store.audit_log(problem.NAME) == []


@pytest.mark.evidence("a command lives by another clock")
def test_a_wrong_clock_by_which_something_was_kept_deletes_nothing_either(home: Settings, store: Store) -> None:
    log(store, {"someone": 40})
    wrong = NOW + timedelta(days=3000)
    log(store, {"under the wrong clock": 5}, at=wrong - timedelta(hours=1))
    with pytest.raises(
        DeletionRefused, match=r"more than 10% of all and more than 31 days, so nothing was deleted.*--confirm"
    ):
        retention.retain(home, store, wrong)
    assert counts(store) == (47, 45)
    assert store.audit_log(problem.NAME) == []
    assert retention.retain(home, store, NOW) == (0, 0)


def test_old_outcomes_without_predictions_are_bounded_too(home: Settings, store: Store) -> None:
    log(store, {"someone": 40})
    keep(store, [Reported(f"nobody {n}", 1, NOW - timedelta(days=500)) for n in range(20)], NOW)
    with pytest.raises(DeletionRefused, match="0 predictions and 20 outcomes"):
        retention.retain(home, store, NOW)
    assert counts(store) == (41, 60)


def test_a_short_retention_deletes_each_week_without_a_person_also_after_a_week_of_many_rows(
    home: Settings, store: Store
) -> None:
    settings = home.changed({"retention_days": 21.0})
    for week in range(8):
        now = NOW + timedelta(weeks=week)
        log(store, {f"week {week} day {day}": 30 if week == 2 else 10 for day in range(7)}, at=now - timedelta(days=1))
        retention.retain(settings, store, now)
    rows, _ = counts(store)
    assert rows < 4 * 7 * 12, "what is older than three weeks is still there"


def test_the_time_of_retention_grows_with_the_rows_and_not_with_their_square(home: Settings, store: Store) -> None:
    def seconds(entity: str, rows: int) -> float:
        log(store, {f"old {entity}": rows}, at=NOW - timedelta(days=500))
        log(store, {f"young {entity}": rows}, at=NOW)
        best = math.inf
        for _ in range(3):
            started = time.perf_counter()
            with pytest.raises(DeletionRefused):
                retention.retain(home, store, NOW)
            best = min(best, time.perf_counter() - started)
        return best

    few = seconds("few", 500)
    many = seconds("many", 3500)  # eight times as many in all; each against each would be 64 times the work
    assert many < 24 * few, f"{few:.3f} s for 1,000 rows, {many:.3f} s for 8,000"


def test_what_is_deleted_has_its_line_first(home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log(store, {"someone": 40})
    log(store, {"old": 3}, at=NOW - timedelta(days=410))

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "_delete_all", killed)
    with pytest.raises(KeyboardInterrupt):
        retention.retain(home, store, NOW)
    (line,) = store.audit_log(problem.NAME)
    assert line.reason == "4 predictions and 3 outcomes older than 400 days deleted"
    assert counts(store) == (45, 43)


@pytest.mark.evidence("Data 5")
@pytest.mark.slow
def test_a_snapshot_of_few_rows_holds_no_id_and_no_row(home: Settings, store: Store, rows: pd.DataFrame) -> None:
    """Evidently plots samples: for few rows they must not give a row away."""
    some = rows[rows[problem.TARGET].notna()].iloc[15000:15080]
    for at in (END - WEEK, END - 2 * WEEK):
        named = zip(some[problem.ID], schema.records(some), strict=True)
        log_predictions(
            store,
            [
                {"id": f"{name} {at}", "entity_id": f"entity {name}", "at": at, "record": record}
                for name, record in named
            ],
        )
    written = evidently_snapshot.write(home, store, a_run())
    assert written
    text = written.path.read_text()
    assert not [name for name in some[problem.ID] if name in text]
    series = [values for values in _series(json.loads(text)) if len(values) == len(some)]
    numeric = some.select_dtypes("number").drop(columns=problem.TARGET)
    in_order = [tuple(numeric[name].round(6)) for name in numeric if numeric[name].nunique() > 10]
    assert in_order
    assert not [values for values in series if tuple(round(value, 6) for value in values) in in_order]
    assert evidently_snapshot.write(home, store, a_run()) == written
    assert len(list(written.path.parent.iterdir())) == 1  # the same run again makes no second snapshot


def _series(data: Any) -> list[list[float]]:
    """Every list of numbers anywhere in JSON."""
    if isinstance(data, dict):
        return [values for value in data.values() for values in _series(value)]
    if isinstance(data, list):
        if data and all(isinstance(value, int | float) for value in data):
            return [data]
        return [values for value in data for values in _series(value)]
    return []
