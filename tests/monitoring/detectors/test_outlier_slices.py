"""Which values of the slices are blamed for their labels: the guilty ones, and no other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.store.quarantine import Quarantined, covers
from monitoring.detectors import concept_drift

pytestmark = pytest.mark.flights
Guilty = Callable[[pd.DataFrame], "pd.Series[bool]"]


@pytest.fixture(scope="module")
def week(rows: pd.DataFrame) -> pd.DataFrame:
    """The flights of a real week, with scores and labels that fit them but for each day's luck."""
    local = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE)
    week = rows[(local >= "2013-05-06") & (local < "2013-05-13")].reset_index(drop=True)
    day = week[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    draw = np.random.default_rng(0)
    score = draw.beta(2, 6, len(week))
    luck = dict(zip(sorted(day.unique()), draw.normal(0, 0.3, day.nunique()), strict=True))
    odds = np.log(score / (1 - score)) + day.map(luck).to_numpy(float)
    label = (draw.random(len(week)) < 1 / (1 + np.exp(-odds))).astype(float)
    return week.assign(day=day, score=score, **{problem.TARGET: label})


def blamed(week: pd.DataFrame) -> list[str]:
    drift = concept_drift.check(week, week["score"].to_numpy())
    return [part.slice for part in drift.outlier_slices]


def always_late(week: pd.DataFrame, guilty: Guilty) -> pd.DataFrame:
    hit = guilty(week) & (np.random.default_rng(1).random(len(week)) < 0.5)
    return week.assign(**{problem.TARGET: week[problem.TARGET].mask(hit, 1.0)})


def never_late(week: pd.DataFrame, guilty: Guilty) -> pd.DataFrame:
    return week.assign(**{problem.TARGET: week[problem.TARGET].mask(guilty(week), 0.0)})


GUILTY: dict[str, tuple[Guilty, list[str]]] = {
    "no slice": (lambda week: week["carrier"] == "none", []),
    "one carrier": (lambda week: week["carrier"] == "EV", ["carrier=EV"]),
    "one airport": (lambda week: week["origin"] == "JFK", ["origin=JFK"]),
    "two carriers": (lambda week: week["carrier"].isin(["EV", "DL"]), ["carrier=DL", "carrier=EV"]),
    "a pair of values": (
        lambda week: (week["origin"] == "EWR") & (week["carrier"] == "UA"),
        ["origin=EWR & carrier=UA"],
    ),
}


@pytest.mark.parametrize("name", GUILTY)
@pytest.mark.parametrize("spoil", [always_late, never_late])
def test_only_the_guilty_values_are_blamed(week: pd.DataFrame, spoil: Callable[..., pd.DataFrame], name: str) -> None:
    guilty, expected = GUILTY[name]
    assert sorted(blamed(spoil(week, guilty))) == sorted(expected)


@pytest.mark.parametrize(
    ("column", "values"),
    [("origin", ["EWR", "JFK"]), ("carrier", ["EV", "UA", "B6", "DL"])],
    ids=["airports", "carriers"],
)
@pytest.mark.parametrize("spoil", [always_late, never_late])
def test_where_most_rows_are_wrong_the_right_ones_are_not_blamed(
    week: pd.DataFrame, spoil: Callable[..., pd.DataFrame], column: str, values: list[str]
) -> None:
    spoiled = spoil(week, lambda rows: rows[column].isin(values))
    assert {part.split(" & ")[0].removeprefix(f"{column}=") for part in blamed(spoiled)} <= set(values)


def test_a_pair_of_values_is_covered_as_a_pair(week: pd.DataFrame) -> None:
    start, end = week[problem.EVENT_TIME].min().to_pydatetime(), week[problem.EVENT_TIME].max().to_pydatetime()
    span = Quarantined(start, end + pd.Timedelta("1s"), "origin=EWR & carrier=UA", "a test")
    assert (covers(week, [span]) == (week["origin"] == "EWR") & (week["carrier"] == "UA")).all()


def test_most_of_the_rows_are_no_explanation(week: pd.DataFrame) -> None:
    """A slice value with 80 % of the rows is nearly everything: leaving it out leaves nothing to explain."""
    draw = np.random.default_rng(2)
    large = week.assign(origin=np.where(draw.random(len(week)) < 0.8, "EWR", "JFK"), carrier="UA")
    drift = concept_drift.check(always_late(large, lambda rows: rows["origin"] != ""), large["score"].to_numpy())
    assert drift.changed
    assert (drift.explained_by_slice, drift.everywhere) == ("", True)


def test_a_regression_without_a_promised_loss_says_that_its_loss_is_not_tested(
    week: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "TASK", "regression")
    drift = concept_drift.check(week, week["score"].to_numpy(), promised=None)
    assert (drift.excess, drift.excess_t) == (None, None)
    assert drift.bias_t != 0
    assert concept_drift.check(week, week["score"].to_numpy(), promised=0.4).excess is not None
