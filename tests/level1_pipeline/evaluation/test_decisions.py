"""Dollars lost and saved are exact counts times prices: numbers that a person can check with a pencil."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from level1_pipeline import problem
from level1_pipeline.evaluation.decisions import Decisions, SincePromotion, count
from level1_pipeline.evaluation.metrics import cost
from level1_pipeline.steps import model_card

pytestmark = pytest.mark.flights  # prices of 60 and 20 dollars, and action from a score of 0.25 on

Y = np.array([1.0, 1, 1, 0, 0, 0, 0, 0])
P = np.array([0.9, 0.3, 0.1, 0.5, 0.2, 0.2, 0.2, 0.2])  # a miss (the third) and a needless warning (the fourth)
OWN = Decisions(rows=8, positives=3, misses=1, needless=1)
SINCE, UNTIL = datetime(2013, 5, 1, 4, tzinfo=UTC), datetime(2013, 5, 11, 4, tzinfo=UTC)


def test_wrong_decisions_cost_their_prices_and_save_what_the_best_constant_costs_more() -> None:
    counted = count(Y, P)
    assert counted == OWN
    assert counted.lost == 60 + 20
    assert counted.best_constant == "always act"  # five needless warnings, and not three misses
    assert counted.saved == 5 * 20 - 80
    assert counted.lost / len(Y) == cost(Y, P)


def test_a_model_that_is_worse_than_a_constant_saves_less_than_nothing() -> None:
    counted = count(np.zeros(4), np.full(4, 0.9))
    assert counted is not None
    assert (counted.lost, counted.saved, counted.best_constant) == (80, -80, "never act")


def test_counts_add_up_although_the_best_constant_is_of_all_rows_together() -> None:
    calm, stormy = Decisions(10, 0, 0, 2), Decisions(10, 10, 1, 0)
    assert (calm.saved, stormy.saved) == (0 - 40, 0 - 60)
    assert (calm + stormy).lost == 100
    assert (calm + stormy).saved == 10 * 20 - 100  # always act, on all twenty


def test_there_are_no_dollars_without_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(problem, "COSTS")
    assert count(Y, P) is None
    holdout = pd.DataFrame({problem.TARGET: Y, problem.EVENT_TIME: pd.Timestamp(SINCE)})
    assert model_card.dollars(holdout, {model_card.EVALUATED: P}, None, None).empty


def monitored(champion: str) -> dict[str, Any]:
    """As the monitoring run of a champion is stored."""
    dollars = SincePromotion(SINCE, UNTIL, Decisions(2000, 300, 100, 200), SINCE, Decisions())
    return {"champion": champion, "dollars": TypeAdapter(SincePromotion).dump_python(dollars, mode="json")}


def test_the_model_card_states_the_candidates_dollars_and_those_of_the_champion() -> None:
    times = pd.to_datetime(["2013-05-02T12:00Z"] * 4 + ["2013-05-03T12:00Z"] * 4)
    holdout, predictions = (
        pd.DataFrame({problem.TARGET: Y, problem.EVENT_TIME: times}),
        {model_card.EVALUATED: P},
    )
    own, champion = model_card.dollars(holdout, predictions, "3", monitored("3")).to_dict("records")
    assert own == {
        "decisions": "this model, on the holdout",
        "rows": "8",
        "the best constant decision": "always act",
        "lost, $": "80",
        "lost per 1,000 rows, $": "10,000",
        "lost a day, $": "40",  # of two days
        "saved, $": "20",
        "saved per 1,000 rows, $": "2,500",
        "saved a day, $": "10",
    }
    assert "champion 3" in champion["decisions"]
    assert "2013-05-01 00:00 EDT to 2013-05-11" in champion["decisions"]
    assert (champion["lost, $"], champion["saved, $"]) == ("10,000", "8,000")  # 300 misses would cost 18,000
    assert (champion["lost a day, $"], champion["saved per 1,000 rows, $"]) == ("1,000", "4,000")


@pytest.mark.parametrize("before", [None, {"champion": "3"}, monitored("2")], ids=["no run", "older", "another"])
def test_a_champion_that_was_not_monitored_has_no_line(before: dict[str, Any] | None) -> None:
    holdout = pd.DataFrame({problem.TARGET: Y, problem.EVENT_TIME: pd.Timestamp(SINCE)})
    table = model_card.dollars(holdout, {model_card.EVALUATED: P}, "3", before)
    assert list(table["decisions"]) == ["this model, on the holdout"]
