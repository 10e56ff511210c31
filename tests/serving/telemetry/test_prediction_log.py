"""The prediction log and the outcomes, on both databases: nothing twice, nothing lost unseen, nobody waits."""

from __future__ import annotations

import itertools
import random
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, Result, keep
from serving.errors import Refusal
from serving.models.loaded_model import Model
from serving.models.routing import Case, Scored
from serving.schemas import OutcomeRequest
from serving.service.service import Service
from serving.telemetry.metrics import Metrics
from serving.telemetry.prediction_log import PredictionLog
from tests.support.problems import ONE_NUMBER
from tests.support.serving import (
    NOW,
    Models,
    degraded,
    eventually,
    known_outcomes,
    logged,
    logged_when,
    opened,
    serve,
    set_route,
)


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A row as the log should hold it."""
    return {
        "problem": problem.NAME,
        "id": f"id-{number:05}",
        "arm": "champion",
        "entity_id": "somebody",
        "version": "1",
        "at": NOW,
        "recorded_at": datetime(2013, 4, 2, 12, 30, 0, 123456, UTC),
        "record": {"x": float(number), "none": None, "text": "é"},
        "score": 0.5,
        "error": None,
        "latency_ms": 1.5,
        "checksum": "checksum",
        "scores": None,  # of a problem without several classes
        **changes,
    }


def scored(*rows: dict[str, Any]) -> Scored:
    """What leaves these rows, which have all but their cases in common."""
    line = rows[0]
    model = Model(line["version"], None, "checksum", {}, {})  # type: ignore[arg-type]
    cases = [Case(row["id"], row["entity_id"], row["record"], row["at"]) for row in rows]
    scores = [row["score"] for row in rows]
    return Scored(line["arm"], model, cases, scores, line["error"] or "", line["latency_ms"], line["recorded_at"])


MakeLog = Callable[..., PredictionLog]


@pytest.fixture
def log_of() -> Iterator[MakeLog]:
    """Makes logs that leave no connection open."""
    made: list[PredictionLog] = []

    def one(settings: Settings, limit: int = 10_000) -> PredictionLog:
        made.append(PredictionLog(Store(settings.operations), limit, Metrics()))
        return made[-1]

    yield one
    for log in made:
        log.store.close()


# ---- the log, on both databases


@ONE_NUMBER
def test_rows_come_back_as_they_were(both: Settings, log_of: MakeLog) -> None:
    log, rows = log_of(both), [row(number) for number in range(2512)]  # more than two batches, and some
    for first, last in ((0, 1500), (1500, 2500)):  # many cases at once
        log.add(scored(*rows[first:last]))
    rows[2505] |= {"score": None, "error": "no number", "arm": "canary"}
    for line in rows[2500:]:
        log.add(scored(line))
    log.flush()
    assert logged(both) == rows
    assert (log.lost, log.trouble) == (0, None)


def test_the_same_id_and_arm_leave_one_row_the_first(both: Settings, log_of: MakeLog) -> None:
    log = log_of(both)
    log.add(scored(row(1, score=0.1), row(1, score=0.2)))
    log.flush()
    log.add(scored(row(1, score=0.3)))
    log.add(scored(row(1, score=0.4, arm="shadow")))
    log.flush()
    assert [(line["arm"], line["score"]) for line in logged(both)] == [("champion", 0.1), ("shadow", 0.4)]
    assert log.lost == 0  # to ignore what is there already is no loss


@pytest.mark.parametrize("count", [1, 250], ids=["alone", "many together"])
@pytest.mark.parametrize("at_once", [True, False])
@ONE_NUMBER
def test_an_answer_takes_the_place_of_a_failure_and_no_failure_that_of_an_answer(
    both: Settings, log_of: MakeLog, at_once: bool, count: int
) -> None:
    failed = [row(number, version="2", score=None, error="ValueError: not this one") for number in range(count)]
    answer = [row(number, entity_id="somebody else", latency_ms=2.5) for number in range(count)]
    later = [row(number, score=0.9) for number in range(count)]
    log = log_of(both)
    for rows, left in ((failed, failed), (answer, answer), (failed, answer), (later, answer)):
        log.add(scored(*rows))
        if not at_once:
            log.flush()
            assert logged(both) == left
    log.flush()
    assert logged(both) == answer
    assert (log.lost, log.trouble) == (0, None)


def test_several_writers_at_once_lose_nothing(both: Settings, log_of: MakeLog) -> None:
    def write(start: int) -> None:
        log = log_of(both)
        for number in range(start, start + 200, 20):
            log.add(scored(*(row(line) for line in range(number, number + 20))))
            log.flush()
        assert log.lost == 0

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 100, 200, 300)]  # they overlap
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line["id"] for line in logged(both)] == [f"id-{number:05}" for number in range(500)]


def test_a_row_that_the_database_refuses_does_not_block_the_others(both: Settings, log_of: MakeLog) -> None:
    log = log_of(both)
    for line in (row(1), row(2, entity_id=None), row(3)):
        log.add(scored(line))
    log.flush()
    assert [line["id"] for line in logged(both)] == ["id-00001", "id-00003"]
    assert (log.lost, log.trouble) == (1, None)


# ---- when the store fails


@pytest.fixture
def broken(home: Settings, log_of: MakeLog) -> tuple[PredictionLog, Path]:
    """A log whose home cannot be made, because a file lies there."""
    home.home.write_text("in the way")
    return log_of(home, limit=100), home.home


def test_while_the_store_fails_rows_wait_up_to_the_limit_and_the_lost_ones_are_counted(
    broken: tuple[PredictionLog, Path], home: Settings
) -> None:
    log, obstacle = broken
    for number in range(0, 129, 3):  # the limit falls between rows that were scored together
        log.add(scored(row(number), row(number + 1), row(number + 2)))
        if number % 51 == 0:
            log.flush()
    log.flush()
    assert (log.lost, log.waiting) == (29, 100)
    assert "100 rows wait" in str(log.trouble)
    assert b"mlops_prediction_log_lost_total 29.0" in log.metrics.page()
    assert b"mlops_prediction_log_waiting 100.0" in log.metrics.page()
    obstacle.unlink()
    log.flush()  # it catches up
    assert [line["id"] for line in logged(home)] == [f"id-{number:05}" for number in range(100)]
    assert log.trouble is None


def test_a_stop_while_the_store_fails_counts_what_is_lost(broken: tuple[PredictionLog, Path]) -> None:
    log, _ = broken
    log.add(scored(*(row(number) for number in range(7))))
    log.close()
    assert log.lost == 7


@pytest.mark.evidence("the database is locked")
def test_while_the_database_is_locked_answers_go_on_and_the_log_catches_up(
    client: httpx2.Client, served: Settings, records: list[dict[str, Any]]
) -> None:
    with closing(sqlite3.connect(served.home / "operations.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = time.monotonic()
        for n in range(30):
            assert client.post("/predict", json={"id": f"{n:02}", "record": records[n]}).status_code == 200
        assert time.monotonic() - started < 5
        other.execute("ROLLBACK")
    assert [line["id"] for line in logged_when(served, 30)] == [f"{n:02}" for n in range(30)]


def test_outcomes_that_wait_for_the_store_never_block_predictions(
    client: httpx2.Client, served: Settings, records: list[dict[str, Any]]
) -> None:
    result: list[int] = []

    def post(number: int) -> None:
        answer = httpx2.post(client.base_url.join("/outcomes"), json={"id": f"{number}", "value": 1}, timeout=60)
        result.append(answer.status_code)

    threads = [threading.Thread(target=post, args=(number,)) for number in range(60)]  # the pool has 40
    with closing(sqlite3.connect(served.home / "operations.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        assert client.post("/predict", json={"record": records[0]}).status_code == 200
        took = time.monotonic() - started
        other.execute("ROLLBACK")
    for thread in threads:
        thread.join()
    assert took < 5
    assert set(result) == {200, 503}


def test_serving_goes_on_while_the_log_cannot_be_written_and_says_so(
    client: httpx2.Client, served: Settings, records: list[dict[str, Any]]
) -> None:
    service = client.app.service  # type: ignore[attr-defined]
    service.log.limit = 10
    (served.home / "obstacle").write_text("a file where a folder should be")
    service.log.store = Store(f"sqlite:///{served.home / 'obstacle' / 'database'}")
    for record in records[:15]:
        assert client.post("/predict", json={"record": record}).status_code == 200
    health = degraded(client)
    assert health["lost_predictions"] == 5
    assert "the prediction log cannot be written" in health["reasons"][0]


@pytest.mark.evidence("the disk is full")
def test_a_full_disk_stops_the_log_but_not_the_service(served: Settings, records: list[dict[str, Any]]) -> None:
    """SQLite's own limit of pages gives the error of a full disk, without filling one."""
    with serve(served) as client:
        service = client.app.service  # type: ignore[attr-defined]

        def full(connection: Any, *_: Any) -> None:
            connection.execute("PRAGMA max_page_count = 1")  # it cannot grow any more

        engine = service.log.store.engine
        sa.event.listen(engine, "checkout", full)
        engine.dispose()
        big = [{"id": f"f-{n:04}", "record": record} for n, record in enumerate(records * 5)]
        assert client.post("/predict", json=big).status_code == 200
        health = degraded(client)
        assert "OperationalError" in " ".join(health["reasons"])
        assert client.post("/predict", json=big[0]).status_code == 200
        sa.event.remove(engine, "checkout", full)
        engine.dispose()
        eventually(lambda: client.get("/readyz").json()["state"] == "ready")
        logged_when(served, 1000)
        assert client.get("/readyz").json()["lost_predictions"] == 0


