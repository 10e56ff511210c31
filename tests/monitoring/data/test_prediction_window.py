"""The log is streamed: exact sums, a bounded sample, quarantined rows left out, unripe outcomes not counted."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.evaluation.drift import day_summaries, drift_test
from level1_pipeline.store.quarantine import Quarantined
from level1_pipeline.store.tables import outcomes
from monitoring.data import prediction_window
from monitoring.results import Window
from tests.support.world import World, midnight

pytestmark = pytest.mark.flights
FIRST, LAST = "2013-05-06", "2013-05-10"
SPAN = Window(*(midnight(day).to_pydatetime() for day in (FIRST, LAST)))
NOW = midnight("2013-05-10").to_pydatetime()


@pytest.fixture
def logged(world: World) -> World:
    world.log(world.between(FIRST, LAST))
    return world


def test_sums_over_many_chunks_equal_the_summaries_of_all_rows(logged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_window, "CHUNK_ROWS", 700)
    rows = logged.between(FIRST, LAST)
    result = prediction_window.read(logged.store, SPAN, NOW).sums.day_summaries()
    expected = day_summaries(rows)
    assert set(expected) <= set(result)
    pd.testing.assert_frame_equal(result[list(expected)], expected, check_dtype=False, atol=1e-8)


def test_the_days_of_a_profile_can_be_compared_with_those_of_the_log(logged: World) -> None:
    profile = day_summaries(logged.between("2013-04-01", FIRST))
    result = prediction_window.read(logged.store, SPAN, NOW).sums.day_summaries(like=profile)
    assert drift_test(profile, result).verdict in ("moved", "steady")


@pytest.mark.evidence("labels come late")
def test_an_outcome_counts_only_when_all_of_its_age_have_matured(logged: World) -> None:
    result = prediction_window.read(logged.store, SPAN, NOW)
    rows, ripe = result.rows, NOW - timedelta(hours=problem.GATE["maturity_hours"])
    assert (rows["value"].notna() & rows[problem.TARGET].isna()).any()  # early outcomes are known, and not used
    assert rows["at"][rows[problem.TARGET].notna()].max() <= ripe
    c = result.coverage
    assert c.open == (rows["at"] > ripe).sum()
    assert c.matured + c.open + c.never == c.predictions == len(logged.between(FIRST, LAST))


def test_an_outcome_that_became_known_later_is_unknown_before(logged: World) -> None:
    early = midnight("2013-05-07").to_pydatetime()
    result = prediction_window.read(logged.store, SPAN, early)
    with logged.store.engine.connect() as connection:
        seen_before = {row.id for row in connection.execute(outcomes.select()) if row.known_at <= early}
    assert set(result.rows["id"][result.rows["value"].notna()]) <= seen_before


def test_a_sample_is_bounded_and_the_same_whatever_the_chunks(logged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_window, "SAMPLE_MAX_ROWS", 500)
    samples = []
    for chunk in (300, 20_000):
        monkeypatch.setattr(prediction_window, "CHUNK_ROWS", chunk)
        answers = prediction_window.read(logged.store, SPAN, NOW).answers["1", "champion"]
        samples.append(set(answers.rows["id"]))
        assert len(answers.rows) <= 500
        assert answers.sampled == pytest.approx(len(answers.rows) / answers.predictions, rel=0.5)
        assert answers.coverage.predictions == len(logged.between(FIRST, LAST))
    assert samples[0] == samples[1]


def test_quarantined_rows_are_counted_and_nothing_else(logged: World) -> None:
    span = Quarantined(SPAN.start, SPAN.start + timedelta(days=1), "origin=JFK", "a test")
    result, rows = prediction_window.read(logged.store, SPAN, NOW, (span,)), logged.between(FIRST, LAST)
    hidden = ((rows[problem.EVENT_TIME] < span.end) & (rows["origin"] == "JFK")).sum()
    assert result.coverage.quarantined == hidden > 0
    assert result.coverage.predictions == len(result.rows) == len(rows) - hidden


def test_labels_in_quarantine_are_missing_and_their_inputs_count(logged: World) -> None:
    span = Quarantined(SPAN.start, SPAN.start + timedelta(days=1), "origin=JFK", "a test", what="labels")
    before, log = (prediction_window.read(logged.store, SPAN, NOW, hidden) for hidden in ((), (span,)))
    first = (log.rows[problem.EVENT_TIME] < span.end) & (log.rows["origin"] == "JFK")
    assert log.coverage.labels_quarantined == first.sum() > 0
    assert log.coverage.predictions == before.coverage.predictions == len(log.rows)
    assert log.rows[problem.TARGET].equals(before.rows[problem.TARGET].mask(first))
    assert log.rows["value"].equals(before.rows["value"])
    assert log.sums.by_slice().equals(before.sums.by_slice())
    for coverage in (log.coverage, before.coverage):
        parts = (coverage.matured, coverage.open, coverage.never, coverage.labels_quarantined)
        assert sum(parts) == coverage.predictions


def test_copies_for_the_shadow_are_kept_apart(logged: World) -> None:
    rows = logged.between(FIRST, LAST).head(300)
    logged.log(rows, version="2", arm="shadow", scores=np.full(300, 0.5))
    result = prediction_window.read(logged.store, SPAN, NOW)
    assert result.answers["2", "shadow"].coverage.predictions == 300
    assert result.coverage.predictions == len(result.rows) == len(logged.between(FIRST, LAST))


@pytest.mark.parametrize(
    ("day", "hours"), [("2013-03-11", 7 * 24 - 1), ("2013-11-04", 7 * 24 + 1), ("2013-06-03", 7 * 24)]
)
def test_a_week_is_seven_local_days_also_when_the_clock_changes(day: str, hours: int) -> None:
    result = prediction_window.last_days((midnight(day) + pd.Timedelta("15h")).to_pydatetime(), 7)
    assert result.end == midnight(day)
    assert result.end - result.start == timedelta(hours=hours)
