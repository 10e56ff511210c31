"""Logged requests must equal what the training code makes of the same cases, to the last bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.settings import Settings
from monitoring.data.collect import training_rows
from monitoring.detectors import training_serving_skew
from tests.support.problems import SLICED


@pytest.fixture(scope="module")
def made(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.head(3000)


@pytest.fixture
def logged(made: pd.DataFrame) -> pd.DataFrame:
    return made.assign(id=made[problem.ID])


def a_number() -> str:
    return next(column.name for column in schema.columns() if not column.text and not column.nullable)


def test_equal_rows_are_equal_missing_values_too(logged: pd.DataFrame, made: pd.DataFrame) -> None:
    result = training_serving_skew.compare(logged, made)
    assert (result.verdict, result.checked, result.mismatched) == ("equal", len(made), 0)


@pytest.mark.evidence("Monitor 3", "the service computes an input differently", "Level 2: no training-serving skew")
def test_one_input_scaled_in_serving_is_caught_and_named(logged: pd.DataFrame, made: pd.DataFrame) -> None:
    name = a_number()
    result = training_serving_skew.compare(logged.assign(**{name: logged[name] * 1.0001}), made)
    assert result.verdict == "different"
    assert list(result.columns) == [name]
    assert result.mismatched == (made[name] != made[name] * 1.0001).sum()
    assert name in result.examples[0]


@pytest.mark.evidence("Monitor 3", "the service computes an input differently")
def test_a_difference_in_the_last_bit_and_a_lost_value_are_caught(logged: pd.DataFrame, made: pd.DataFrame) -> None:
    name = a_number()
    changed = logged[name].copy()
    changed.iloc[0] = np.nextafter(changed.iloc[0], np.inf)
    changed.iloc[1] = np.nan
    assert training_serving_skew.compare(logged.assign(**{name: changed}), made).mismatched == 2


@SLICED
def test_only_the_days_and_the_slice_that_differ_are_named(logged: pd.DataFrame, made: pd.DataFrame) -> None:
    name, slice_ = a_number(), problem.SLICES[0]
    day = logged[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.strftime("%Y-%m-%d")
    second, value = sorted(day.unique())[1], logged[slice_].iloc[0]
    wrong = (day == second) & (logged[slice_] == value)
    result = training_serving_skew.compare(logged.assign(**{name: logged[name].mask(wrong, logged[name] + 1)}), made)
    assert (result.days, result.slice) == ((second,), f"{slice_}={value}")
    result = training_serving_skew.compare(
        logged.assign(**{name: logged[name].mask(day == second, logged[name] + 1)}), made
    )
    assert (result.days, result.slice) == ((second,), "")


def test_unknown_ids_an_empty_log_and_no_source_are_inconclusive(logged: pd.DataFrame, made: pd.DataFrame) -> None:
    strangers = logged.assign(id="x-" + logged["id"])
    for item in (
        training_serving_skew.compare(strangers, made),
        training_serving_skew.compare(logged.head(0), made),
        training_serving_skew.compare(logged, "the source cannot be read: gone"),
    ):
        assert (item.verdict, item.checked) == ("inconclusive", 0)
        assert item.message


@pytest.mark.flights
def test_a_source_that_is_gone_says_so(home: Settings) -> None:
    made = training_rows(home.changed({"source": home.home / "nowhere"}), pd.Timestamp("2013-05-01", tz="UTC"))
    assert isinstance(made, str)
    assert "nowhere" in made
