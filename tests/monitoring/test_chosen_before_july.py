"""July to December are the days on which the loop is tried. What chooses a number, a model or an action before them does
not read them: each answer below is the same when they are removed or changed.

Constants that a person has set cannot be tested like this; docs/year.md says on which months each was set.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import flights, problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation.day_mean import DAY_CORRELATION
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import maturity_cutoff, split_rows
from level1_pipeline.steps.train import tune_model
from level1_pipeline.store.days import start_of
from tests.support.world import World

pytestmark = [pytest.mark.flights, pytest.mark.slow]
APRIL, JULY = start_of("2013-04-01"), start_of("2013-07-01")


@pytest.fixture(scope="module")
def without_july(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What is known on 1 July, from a source that ends there (but for its first two hours, which were planned)."""
    folder, raw = tmp_path_factory.mktemp("source"), flights.read()
    end = JULY + pd.Timedelta("2h")
    for name, table in zip(flights.SOURCE_FILES, raw, strict=True):
        part = table[table["time_hour"] < end] if "time_hour" in table else table
        part.to_csv(folder / name, index=False)
    return problem.load(JULY, source=folder)


def correlation(figure: np.ndarray, rows: pd.DataFrame) -> float:
    """Of the mean of a day with that of the next one."""
    day = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    means = pd.Series(figure, rows.index).groupby(day).mean().to_numpy()
    return float(np.corrcoef(means[1:], means[:-1])[0, 1])


def test_a_source_that_ends_on_1_july_gives_the_rows_that_the_whole_one_gives(
    without_july: pd.DataFrame, cache: Path
) -> None:
    pd.testing.assert_frame_equal(without_july, problem.load(JULY, cache=cache))
    assert without_july[problem.EVENT_TIME].max() < JULY
    assert without_july[problem.LABEL_TIME].max() < JULY


def test_the_search_of_a_training_chooses_the_same_parameters(
    without_july: pd.DataFrame, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of trees is the one thing about the recipe that was searched for."""
    monkeypatch.setattr(problem, "SEARCH", {"model__max_iter": [2, 4]})
    chosen = [tune_model(split_rows(rows, JULY).train, 2) for rows in (without_july, problem.load(JULY, cache=cache))]
    assert chosen[0][0] == chosen[1][0]
    pd.testing.assert_frame_equal(chosen[0][1], chosen[1][1])


def test_the_correlation_of_days_is_that_of_april_to_june(without_july: pd.DataFrame) -> None:
    """Of what outcomes and losses differ from what the model of 1 April expects."""
    known_rows = without_july[without_july[problem.TARGET].notna()]
    before = known_rows[problem.EVENT_TIME] <= maturity_cutoff(APRIL)
    quarter = known_rows[known_rows[problem.EVENT_TIME] >= APRIL]
    y, p = quarter[problem.TARGET].to_numpy(), predict(fit_model(known_rows[before]), quarter)
    surprise = (p - y) * np.log(p / (1 - p))  # observed loss - expected loss
    assert correlation(y - p, quarter) == pytest.approx(DAY_CORRELATION, abs=0.03)  # 0.48
    assert correlation(surprise, quarter) == pytest.approx(DAY_CORRELATION, abs=0.03)  # 0.52


def test_a_diagnosis_is_the_same_whatever_comes_later(world: World) -> None:
    world.log(world.between("2013-05-27", "2013-07-01"))
    before = world.look("2013-07-01")
    later = world.between("2013-07-01", "2013-07-15")
    world.log(later, scores=np.full(len(later), 0.99))
    assert world.look("2013-07-01") == before
    assert world.look("2013-07-15").diagnosis != before.diagnosis
