"""Mistakes that only a problem with several classes can have: one line answers each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from examples.several_classes import problem as tickets
from level1_pipeline import problem, schema
from level1_pipeline.evaluation.contract import check
from level1_pipeline.settings import Settings
from tests.support.problems import in_place

TIME = pd.Timestamp("2024-05-01", tz="UTC")
ALL = tickets.load(pd.Timestamp("2100-01-01", tz="UTC"))
TEAMS = tickets.CLASSES
NO_TUPLE = "CLASSES: must be a tuple of texts or whole numbers; name the classes once each"


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets, monkeypatch):
        yield


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"CLASSES": list(TEAMS)}, NO_TUPLE),
        ({"CLASSES": (True, 1, 2)}, NO_TUPLE),
        ({"CLASSES": ("", "a", "b")}, NO_TUPLE),
        ({"CLASSES": ("a", "b", "a")}, "CLASSES: names a class twice"),
        ({"CLASSES": (1, "1", 2)}, "CLASSES: names a class twice"),
        ({"CLASSES": ("a", "b")}, "CLASSES: names 2; of two classes one is an event: take TASK = 'classification'"),
        ({"choose_action": lambda p: "yes" if p > 0.5 else "no"}, "choose_action: raises TypeError for the score 1, 0, 0"),
        ({"choose_action": lambda p: None}, "choose_action: gives None for the score 1, 0, 0"),
        (
            {"evaluate": lambda y, p: {"log_loss": float(log_loss(y, p, labels=TEAMS)), "accuracy": 0.7}},
            "evaluate: raises .* on a day with many rows",
        ),
        (
            {"PRIMARY_METRIC": "accuracy"},
            "PRIMARY_METRIC: more of 'accuracy' is better",
        ),
    ],
    ids=lambda value: str(next(iter(value)) if isinstance(value, dict) else ""),
)  # fmt: skip
def test_a_mistake_without_a_look_at_rows_is_one_line(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], line: str
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(problem, name, value)
    told = [str(mistake) for mistake in check.static()]
    assert len(told) == 1, told
    assert re.match(line, told[0]), told


def test_a_task_with_several_classes_needs_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(problem, "CLASSES")
    assert [str(mistake) for mistake in check.static()] == ["CLASSES: is missing; docs/level1.md says what it is for"]


def as_known(change: Callable[[pd.DataFrame], pd.Series]) -> Callable[..., pd.DataFrame]:
    """`load` with other labels, of which the later ones are hidden."""

    def load(until: pd.Timestamp, source: Any, cache: Any) -> pd.DataFrame:
        rows = ALL[ALL["came_in_at"] < until]
        labels = change(rows)
        return rows.assign(team=labels.where(rows["solved_at"] < until))

    return load


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda rows: rows["team"].replace("sales", "seals"), "TARGET: 'team' holds 'seals', as str; make them classes of"),
        (lambda rows: rows["team"].replace("sales", "billing"), "CLASSES: names 'sales', which no row has; leave it out"),
        (lambda rows: rows["team"].isna() * 1.0, "TARGET: 'team' holds 0.0, as float; make them classes of CLASSES"),
    ],
    ids=["a misspelt class", "a class that no row has", "places in the place of names"],
)  # fmt: skip
def test_a_mistake_in_the_labels_is_one_line(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[[pd.DataFrame], pd.Series], line: str
) -> None:
    monkeypatch.setattr(problem, "load", as_known(change))
    told = [str(mistake) for mistake in check.mistakes(Settings(home=tmp_path), TIME)]
    assert len(told) == 1, told
    assert re.match(line, told[0]), told


def test_a_class_becomes_its_place_and_an_unknown_label_stays_unknown() -> None:
    rows = pd.DataFrame({"team": ["technical", None, "billing", "sales"]})
    typed = schema.typed(rows)["team"]
    assert typed.dtype == "float64"
    np.testing.assert_array_equal(typed, [2.0, np.nan, 0.0, 1.0])


@pytest.mark.parametrize("dtype", ["int64", "Int64", "float64", "category", object])
def test_classes_may_be_whole_numbers_in_any_type(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    monkeypatch.setattr(problem, "CLASSES", (30, 10, 20))
    typed = schema.typed(pd.DataFrame({"team": pd.Series([10, 20, 30]).astype(dtype)}))["team"]
    assert (typed.dtype, typed.tolist()) == ("float64", [1.0, 2.0, 0.0])
