"""Slice label rates: one slice that leaves the others is found, and the real year gives no alarm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.evaluation.labels.label_rates import HISTORY, label_rates
from level1_pipeline.steps.split import SplitRows, split_rows
from level1_pipeline.store.days import start_of
from tests.support.problems import ONE_NUMBER
from tests.support.wrong_labels import flip

SIX_WEEKS = pd.Timedelta("42D")  # four of training, before the holdout and the days that have not matured


@pytest.fixture(autouse=True)
def slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables that the tests make have slices, also where the problem has none."""
    if not len(problem.SLICES):
        monkeypatch.setattr(problem, "SLICES", ("part",))


def parts(rows: pd.DataFrame, day: str) -> SplitRows:
    as_of = start_of(day)
    return split_rows(rows[rows[problem.EVENT_TIME] < as_of], as_of)


@pytest.mark.evidence("labels are poisoned")
@pytest.mark.flights
@pytest.mark.parametrize("day", ["2013-04-01", "2013-05-06", "2013-06-21", "2013-08-02", "2013-09-13", "2013-12-20"])
def test_the_real_year_gives_no_alarm(rows: pd.DataFrame, day: str) -> None:
    split = parts(rows, day)
    check = label_rates(split.train, split.holdout)
    assert check.status == "pass", check.message
    assert "worst of" in check.message


@pytest.mark.evidence("labels are poisoned")
@pytest.mark.flights
@pytest.mark.parametrize(
    ("slices", "day"),
    [
        ({"origin": "JFK"}, "2013-06-21"),
        ({"origin": "JFK"}, "2013-12-06"),
        ({"origin": "EWR"}, "2013-09-13"),
        ({"origin": "LGA"}, "2013-04-26"),
        ({"carrier": "UA"}, "2013-09-13"),
        ({"carrier": "US"}, "2013-06-21"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else value,
)
def test_wrong_labels_of_one_slice_in_the_last_weeks_are_found(
    rows: pd.DataFrame, slices: dict[str, str], day: str
) -> None:
    """In the newest weeks to train on and in the holdout alike, as a fault of the source has it."""
    split = parts(flip(rows, 0.4, slices, since=start_of(day) - SIX_WEEKS), day)
    check = label_rates(split.train, split.holdout)
    assert check.status == "fail", check.message
    assert f"{next(iter(slices))}={next(iter(slices.values()))}" in check.message


def made(gap: float, days: int = 100, regression: bool = False, values: str = "ab") -> SplitRows:
    """Two slices whose labels move together from day to day; `a` lies `gap` higher in the newest fortnight."""
    draws, each = np.random.default_rng(0), 120
    day = np.repeat(np.arange(days), each)
    slices = draws.choice(list(values), len(day))
    level = 0.3 + 0.1 * np.sin(day / 9) + np.where((slices == "a") & (day >= days - 14), gap, 0.0)
    y = 50 * (level + draws.normal(0, 0.3, len(day))) if regression else (draws.random(len(day)) < level).astype(float)
    times = pd.Timestamp("2024-01-01T12:00Z") + pd.to_timedelta(day, unit="D")
    table: dict[str, Any] = {problem.ID: np.arange(len(day)).astype(str), problem.EVENT_TIME: times, problem.TARGET: y}
    frame = pd.DataFrame(table | dict.fromkeys(problem.SLICES, slices))
    return SplitRows(frame[day < days - 14], frame[day >= days - 14])


@pytest.mark.parametrize("regression", [False, True], ids=["classification", "regression"])
@pytest.mark.parametrize(("gap", "status"), [(0.0, "pass"), (0.3, "fail"), (-0.25, "fail")])
@ONE_NUMBER
def test_the_mean_label_of_any_problem_is_judged(gap: float, status: str, regression: bool) -> None:
    assert label_rates(*made(gap, regression=regression)).status == status


def test_a_level_that_moves_in_all_slices_alike_is_no_fault_of_labels() -> None:
    older, holdout = made(0.0, regression=True)
    assert label_rates(older, holdout.assign(**{problem.TARGET: holdout[problem.TARGET] + 100})).status == "pass"


def test_what_cannot_be_judged_says_what_is_missing() -> None:
    assert f"needed: {HISTORY + 14}" in label_rates(*made(0.5, days=50)).message
    alone = label_rates(*made(0.5, values="a"))
    assert (alone.status, "only one value" in alone.message) == ("pass", True)


def test_trusted_labels_count_in_the_place_of_the_source() -> None:
    """A slice that was always wrong in the source has a history only in the trusted rows."""
    older, holdout = made(0.0)
    early = older[problem.EVENT_TIME] < older[problem.EVENT_TIME].min() + pd.Timedelta("30D")
    unlike = older.assign(**{problem.TARGET: older[problem.TARGET].where(~early, 1.0)})
    assert label_rates(unlike, holdout, older[early]) == label_rates(older, holdout)
