"""The champion's dollars are exact, belong to its tenure alone, and outlive the rows that they were counted on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.decisions import Decisions, SincePromotion
from level1_pipeline.store.database import Store
from level1_pipeline.store.quarantine import LABELS, Quarantined
from level1_pipeline.store.tables import predictions
from monitoring.data.champion_decisions import since_promotion
from monitoring.data.prediction_window import last_days
from monitoring.results import Release
from tests.support.monitoring_runs import a_run
from tests.support.prediction_log import log_outcomes, log_predictions
from tests.support.world import World, midnight

pytestmark = pytest.mark.flights
START = midnight("2013-05-01").to_pydatetime()
NOW = midnight("2013-05-13").to_pydatetime()
RELEASE = Release("2", START, "promote to champion", "1")
DAY = timedelta(days=1)


def answer(store: Store, at: datetime, score: float | None, value: float | None, **changes: Any) -> None:
    """One answer of version 2 and its outcome, which is known a day later."""
    name = f"{at}-{score}-{value}-{changes}"
    log_predictions(store, [{"id": name, "at": at, "record": {}, "score": score, "version": "2"} | changes])
    if value is not None:
        log_outcomes(store, [{"id": name, "value": value, "known_at": at + DAY}])


def spent(store: Store, now: datetime = NOW, **more: Any) -> SincePromotion:
    counted = since_promotion(store, last_days(now, 7), now, RELEASE, **more)
    assert counted is not None
    return counted


def test_only_matured_answers_of_the_champion_since_its_promotion_count(store: Store) -> None:
    answer(store, START, 0.1, 1)  # a miss, on the first moment
    answer(store, START + 2 * DAY, 0.9, 0)  # a needless warning
    answer(store, START + 3 * DAY, 0.9, 1)
    answer(store, START + 3 * DAY, 0.1, 0)
    answer(store, START + 3 * DAY, 0.1, 1, arm="batch")  # an answer, too
    assert spent(store).total == Decisions(rows=5, positives=3, misses=2, needless=1)
    assert spent(store).total.lost == 2 * 60 + 20
    before = spent(store)
    answer(store, START - DAY, 0.1, 1)  # before the promotion, in its canary
    answer(store, START + 4 * DAY, 0.1, 1, arm="shadow")
    answer(store, START + 4 * DAY, 0.1, 1, version="1")
    answer(store, START + 4 * DAY, None, 1)  # no score, so no decision
    answer(store, START + 4 * DAY, 0.2, None)  # cancelled: no label ever
    answer(store, NOW - DAY, 0.1, 1)  # others of its age are still open
    assert spent(store) == before
    assert before.until == NOW - timedelta(hours=problem.GATE["maturity_hours"])


def test_there_is_nothing_to_say_without_a_release_or_without_prices(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert since_promotion(store, last_days(NOW, 7), NOW, None) is None
    monkeypatch.delattr(problem, "COSTS")
    assert since_promotion(store, last_days(NOW, 7), NOW, RELEASE) is None


def test_a_champion_of_today_has_lost_nothing_yet(store: Store) -> None:
    young = since_promotion(store, last_days(NOW, 7), NOW, Release("2", NOW - timedelta(hours=3), "promote", "1"))
    assert young is not None
    assert (young.total, young.days) == (Decisions(), 0)


def test_old_rows_are_counted_once_and_outlive_the_retention(store: Store) -> None:
    answer(store, START + DAY, 0.1, 1)
    answer(store, START + 20 * DAY, 0.9, 0)
    first_end, second_end = START + 35 * DAY, START + 42 * DAY
    first = spent(store, first_end)
    assert (first.settled, first.settled_until) == (Decisions(1, 1, 1, 0), START + 7 * DAY)
    with store.engine.begin() as connection:
        connection.execute(predictions.delete().where(predictions.c.at < START + 2 * DAY))
    answer(store, START + 37 * DAY, 0.1, 1)
    second = spent(store, second_end, earlier_run=a_run(champion="2", dollars=first))
    assert second.total == Decisions(rows=3, positives=2, misses=2, needless=1)
    assert second.settled_until == START + 14 * DAY
    assert spent(store, second_end).total.rows == 2  # without the run before, what is deleted is lost


def test_an_earlier_tenure_of_the_same_version_is_not_added(store: Store) -> None:
    earlier = SincePromotion(START - 90 * DAY, START - 60 * DAY, Decisions(9, 9, 9, 0), START, Decisions(9, 9, 9, 0))
    answer(store, START + DAY, 0.1, 1)
    assert spent(store, earlier_run=a_run(champion="2", dollars=earlier)).total == Decisions(1, 1, 1, 0)


@pytest.mark.evidence("a label comes twice or is corrected", "Level 2: labels late, twice, corrected")
def test_an_outcome_that_comes_late_or_is_corrected_counts_in_the_next_run(store: Store) -> None:
    answer(store, START + DAY, 0.1, None)
    first = spent(store)
    log_outcomes(store, [{"id": f"{START + DAY}-0.1-None-{{}}", "value": 1, "known_at": NOW + DAY}])
    second = spent(store, NOW + 7 * DAY, earlier_run=a_run(champion="2", dollars=first))
    assert (first.total.rows, second.total) == (0, Decisions(1, 1, 1, 0))


def test_labels_in_quarantine_are_left_out_and_rows_are_not(store: Store, rows: pd.DataFrame) -> None:
    records = schema.records(rows.drop_duplicates("origin").head(3))
    for record in records:
        answer(store, START + DAY, 0.1, 1, record=record)
    span = Quarantined(START, START + 2 * DAY, f"origin={records[0]['origin']}", "a test")
    assert spent(store, quarantined=(span,)).total.rows == 3
    assert spent(store, quarantined=(span._replace(what=LABELS),)).total.rows == 2


@pytest.mark.slow
def test_a_monitoring_run_keeps_them_for_the_next_one_and_for_the_training(world: World) -> None:
    """End to end, on a fortnight of real rows: the sums of two runs are those of all matured rows."""
    days = world.between("2013-04-15", "2013-05-06")
    world.log(days)
    world.look("2013-04-29")
    run = world.look("2013-05-06")
    limit = midnight("2013-05-06") - pd.Timedelta(hours=problem.GATE["maturity_hours"])
    matured = days[days[problem.TARGET].notna() & (days[problem.EVENT_TIME] < limit)]
    y, warned = matured[problem.TARGET].to_numpy(), world.score(matured, "1") >= 0.25
    assert run.dollars is not None
    assert run.dollars.since == midnight("2013-04-01")
    lost = 60 * int((y * ~warned).sum()) + 20 * int(((1 - y) * warned).sum())
    assert run.dollars.total.lost == lost > 0
    assert run.dollars.total.saved == min(60 * y.sum(), 20 * (1 - y).sum()) - lost
    kept = world.store.newest_monitoring(problem.NAME, midnight("2013-05-07").to_pydatetime())
    assert kept is not None
    assert kept["dollars"]["total"]["rows"] == len(matured)
    assert world.store.newest_monitoring(problem.NAME, START - 9 * DAY) is None
