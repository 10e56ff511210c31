"""Split by time, fit the same bits in every process, search without a look at the holdout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import NotEnoughData
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import SplitRows, split_rows
from level1_pipeline.steps.train import fit_baselines, tune_model
from tests.support import ROOT
from tests.support.problems import ONE_NUMBER

HOLDOUT = pd.Timedelta(days=problem.GATE["holdout_days"])
MATURITY = pd.Timedelta(hours=problem.GATE["maturity_hours"])


def midnight(rows: pd.DataFrame, share: float) -> pd.Timestamp:
    """The beginning of a local day after this share of the period."""
    first, last = rows[problem.EVENT_TIME].min(), rows[problem.EVENT_TIME].max()
    return (first + share * (last - first)).tz_convert(problem.TIMEZONE).normalize().tz_convert("UTC")


@pytest.fixture(scope="module", params=[0.2, 0.35, 0.86])
def as_of(request: pytest.FixtureRequest, rows: pd.DataFrame) -> pd.Timestamp:
    night = midnight(rows, request.param)
    matured = rows.loc[rows[problem.EVENT_TIME] <= night - MATURITY, problem.EVENT_TIME]
    fewest = min((matured <= night - MATURITY - HOLDOUT).sum(), (matured > night - MATURITY - HOLDOUT).sum())
    if fewest < problem.GATE["min_rows"]:
        pytest.skip(f"{problem.NAME} has too few rows by then to train and to judge with: {fewest}")
    return night


@pytest.fixture(scope="module")
def known_rows(as_of: pd.Timestamp, cache: Path) -> pd.DataFrame:
    return schema.typed(problem.load(as_of, cache=cache))


# ---- split


@pytest.mark.evidence("Level 1: split by time")
def test_every_row_to_judge_with_is_later_than_every_row_to_train_on(
    known_rows: pd.DataFrame, as_of: pd.Timestamp
) -> None:
    shuffled = known_rows.sample(frac=1, random_state=0)  # the order of the rows must not matter
    train, holdout = split_rows(shuffled, as_of)
    assert train[problem.EVENT_TIME].max() < holdout[problem.EVENT_TIME].min()
    assert set(train[problem.ID]).isdisjoint(holdout[problem.ID])


def test_the_holdout_is_the_newest_matured_fortnight(known_rows: pd.DataFrame, as_of: pd.Timestamp) -> None:
    train, holdout = split_rows(known_rows, as_of)
    newest = as_of - MATURITY
    assert holdout[problem.EVENT_TIME].max() <= newest
    assert holdout[problem.EVENT_TIME].min() > newest - HOLDOUT
    assert train[problem.EVENT_TIME].max() <= newest - HOLDOUT
    between = known_rows[known_rows[problem.EVENT_TIME].between(newest - HOLDOUT, newest, inclusive="right")]
    assert len(holdout) == between[problem.TARGET].notna().sum()
    before = known_rows[known_rows[problem.EVENT_TIME] <= newest - HOLDOUT]
    assert len(train) == before[problem.TARGET].notna().sum()


@pytest.mark.flights
def test_flights_are_used_only_when_scheduled_36_hours_before_and_landed_before(
    known_rows: pd.DataFrame, as_of: pd.Timestamp
) -> None:
    pool = split_rows(known_rows, as_of).pool
    scheduled = pool[problem.EVENT_TIME] + pd.Timedelta("1h")
    assert scheduled.max() <= as_of - pd.Timedelta("36h")
    assert scheduled.max() > as_of - pd.Timedelta("48h")  # and no more than that is given away
    assert (pool[problem.LABEL_TIME] < as_of).all()


@pytest.mark.evidence("labels come late", "Level 1: split by time")
def test_open_labels_leave_no_hole_so_the_rate_is_that_of_the_final_truth(
    known_rows: pd.DataFrame, as_of: pd.Timestamp, rows: pd.DataFrame
) -> None:
    """The labels that arrive late are mostly those of late flights: none may be missing from the pool."""
    pool = split_rows(known_rows, as_of).pool
    truth = rows[(rows[problem.EVENT_TIME] <= as_of - MATURITY) & rows[problem.TARGET].notna()]
    assert set(pool[problem.ID]) == set(truth[problem.ID])
    assert pool[problem.TARGET].notna().all()
    assert pool[problem.TARGET].mean() == pytest.approx(truth[problem.TARGET].mean())


@pytest.mark.evidence("labels come late")
@pytest.mark.flights
def test_without_the_maturity_cutoff_late_flights_would_be_missing(rows: pd.DataFrame) -> None:
    """The test above can fail: at midnight many labels of the day are open, and mostly those of late flights."""
    open_, matured = [], []
    for share in np.linspace(0.1, 0.9, 25):
        night = midnight(rows, share)
        age = night - rows[problem.EVENT_TIME]
        day = rows[(age > pd.Timedelta(0)) & (age <= pd.Timedelta("24h")) & rows[problem.TARGET].notna()]
        later = day[problem.LABEL_TIME] >= night
        open_.append(day.loc[later, problem.TARGET])
        matured.append(day.loc[~later, problem.TARGET])
    assert pd.concat(open_).mean() > 1.5 * pd.concat(matured).mean()


def test_too_early_a_day_is_refused_with_the_counts_and_what_to_do(rows: pd.DataFrame, cache: Path) -> None:
    early = midnight(rows, 0) + HOLDOUT
    with pytest.raises(NotEnoughData) as refused:
        split_rows(problem.load(early, cache=cache), early)
    local = f"{early.tz_convert(problem.TIMEZONE):%Y-%m-%d}"
    assert all(
        part in str(refused.value)
        for part in (
            local,
            "there are 0 rows to train on",
            f"{problem.GATE['min_rows']:,} of each",
            "--as-of",
            "min_rows",
        )
    )


def test_an_empty_table_is_not_enough(rows: pd.DataFrame) -> None:
    with pytest.raises(NotEnoughData, match="there are 0 rows to train on and 0 to judge with"):
        split_rows(rows.head(0), midnight(rows, 0.5))


@pytest.mark.skipif(problem.TASK != "classification", reason="a regression has no classes")
def test_a_single_class_is_nothing_to_learn_from(known_rows: pd.DataFrame, as_of: pd.Timestamp) -> None:
    never = known_rows.assign(
        **{problem.TARGET: known_rows[problem.TARGET].where(known_rows[problem.TARGET].isna(), 0.0)}
    )
    with pytest.raises(NotEnoughData, match=f"no row to train on has {problem.TARGET} = 1: there is nothing to learn"):
        split_rows(never, as_of)


# ---- fit

FIT = """
import sys, numpy as np, pandas as pd
from level1_pipeline.bundle.predict import predict
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.train import fit_baselines
train, holdout = (pd.read_parquet(path) for path in sys.argv[1:3])
models = {"judged": fit_model(train), **fit_baselines(train)}
np.savez(sys.argv[3], **{name: predict(model, holdout) for name, model in models.items()})
"""


@pytest.fixture(scope="module")
def parts(rows: pd.DataFrame, cache: Path) -> SplitRows:
    """A small split of real rows."""
    for share in (0.16, 0.4, 0.7, 0.9, 1.0):  # of few rows nearly all are needed
        as_of = midnight(rows, share)
        try:
            train, holdout = split_rows(schema.typed(problem.load(as_of, cache=cache)), as_of)
            break
        except NotEnoughData:
            if problem.NAME == "flight_delay" or share == 1.0:
                raise
    return SplitRows(train.iloc[::3], holdout)


@pytest.mark.evidence("Infra 1", "Level 1: reproducible")
@pytest.mark.integration
@pytest.mark.slow
def test_processes_with_one_and_two_threads_predict_the_same_bits_from_one_snapshot(
    parts: SplitRows, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{name}.parquet" for name in ("train", "holdout")]
    for path, part in zip(paths, parts, strict=True):
        part.to_parquet(path, index=False)
    result = {}
    for threads, seed in (("1", "1"), ("2", "2"), ("2", "3")):
        out = tmp_path / f"{threads}-{seed}.npz"
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-W", "ignore", "-c", FIT, *map(str, [*paths, out])]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
        result[threads, seed] = dict(np.load(out))
    first = result["1", "1"]
    for other in result.values():
        assert np.array_equal(other["judged"], first["judged"])
        assert np.array_equal(other["constant"], first["constant"])
        assert np.allclose(other["linear"], first["linear"], atol=1e-9)  # a yardstick: BLAS may sum in another order
    assert len(np.unique(first["judged"])) > 100


def test_fitting_neither_changes_the_rows_nor_looks_at_anything_but_the_record(parts: SplitRows) -> None:
    rows = parts.train.head(3000)
    before = rows.copy()
    plain = predict(fit_model(rows), parts.holdout)
    pd.testing.assert_frame_equal(rows, before)
    others = [c for c in rows.columns if c not in (*schema.names(), problem.TARGET)]
    assert np.array_equal(predict(fit_model(rows.drop(columns=others)), parts.holdout), plain)


@ONE_NUMBER
def test_the_constant_says_the_mean_and_the_linear_model_does_not(parts: SplitRows) -> None:
    models = fit_baselines(parts.train)
    answer = {name: predict(model, parts.holdout) for name, model in models.items()}
    assert set(answer) == {"constant", "linear", "one rule"}
    assert answer["constant"] == pytest.approx(parts.train[problem.TARGET].mean())
    assert np.isfinite(answer["linear"]).all()
    assert answer["linear"].std() > 0


# ---- search


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """One bad and one good setting of the flights' trees."""
    space: dict[str, list[Any]] = {"model__max_iter": [1, 40], "model__learning_rate": [0.1]}
    monkeypatch.setattr(problem, "SEARCH", space)
    return space