def test_a_busy_second_does_not_fill_the_memory(served: Settings, records: list[dict[str, Any]]) -> None:
    """Though the next flush is a minute away."""
    with serve(served.changed({"flush_seconds": 60.0, "log_rows": 80})) as client:
        time.sleep(0.5)  # the first flush is over
        for n in range(200):
            client.post("/predict", json={"id": f"{n:03}", "record": records[n % 50]})
        eventually(lambda: len(logged(served)) > 180)  # the rest, less than a quarter, waits for its time
        assert client.get("/readyz").json()["lost_predictions"] == 0


def test_two_who_flush_at_once_lose_no_row(served: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop does not wait for ever for the writer, so both may write."""
    with opened(served) as store:
        log = PredictionLog(store, 10_000, Metrics())
        write, began = log._write, threading.Event()

        def slowly(rows: list[Any]) -> None:
            began.set()
            time.sleep(0.3)
            write(rows)

        monkeypatch.setattr(log, "_write", slowly)
        model = Model("1", None, "", {}, {})  # type: ignore[arg-type]
        for n in range(3000):
            log.add(Scored("champion", model, [Case(f"{n:04}", "e", {}, NOW)], [0.5], "", 1.0, NOW))
        writer = threading.Thread(target=log.flush)
        writer.start()
        began.wait(5)
        log.flush()
        writer.join()
    assert (len(logged(served)), log.lost, log.waiting) == (3000, 0, 0)


def test_a_clean_stop_loses_nothing(served: Settings, records: list[dict[str, Any]]) -> None:
    with serve(served.changed({"flush_seconds": 60.0})) as client:
        for n in range(50):
            client.post("/predict", json={"id": f"{n:02}", "record": records[n]})
        assert len(logged(served)) < 50
    assert len(logged(served)) == 50


@pytest.mark.parametrize("both", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_the_service_survives_the_loss_of_its_connections_to_postgresql(both: Settings, models: Models) -> None:
    models.publish(both.home, "1", 0)
    set_route(both, champion="1")
    settings = both.changed({"watch_seconds": 0.1, "flush_seconds": 0.1})
    with serve(settings) as client:
        cut = sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        outside = sa.create_engine(both.store_uri)
        for n in range(30):
            if n % 10 == 5:
                with outside.connect() as connection:
                    connection.execute(cut)
            assert client.post("/predict", json={"id": f"{n:02}", "record": models.records[n]}).status_code == 200
            time.sleep(0.02)
        eventually(lambda: client.get("/readyz").json()["state"] == "ready")
        outside.dispose()
    assert len(logged(both)) == 30


# ---- outcomes, on both databases


def outcome(name: str, value: int, day: int = 1) -> Reported:
    return Reported(name, value, datetime(2013, 1, day, tzinfo=UTC))


def ingest(settings: Settings, reported: list[Reported], now: datetime) -> Result:
    with opened(settings) as store:
        return keep(store, reported, now)


def test_an_outcome_that_comes_twice_counts_once(both: Settings) -> None:
    assert ingest(both, [outcome("a", 1)], NOW).new == 1
    again = ingest(both, [outcome("a", 1), outcome("a", 1)], NOW)
    assert (again.new, again.unchanged, again.corrected) == (0, 2, 0)
    confirmed = ingest(both, [outcome("a", 1, day=9)], NOW)
    assert confirmed.unchanged == 1
    result = known_outcomes(both)["a"]
    assert (result["corrected_at"], result["known_at"].day) == (None, 1)  # known since the first report


def test_a_correction_amends_and_keeps_when_it_came(both: Settings) -> None:
    before = datetime.now(UTC)
    ingest(both, [outcome("a", 1)], NOW)
    assert ingest(both, [outcome("a", 0, day=2)], NOW).corrected == 1
    result = known_outcomes(both)["a"]
    assert (result["value"], result["known_at"].day) == (0, 2)
    assert before <= result["recorded_at"] <= result["corrected_at"]  # wall time, not the clock of decisions


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_arrival_gives_the_same_end(both: Settings, seed: int) -> None:
    posted = [outcome(f"o{n}", (n + day) % 2, day) for n in range(10) for day in (1, 2, 3)] * 2
    random.Random(seed).shuffle(posted)
    for line in posted:
        if seed == 0:  # one by one
            ingest(both, [line], NOW)
    if seed:
        ingest(both, posted, NOW)
    result = known_outcomes(both)
    assert {name: line["value"] for name, line in result.items()} == {f"o{n}": (n + 3) % 2 for n in range(10)}
    # The value of the third day was reported on the first day, too.
    assert {(row["known_at"].day, row["confirmed_at"].day) for row in result.values()} == {(1, 3)}


def test_the_same_reports_leave_the_same_row_in_every_order(both: Settings) -> None:
    reports = [outcome("o", 1, 1), outcome("o", 0, 2), outcome("o", 1, 3), outcome("o", 0, 3)]
    kept = ("value", "known_at", "confirmed_at", "other_values")
    orders = list(itertools.permutations(reports))
    for turn in range(len(reports)):
        ingest(both, [order[turn]._replace(id=f"o{number}") for number, order in enumerate(orders)], NOW)
    ends = [{name: line[name] for name in kept} for line in known_outcomes(both).values()]
    assert len(ends) == len(orders)
    assert all(end == ends[0] for end in ends)
    assert (ends[0]["value"], ends[0]["known_at"].day, ends[0]["confirmed_at"].day) == (1, 1, 3)


def test_unknown_ids_are_kept_apart_until_their_prediction_appears(both: Settings, log_of: MakeLog) -> None:
    log = log_of(both)
    log.add(scored(row(1)))
    log.flush()
    result = ingest(both, [outcome("id-00001", 1), outcome("id-00002", 0)], NOW)
    assert (result.new, result.unknown) == (2, ["id-00002"])
    log.add(scored(row(2)))
    log.flush()
    assert ingest(both, [outcome("id-00002", 0)], NOW) == Result(unchanged=1)


@ONE_NUMBER
def test_an_outcome_from_the_future_is_refused_with_all_of_its_request(both: Settings) -> None:
    service = Service(both.changed({"clock": NOW.isoformat()}))
    fine = OutcomeRequest(id="a", value=1, known_at=NOW)
    late = OutcomeRequest(id="b", value=1, known_at=NOW + timedelta(seconds=1))
    with pytest.raises(Refusal, match="before it happens"):
        service.ingest([fine, late])
    service.store.close()
    assert known_outcomes(both) == {}


def test_the_same_outcome_posted_by_many_at_once_is_new_once(both: Settings) -> None:
    result: list[Result] = []

    def post() -> None:
        result.append(ingest(both, [outcome("a", 1), outcome("b", 0)], NOW))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(line.new for line in result), sum(line.unchanged for line in result)) == (2, 14)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a place in memory for a small disk")
@pytest.mark.slow
def test_a_really_full_disk_stops_the_log_but_not_the_service(
    start: Any, served: Settings, records: list[dict[str, Any]], tmp_path: Path
) -> None:
    disk = tmp_path / "small-disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        database = disk / "operations.db"
        small = served.changed({"store_uri": f"sqlite:///{database}"})
        set_route(small, champion="1")
        service = start(small, flush_seconds=0.1, watch_seconds=0.1, rate_limit=0)
        (disk / "filler").write_bytes(b"x" * 14_500_000)
        with httpx2.Client(base_url=service.url, timeout=30) as client:
            sent = 0
            while client.get("/readyz").json()["state"] == "ready" and sent < 20_000:
                body = [{"id": f"{sent + n:05}", "record": record} for n, record in enumerate(records)]
                assert client.post("/predict", json=body).status_code == 200
                sent += len(body)
            health = client.get("/readyz").json()
            assert "the prediction log cannot be written" in " ".join(health["reasons"])
            for more in range(20):  # what waits is more than what was left of the disk
                body = [{"id": f"{more}-{n}", "record": record} for n, record in enumerate(records)]
                assert client.post("/predict", json=body).status_code == 200
            (disk / "filler").unlink()
            eventually(lambda: client.get("/readyz").json()["state"] == "ready")
        service.stop()
        assert {line["id"] for line in logged(small)} >= {f"{n:05}" for n in range(sent)}
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
