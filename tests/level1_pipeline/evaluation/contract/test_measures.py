"""A problem that the later levels could not compare day by day is refused in one line, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from examples.simulated_regression import problem as friedman
from level1_pipeline import problem
from level1_pipeline.errors import ProblemRefused
from level1_pipeline.evaluation import gate, metrics
from level1_pipeline.evaluation.contract import measures
from level1_pipeline.evaluation.contract.rows import entity_warning
from level1_pipeline.orchestration.run import Request, run_training
from level1_pipeline.settings import Settings

REST = {"log_loss": 0.5, "roc_auc": 0.7, "calibration": 1.0}


def raises(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    raise ValueError("only one class in y")


BROKEN: list[tuple[Callable[..., Any], str, str]] = [
    (raises, "log_loss", "raises ValueError on a day with many rows (only one class in y)"),
    (lambda y, p: REST | {"score": 1 - roc_auc_score(y, p)}, "score", "'score' is nan on a day with one row"),
    (lambda y, p: REST | {"score": 1 - r2_score(y, p)}, "score", "'score' is nan on a day with one row"),
    (
        lambda y, p: REST | {"lost": float(np.log(y.mean()) + ((y - p) ** 2).mean())},
        "lost",
        "'lost' is -inf on a day with one row without",
    ),
    (lambda y, p: REST, "brier", "names 'brier', which `evaluate` does not give; possible are calibration, log_loss"),
]


@pytest.mark.flights
@pytest.mark.parametrize(("evaluate", "primary", "line"), BROKEN, ids=["raises", "auc", "r2", "infinite", "absent"])
def test_a_metric_that_a_day_cannot_have_is_refused_before_a_training(
    home: Settings, monkeypatch: pytest.MonkeyPatch, evaluate: Callable[..., Any], primary: str, line: str
) -> None:
    monkeypatch.setattr(problem, "evaluate", evaluate)
    monkeypatch.setattr(problem, "PRIMARY_METRIC", primary)
    with pytest.raises(ProblemRefused, match="problem") as refusal:
        run_training(home, Request())
    assert line in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_metrics_of_the_problem_are_defined_on_every_day(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [*measures.evaluate(), *measures.direction()] == []
    for name in ("evaluate", "PRIMARY_METRIC", "GATE", "TASK"):
        monkeypatch.setattr(problem, name, getattr(friedman, name))
    assert [*measures.evaluate(), *measures.direction()] == []


@pytest.mark.flights
@pytest.mark.parametrize("undefined", [np.nan, ValueError("one class")], ids=["nan", "raises"])
def test_days_without_the_metric_do_not_spoil_a_comparison(monkeypatch: pytest.MonkeyPatch, undefined: Any) -> None:
    def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
        if len(np.unique(y)) < 2 and isinstance(undefined, Exception):
            raise undefined
        return {problem.PRIMARY_METRIC: 1 - roc_auc_score(y, p) if len(np.unique(y)) > 1 else np.nan}

    monkeypatch.setattr(problem, "evaluate", evaluate)
    start, y = pd.Timestamp("2013-05-01 12:00", tz="UTC"), [1, 1, 0, 0, *[0, 1] * 8]
    days = [start + pd.Timedelta(days=place // 2) for place in range(20)]
    rows = pd.DataFrame({problem.EVENT_TIME: days, problem.TARGET: y, "origin": "JFK", "carrier": "AA"})
    worse, better = np.full(20, 0.5), np.array(y) * 0.5 + 0.2
    seen = metrics.compare(rows, worse, better)
    assert (seen.days, seen.gain) == (8, 0.5)
    nothing = metrics.compare(rows.head(4), worse[:4], better[:4])
    assert (nothing.days, nothing.gain, nothing.harm_bound) == (0, 0.0, np.inf)
    checks, _ = gate.better_than_champion(rows.tail(18).assign(**{problem.TARGET: 0}), worse[2:], better[2:], "it")
    assert [check.status for check in checks] == ["inconclusive"]
    assert "is a number on 0 of 9 days only" in checks[0].message


@pytest.mark.parametrize(
    ("entities", "warned"),
    [(["a"] * 100, True), (["a"] * 20 + list(range(80)), True), (list("abcde") * 20, True), (list(range(100)), False)],
    ids=["constant", "one is large", "few", "many"],
)
def test_an_entity_with_many_of_the_rows_is_a_warning_before_a_rollout(entities: list[Any], warned: bool) -> None:
    warning = entity_warning(pd.DataFrame({problem.ENTITY: entities}).astype(str))
    assert bool(warning) == warned
    assert ("finer ENTITY in problem.py" in warning) == warned


def test_the_entities_of_the_problem_are_small_enough(rows: pd.DataFrame) -> None:
    assert entity_warning(rows) == ""