@pytest.mark.evidence("Model 3")
@pytest.mark.flights
@pytest.mark.integration
@pytest.mark.slow
def test_tune_takes_the_setting_that_is_best_on_the_newest_days(parts: SplitRows, search: dict[str, Any]) -> None:
    best, tried = tune_model(parts.train, 2)
    assert len(tried) == 3  # the recipe as it stands, and two
    cut = parts.train[problem.EVENT_TIME].max() - HOLDOUT
    older = parts.train[parts.train[problem.EVENT_TIME] <= cut]
    newer = parts.train[parts.train[problem.EVENT_TIME] > cut]
    for _, line in tried.iterrows():
        p = predict(fit_model(older, line["parameters"]), newer)
        again = problem.evaluate(newer[problem.TARGET].to_numpy(), p)[problem.PRIMARY_METRIC]
        assert line[problem.PRIMARY_METRIC] == again
    assert best == tried.loc[tried[problem.PRIMARY_METRIC].idxmin(), "parameters"]


@pytest.mark.evidence("Model 3")
@pytest.mark.flights
def test_tune_validates_in_time_order_so_a_world_that_turned_changes_its_choice(
    parts: SplitRows, search: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When late became on time a week ago, the timid setting is best on the newest days; a shuffled validation
    would learn the new world too and would not notice."""
    monkeypatch.setitem(problem.GATE, "holdout_days", 4)
    assert tune_model(parts.train, 2)[0].get("model__max_iter") != 1
    turned = parts.train[problem.EVENT_TIME] > parts.train[problem.EVENT_TIME].max() - pd.Timedelta(days=4)
    target = parts.train[problem.TARGET]
    world = parts.train.assign(**{problem.TARGET: target.where(~turned, 1 - target)})
    assert tune_model(world, 2)[0]["model__max_iter"] == 1


@pytest.mark.flights
def test_tune_tries_each_setting_once_when_more_are_asked_for_than_there_are(
    parts: SplitRows, search: dict[str, Any]
) -> None:
    _, tried = tune_model(parts.train, 50)
    assert len(tried) == 1 + 2


def test_tune_refuses_when_no_older_rows_are_left_to_fit_on(parts: SplitRows) -> None:
    newest = parts.train[parts.train[problem.EVENT_TIME] > parts.train[problem.EVENT_TIME].max() - HOLDOUT / 2]
    with pytest.raises(NotEnoughData, match="leave out --tune"):
        tune_model(newest, 2)
