"""One offset on scores: found, shrunk, and judged on days that it has not seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.recalibrated import moved
from level2_cicd.control_loop.recalibration import fit_offset, judge
from tests.support.problems import ONE_NUMBER

pytestmark = ONE_NUMBER
DRAWS = np.random.default_rng(0)
BIAS = 0.8 if problem.TASK == "classification" else 3.0


def scores(n: int) -> np.ndarray:
    """Of a model: some cases are likelier, or larger, than others."""
    return DRAWS.uniform(0.05, 0.6, n) if problem.TASK == "classification" else DRAWS.normal(0, 5, n)


def outcomes(p: np.ndarray) -> np.ndarray:
    """As the scores say."""
    return (
        (DRAWS.random(len(p)) < p).astype(float) if problem.TASK == "classification" else p + DRAWS.normal(0, 1, len(p))
    )


def table(y: np.ndarray, days: int) -> pd.DataFrame:
    """Rows of so many days, as many on each."""
    at = pd.Timestamp("2013-05-01T16:00:00Z") + pd.to_timedelta(np.arange(len(y)) * days // len(y), "D")
    return pd.DataFrame({problem.EVENT_TIME: at, problem.TARGET: y, **dict.fromkeys(problem.SLICES, "a")})


def test_the_offset_of_biased_scores_is_found_and_few_rows_move_it_little() -> None:
    p = scores(20_000)
    y = outcomes(moved(p, BIAS))
    assert fit_offset(y, p, prior_rows=0) == pytest.approx(BIAS, rel=0.1)
    assert fit_offset(y[:2000], p[:2000]) == pytest.approx(BIAS / 2, rel=0.25)
    assert abs(fit_offset(y[:20], p[:20])) < BIAS / 20
    assert fit_offset(y[:0], p[:0]) == 0.0


def test_an_offset_is_the_best_one_so_outcomes_and_scores_agree_on_average() -> None:
    p = scores(5000)
    y = outcomes(moved(p, -BIAS))
    assert moved(p, fit_offset(y, p, prior_rows=0)).mean() == pytest.approx(y.mean(), abs=1e-6)


def test_scores_of_0_and_1_and_outcomes_of_one_kind_give_a_finite_offset() -> None:
    p = np.array([0.0, 1.0, 0.5, 0.5])
    for y in (np.zeros(4), np.ones(4)):
        assert np.isfinite(fit_offset(y, p))
    assert moved(p, 2.0)[:2].tolist() == ([0.0, 1.0] if problem.TASK == "classification" else [2.0, 3.0])


def test_an_offset_that_lasts_passes_and_is_fitted_again_on_all_days() -> None:
    p = scores(9000)
    result = judge(table(outcomes(moved(p, BIAS)), 18), p, "version 1")
    assert result
    assert result.verdict.status == "pass", result.verdict.reasons
    assert 0 < result.judged_offset < result.offset < BIAS
    assert result.judged_from == pd.Timestamp("2013-05-12T16:00:00Z")
    assert result.rows == 9000


def test_a_season_that_is_over_on_the_newest_days_does_not_pass() -> None:
    p = scores(9000)
    bias = np.where(np.arange(9000) < 5500, BIAS, -BIAS)
    result = judge(table(outcomes(moved(p, bias)), 18), p, "version 1")
    assert result
    assert result.verdict.status == "fail"


def test_too_few_days_are_not_judged() -> None:
    p = scores(1300)
    assert judge(table(outcomes(p), 13), p, "version 1") is None
    assert judge(table(outcomes(p[:0]), 13), p[:0], "version 1") is None
