"""The one-rule baseline: it is the best threshold on one input, by what decisions cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.metrics import cost
from level1_pipeline.evaluation.one_rule import OneRule
from tests.support.problems import ONE_NUMBER

NUMBERS = [column.name for column in schema.columns() if not column.text]


def made(**columns: np.ndarray) -> pd.DataFrame:
    """Rows whose other numeric inputs are all the same."""
    count = len(next(iter(columns.values())))
    return pd.DataFrame({name: columns.get(name, np.zeros(count)) for name in NUMBERS})


def test_no_other_threshold_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "TASK", "classification")
    monkeypatch.setattr(problem, "COSTS", {"miss": 60.0, "needless": 20.0})
    monkeypatch.setattr(problem, "choose_action", lambda p: "act" if p >= 0.25 else "wait")
    draws = np.random.default_rng(0)
    x = draws.integers(0, 30, 600).astype(float)
    y = pd.Series((draws.random(600) < 0.1 + 0.02 * x).astype(float))
    rows = made(**{NUMBERS[-1]: x})
    rule = OneRule().fit(rows, y)
    assert rule.input == NUMBERS[-1]
    paid = cost(y.to_numpy(), rule.predict(rows))
    for threshold in range(30):
        above = x > threshold
        rates = np.where(above, y[above].mean() if above.any() else 0, y[~above].mean())
        assert paid <= cost(y.to_numpy(), rates) + 1e-9  # type: ignore[operator]


@pytest.mark.parametrize("costs", [None, {"too_high": 1.0}], ids=["no costs", "costs of a regression"])
@ONE_NUMBER
def test_without_prices_the_rule_is_the_stump_of_least_squares(
    costs: dict[str, float] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if costs is None:
        monkeypatch.delattr(problem, "COSTS")
    else:
        monkeypatch.setattr(problem, "COSTS", costs)
        monkeypatch.setattr(problem, "TASK", "regression")
    x = np.arange(100.0)
    rule = OneRule().fit(made(**{NUMBERS[0]: x}), pd.Series(np.where(x > 59, 7.0, 2.0)))
    assert (rule.input, rule.threshold, rule.low, rule.high) == (NUMBERS[0], 59.0, 2.0, 7.0)
    assert str(rule) == f"{NUMBERS[0]} above 59: 7, else 2"


@ONE_NUMBER
def test_a_missing_value_counts_as_low_and_may_be_the_rule() -> None:
    x = np.r_[np.full(50, np.nan), np.arange(50.0)]
    rule = OneRule().fit(made(**{NUMBERS[0]: x}), pd.Series(np.r_[np.zeros(50), np.ones(50)]))
    assert str(rule) == f"{NUMBERS[0]} is not missing: 1, else 0"
    assert rule.predict(made(**{NUMBERS[0]: np.array([np.nan, 3.0])})).tolist() == [0.0, 1.0]


@ONE_NUMBER
def test_where_no_threshold_helps_it_says_the_mean() -> None:
    rule = OneRule().fit(made(**{NUMBERS[0]: np.full(9, np.nan)}), pd.Series([0.0, 1.0, 0.0] * 3))
    assert "no threshold" in str(rule)
    assert rule.predict_proba(made(**{NUMBERS[0]: np.array([1.0])})) == pytest.approx(np.array([[2 / 3, 1 / 3]]))


@pytest.mark.flights
def test_the_rule_of_the_flights_is_the_recent_delay_and_earns_most_of_what_the_model_earns(rows: pd.DataFrame) -> None:
    """The model of the same day costs 2.52 M$ over these months, and silence 3.70 M$ (docs/level1.md)."""
    april = pd.Timestamp("2013-04-01", tz=problem.TIMEZONE)
    labelled = rows[rows[problem.TARGET].notna()]
    old = labelled[problem.EVENT_TIME] < april
    rule = OneRule().fit(labelled.loc[old, schema.names()], labelled.loc[old, problem.TARGET])
    assert rule.input == "recent_delay"
    assert 5 < rule.threshold < 12
    y = labelled.loc[~old, problem.TARGET].to_numpy()
    paid, silent = (cost(y, p) for p in (rule.predict(labelled[~old]), np.zeros(len(y))))
    assert paid * len(y) == pytest.approx(2.57e6, rel=0.01)  # type: ignore[operator]
    assert paid < 0.7 * silent  # type: ignore[operator]
