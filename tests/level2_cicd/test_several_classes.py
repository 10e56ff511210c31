"""Tracing, recalibration and planted faults of a problem with several classes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from examples.several_classes import problem as tickets
from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.store.database import Store
from level2_cicd.control_loop import recalibration
from level2_cicd.lineage import trace
from level2_cicd.simulation import pipelines, scoreboard, scoreboard_page
from level2_cicd.simulation.faults import figures, table
from level2_cicd.simulation.faults.table import Planted
from level2_cicd.simulation.policies import Played, calendar
from level2_cicd.simulation.world import World
from tests.support.prediction_log import log_outcomes, log_predictions
from tests.support.problems import in_place

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets, monkeypatch):
        yield


@pytest.fixture
def rows() -> pd.DataFrame:
    return schema.typed(problem.load(pd.Timestamp("2024-03-01", tz="UTC"))).dropna(subset=problem.TARGET)


@pytest.fixture
def answered(home: Settings, rows: pd.DataFrame) -> dict[str, Any]:
    """Version 1 has answered one case; returns what it said."""
    folder = home.home / "bundles" / problem.NAME / "1"
    write_bundle(folder, fit_model(rows, {"model__max_iter": 5}), rows.tail(200), {}, day_summaries(rows))
    bundle, record = load_bundle(folder), schema.records(rows.head(1))[0]
    assert bundle.scorer
    scores = bundle.predict([record])[0].tolist()
    line = {"id": "ticket-0", "at": NOW, "record": record, "score": max(scores), "scores": scores}
    store = Store(home.operations)
    log_predictions(store, [line | {"checksum": bundle.checksum}])
    log_outcomes(store, [{"id": "ticket-0", "value": 2.0, "known_at": NOW + timedelta(days=1)}])
    store.close()
    return line


def test_all_probabilities_are_reproduced_and_the_outcome_is_named(home: Settings, answered: dict[str, Any]) -> None:
    (served,) = trace(home, "ticket-0")
    lines = dict(served.lines)
    assert (served.reproduced, served.again) == (True, answered["scores"])
    assert lines["re-scoring"] == "reproduced bit for bit"
    named = dict(zip(tickets.CLASSES, answered["scores"], strict=True))
    assert lines["score"] == f"{named} -> {problem.choose_action(answered['scores'])}"
    assert lines["outcome"].startswith("technical, known at 2024-03-02")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_another_probability_of_any_class_is_noticed(home: Settings, answered: dict[str, Any], place: int) -> None:
    other = list(answered["scores"])
    other[place] = np.nextafter(other[place], 1)
    store = Store(home.operations)
    log_predictions(store, [answered | {"id": "ticket-1", "scores": other}])
    store.close()
    assert [each.check for each in trace(home, "ticket-1")] == ["NOT reproduced"]


@pytest.mark.parametrize("classes", [("technical", "sales", "billing"), ("billing", "sales")])
def test_an_answer_of_a_model_for_other_classes_is_told_and_not_scored_again(
    home: Settings, answered: dict[str, Any], monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]
) -> None:
    monkeypatch.setattr(problem, "CLASSES", classes)
    (served,) = trace(home, "ticket-0")
    lines = dict(served.lines)
    assert (served.again, served.reproduced) == (None, False)
    assert "was trained for the classes ['billing', 'sales', 'technical']" in lines["bundle"]
    assert ("by a model for other classes" in lines["score"]) == (len(classes) == 2)


def test_there_is_no_offset_on_several_probabilities(home: Settings) -> None:
    assert recalibration.recalibrate_champion(Registry(home), "a test", {}) == (
        "no recalibration: an offset moves one number, and a score is a probability for each class"
    )


def test_a_concept_change_makes_some_of_the_first_class_the_second(rows: pd.DataFrame) -> None:
    fault = next(fault for fault in table.TABLE if fault.name == "concept")
    spoilt = Planted(fault, "2024-02-01").spoil(rows)
    before, after = rows[problem.TARGET], spoilt[problem.TARGET]
    changed = before != after
    assert 0.1 < changed[(before == 0) & (rows[problem.EVENT_TIME] >= "2024-02-01")].mean() < 0.3
    assert set(zip(before[changed], after[changed], strict=True)) == {(0.0, 1.0)}
    assert rows[problem.EVENT_TIME][changed].min() >= pd.Timestamp("2024-02-01", tz="UTC")
    flipped = next(fault for fault in table.TABLE if fault.name == "flipped")
    assert flipped.lacks() == "it needs SLICES and labels 0 and 1"


def test_policies_of_a_year_are_held_against_the_oracle_by_the_loss_of_all_classes(
    home: Settings, tmp_path: Path
) -> None:
    world = World(home, "2024-05-20", "2024-06-16")
    played = [calendar(world, "never", world.mondays[:1]), calendar(world, "weekly", world.mondays)]
    assert played[1].scores.shape == (len(world.rows), 3)
    board = scoreboard.score(world, played, 800.0)
    never, weekly = board.rows
    y = world.labels
    assert never.loss == pytest.approx(problem.evaluate(y[~np.isnan(y)], played[0].scores[~np.isnan(y)])["log_loss"])
    assert board.oracle <= weekly.loss < never.loss, "the world changes on 1 June"
    assert (never.wrong, board.silent) == (None, None), "COSTS are about one event"
    assert [promotion.day for promotion in played[1].promotions] == world.mondays[1:]
    played[1].save(tmp_path)
    again = Played.load(tmp_path, "weekly")
    assert again is not None
    assert again.scores.tobytes() == played[1].scores.tobytes()
    page = scoreboard_page.write(board, tmp_path / "scoreboard.html")
    assert "weekly" in page.read_text()


def test_what_callers_got_is_read_whole_from_the_log(home: Settings, answered: dict[str, Any]) -> None:
    store, rows = Store(home.operations), pd.DataFrame({problem.ID: ["ticket-1", "ticket-0"]})
    world: Any = SimpleNamespace(rows=rows)
    np.testing.assert_array_equal(pipelines._logged(store, world), [[np.nan] * 3, answered["scores"]])
    store.close()


def test_an_action_that_is_another_one_is_counted_from_all_probabilities() -> None:
    sure, unsure = np.array([0.9, 0.05, 0.05]), np.array([0.4, 0.3, 0.3])
    assert not figures._differs(sure, np.array([0.8, 0.1, 0.1]))
    assert figures._differs(sure, unsure)
