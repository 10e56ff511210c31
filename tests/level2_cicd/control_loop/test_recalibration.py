"""Where a training waits, an offset on the champion's scores: a version of its own, judged, rolled out, and traceable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.load import bundle_checksum
from level1_pipeline.bundle.recalibrated import moved
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps import evaluate
from level1_pipeline.store.audit import Recalibrated, TrainingRefused
from level2_cicd import lineage
from level2_cicd.control_loop import operate
from level2_cicd.control_loop.operate import Operator
from level2_cicd.rollout import record
from monitoring import history
from monitoring.results import Window
from tests.support import monitoring_runs
from tests.support.monitoring_runs import CHANGE
from tests.support.problems import ONE_NUMBER
from tests.support.serving import Models, edit_manifest, set_route
from tests.support.world import World, midnight

pytestmark = [pytest.mark.integration, pytest.mark.slow, ONE_NUMBER]

FIRST, TODAY = "2013-01-10", "2013-01-31"  # the days that were answered, and now
ROWS_A_DAY = 250
BIAS = 1.2 if problem.TASK == "classification" else 3.0
NO_TRAINING = {"clock": "replay", "min_new_outcomes": 10**9, "monitor_every_days": 0.5}
Plant = Callable[[np.ndarray], np.ndarray]  # from scores to what really happened


@pytest.fixture
def answered(home: Settings, models: Models, rows: pd.DataFrame) -> Callable[[Plant], Settings]:
    """Three weeks of answers of version 1, with the outcomes that a test plants."""

    def make(plant: Plant) -> Settings:
        folder = models.publish(home.home, "1", 0)
        recipe = {"source_digest": "s", "lock_digest": "l", "parameters": {}, "as_of": "2013-01-05T05:00:00+00:00"}
        edit_manifest(folder, **recipe)
        set_route(home, champion="1")
        world = World(home, rows, home.home / "unused")
        world.store.record_checksum(problem.NAME, "1", bundle_checksum(folder))
        days = world.between(FIRST, TODAY)
        days = days[days[problem.TARGET].notna()]
        day = days[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
        days = days.groupby(day).head(ROWS_A_DAY).reset_index(drop=True)
        scores = world.score(days, "1")
        world.log(days.assign(**{problem.TARGET: plant(scores)}), "1", scores=scores)
        world.store.set_replay_time(midnight(TODAY).to_pydatetime())
        return home.changed(NO_TRAINING)

    return make


@pytest.fixture
def operated(monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], Operator]:
    """A loop whose monitoring says that the concept drifts."""

    def look(settings: Settings, now: Any, length: int) -> Any:
        registry = Registry(settings)
        week = Window(now - timedelta(days=7), now)
        run = replace(monitoring_runs.a_run(CHANGE), window=week, at=now, champion=registry.route().champion)
        history.record(registry.store, run)
        return run

    monkeypatch.setattr(operate, "run_monitoring", look)
    return lambda settings: Operator(settings, train=lambda *_: pytest.fail("no training"), publish=lambda *_: None)


def as_scores_say(scores: np.ndarray, bias: float = 0.0) -> np.ndarray:
    draws, p = np.random.default_rng(1), moved(scores, bias)
    return (draws.random(len(p)) < p).astype(float) if problem.TASK == "classification" else p


def biased(scores: np.ndarray) -> np.ndarray:
    return as_scores_say(scores, BIAS)


def unrelated(scores: np.ndarray) -> np.ndarray:
    """Half of all, whatever the model says: an offset helps, and is not enough."""
    return (np.random.default_rng(2).random(len(scores)) < 0.5).astype(float)


def texts(settings: Settings) -> list[str]:
    return [line.text for line in Registry(settings).store.audit_log(problem.NAME)]


def test_a_bias_is_taken_away_by_a_version_with_its_own_bundle_lineage_and_short_rollout(
    answered: Any, operated: Any
) -> None:
    settings = answered(biased)
    registry = Registry(settings)
    messages = operated(settings).cycle()
    assert any("recalibration: gate pass" in message for message in messages), messages
    assert texts(settings)[1:7] == [
        TrainingRefused.text,
        "recalibrate: gate pass",
        "promote to challenger",
        "rollout: start",
        "rollout: blessed",
        "rollout: shadow",
    ]
    made = str(registry.route().challenger)
    rollout = record.current(registry.store)
    assert rollout
    assert rollout.refresh  # the champion's recipe
    bundle, parent = registry.load(made), registry.load("1")
    offset = bundle.manifest["recalibration"]["offset"]
    assert BIAS / 3 < offset < BIAS
    assert bundle.manifest["recalibration"]["parent"] == "1"
    assert bundle.manifest["trained_until"] > parent.manifest["trained_until"]
    assert bundle.evaluation_model
    assert bundle.evaluation_model.manifest["trained_until"] < bundle.manifest["trained_until"]
    assert registry.client.get_model_version(problem.NAME, made).tags["parent"] == "1"
    assert registry.route().champion == "1"


def test_its_scores_are_the_parent_s_with_the_offset_and_a_trace_says_so(
    answered: Any, operated: Any, models: Models
) -> None:
    settings = answered(biased)
    operated(settings).cycle()
    registry = Registry(settings)
    made = str(registry.route().challenger)
    bundle = registry.load(made)
    expected = moved(registry.load("1").predict(models.records), bundle.manifest["recalibration"]["offset"])
    assert bundle.predict(models.records) == pytest.approx(expected, abs=1e-12)
    origin = lineage._origin(bundle.manifest)
    assert "on the scores of version 1, from" in origin["recalibration"]
    assert registry.load("1").manifest["trained_until"] in origin["data window"]


def test_the_gate_of_a_training_compares_its_candidate_with_the_champion_without_the_offset(
    answered: Any, operated: Any, models: Models
) -> None:
    settings = answered(biased)
    operated(settings).cycle()
    registry = Registry(settings)
    run: Any = SimpleNamespace(registry=registry)
    made = str(registry.route().challenger)
    opponent, name = evaluate._without_offset(run, made)
    assert opponent.predict(models.records).tolist() == registry.load("1").predict(models.records).tolist()
    assert name == f"champion {made} without its offset"
    assert evaluate._without_offset(run, "1")[1] == "champion 1"


@pytest.mark.parametrize("plant", [as_scores_say, unrelated], ids=["calibrated", "order lost"])
def test_no_offset_is_served_where_none_is_needed_or_the_order_is_lost(
    answered: Any, operated: Any, plant: Plant
) -> None:
    settings = answered(plant)
    operator = operated(settings)
    operator.cycle()
    route = operator.registry.route()
    assert (route.champion, route.challenger) == ("1", None)
    (line,) = (line for line in operator.store.audit_log(problem.NAME) if isinstance(line.action, Recalibrated))
    assert line.action == Recalibrated("fail", "1")
    if plant is unrelated:
        assert "ranking is intact" in line.reason


def test_it_is_tried_once_in_the_cooldown_of_trainings(answered: Any, operated: Any) -> None:
    settings = answered(unrelated)
    operator = operated(settings)
    for day in range(3):
        operator.store.set_replay_time((midnight(TODAY) + pd.Timedelta(days=day)).to_pydatetime())
        operator.cycle()
    assert texts(settings).count("recalibrate: gate fail") == 1
    assert texts(settings).count(TrainingRefused.text) == 3
