"""The gate on a problem with several classes: real models, and failures that are planted in one class only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from examples.several_classes import problem as tickets
from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import NotEnoughData
from level1_pipeline.evaluation import gate, leakage, metrics, staleness
from level1_pipeline.evaluation.labels import trusted_checks
from level1_pipeline.evaluation.labels.label_rates import label_rates
from level1_pipeline.evaluation.one_rule import OneRule
from level1_pipeline.schema.scores import shape
from level1_pipeline.steps import model_card
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.model_card import EVALUATED
from level1_pipeline.steps.split import SplitRows, split_rows
from level1_pipeline.steps.train import fit_baselines
from tests.support.problems import in_place

TIME = pd.Timestamp("2024-05-01", tz="UTC")
BILLING, SALES, TECHNICAL = range(3)


@pytest.fixture(autouse=True, scope="module")
def several() -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets):
        yield


@pytest.fixture(scope="module")
def parts(several: None) -> SplitRows:
    return split_rows(schema.typed(problem.load(TIME)), TIME)


@pytest.fixture(scope="module")
def model(parts: SplitRows) -> Any:
    return fit_model(parts.train, {})


@pytest.fixture(scope="module")
def scores(parts: SplitRows, model: Any) -> np.ndarray:
    return predict(model, parts.holdout)


@pytest.fixture(scope="module")
def baselines(parts: SplitRows) -> dict[str, np.ndarray]:
    return {name: predict(fitted, parts.holdout) for name, fitted in fit_baselines(parts.train).items()}


def merged(scores: np.ndarray) -> np.ndarray:
    """A model that gives up sales: half of what it says of them goes to billing."""
    lost = scores.copy()
    lost[:, BILLING] += 0.5 * lost[:, SALES]
    lost[:, SALES] *= 0.5
    return lost


def status(checks: list[gate.Check]) -> list[str]:
    return [check.status for check in checks]


def test_a_good_model_passes_every_check(
    parts: SplitRows, scores: np.ndarray, baselines: dict[str, np.ndarray]
) -> None:
    constant = (parts.holdout, scores, baselines["constant"], "a constant")
    checks = [
        gate.enough_data(parts.holdout),
        gate.sound_numbers(scores),
        *gate.within_limits(problem.evaluate(parts.holdout[problem.TARGET].to_numpy(), scores)),
        *gate.beats(parts.holdout, scores, baselines),
        gate.no_slice_harmed(*constant),
        *gate.no_class_lost(*constant),
        leakage.no_leakage(*parts),
        leakage.not_too_good(*parts, scores),
        label_rates(*parts),
    ]
    assert {check.name: check.message for check in checks if check.status != "pass"} == {}
    assert scores.shape == shape(len(parts.holdout))


def test_a_class_that_the_model_gave_up_is_found_although_all_slices_are_well(
    parts: SplitRows, scores: np.ndarray, baselines: dict[str, np.ndarray]
) -> None:
    lost = gate.no_class_lost(parts.holdout, merged(scores), scores, "champion 3")
    assert status(lost) == ["fail"]
    assert "the rows of team sales are +0.69" in lost[0].message
    assert gate.no_slice_harmed(parts.holdout, merged(scores), baselines["constant"], "a constant").status == "pass"
    checks, _ = gate.better_than_champion(parts.holdout, scores, merged(scores), "champion 3")
    assert "classes against champion 3" in [check.name for check in checks if check.status == "fail"]


def test_a_class_with_few_rows_is_not_judged(
    parts: SplitRows, scores: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "GATE", {**problem.GATE, "class_min_rows": 10_000})
    (check,) = gate.no_class_lost(parts.holdout, merged(scores), scores, "champion 3")
    assert check == gate.Check("classes against champion 3", "pass", "no class has rows enough to be judged")


def test_the_same_recipe_on_other_rows_loses_no_class(parts: SplitRows, scores: np.ndarray) -> None:
    half = predict(fit_model(parts.train.iloc[::2], {}), parts.holdout)
    assert status(gate.no_class_lost(parts.holdout, half, scores, "the model of all rows")) == ["pass"]


def test_shares_that_do_not_sum_to_one_are_no_sound_numbers(scores: np.ndarray) -> None:
    assert gate.sound_numbers(scores * 1.01).status == "fail"


@pytest.mark.parametrize("place", [BILLING, SALES, TECHNICAL], ids=tickets.CLASSES)
def test_an_input_that_has_seen_one_class_is_found_and_named(parts: SplitRows, place: int) -> None:
    draws = np.random.default_rng(0)
    spoiled = [
        rows.assign(
            errors=rows["errors"].mask((rows[problem.TARGET] == place) & (draws.random(len(rows)) < 0.9), 400.0)
        )
        for rows in parts
    ]
    check = leakage.no_leakage(*spoiled)
    assert check.status == "fail"
    assert check.message.startswith("errors")
    assert f"(about team {tickets.CLASSES[place]}) has AUC" in check.message


def test_a_value_that_is_missing_only_in_one_class_is_found(parts: SplitRows) -> None:
    spoiled = [rows.assign(errors=rows["errors"].mask(rows[problem.TARGET] == SALES)) for rows in parts]
    assert "(about team sales)" in leakage.no_leakage(*spoiled).message


def test_a_model_that_knows_the_labels_is_too_good(parts: SplitRows, scores: np.ndarray) -> None:
    truth = np.eye(3)[parts.holdout[problem.TARGET].to_numpy(int)]
    assert leakage.not_too_good(*parts, 0.2 * scores + 0.8 * truth).status == "fail"


def test_the_one_rule_says_the_shares_of_each_side(parts: SplitRows) -> None:
    rule = OneRule().fit(parts.train[schema.names()], parts.train[problem.TARGET])
    above = parts.train[rule.input] > rule.threshold
    labels = parts.train[problem.TARGET]
    assert rule.high == pytest.approx([(labels[above] == place).mean() for place in range(3)])
    assert rule.low == pytest.approx([(labels[~above] == place).mean() for place in range(3)])
    assert predict(rule, parts.holdout).sum(axis=1) == pytest.approx(np.ones(len(parts.holdout)))
    assert re.search(r" above .*: billing [.\d]+, sales [.\d]+, technical [.\d]+, else billing ", str(rule))


def test_labels_of_one_class_that_go_wrong_in_one_slice_are_found(parts: SplitRows) -> None:
    late = parts.holdout
    wrong = (late["product"] == "card") & (late[problem.TARGET] == SALES)
    flipped = late.assign(**{problem.TARGET: late[problem.TARGET].mask(wrong, TECHNICAL)})
    check = label_rates(parts.train, flipped)
    assert check.status == "fail", check
    assert "product=card left its history" in check.message


def test_a_model_of_wrong_labels_is_at_odds_with_the_trusted_set(parts: SplitRows, scores: np.ndarray) -> None:
    trusted = parts.train.head(3000)
    assert trusted_checks.agrees_with_labels(trusted, predict(fit_model(parts.train, {}), trusted)).status == "pass"
    swapped = parts.train.assign(**{problem.TARGET: parts.train[problem.TARGET].replace({0.0: 1.0, 1.0: 0.0})})
    assert trusted_checks.agrees_with_labels(trusted, predict(fit_model(swapped, {}), trusted)).status == "fail"


def test_a_refit_agrees_and_another_model_does_not(parts: SplitRows, scores: np.ndarray, baselines: Any) -> None:
    refitted = predict(fit_model(parts.pool, {}), parts.holdout)
    assert status(gate.agrees_with_evaluation_model(parts.holdout, scores, refitted)) == ["pass", "pass"]
    other = gate.agrees_with_evaluation_model(parts.holdout, scores, np.roll(scores, 1, axis=1))
    assert status(other) == ["fail", "fail"]


def test_a_class_without_training_rows_stops_the_training() -> None:
    rows = schema.typed(problem.load(TIME))
    without = rows[rows[problem.TARGET] != SALES]
    with pytest.raises(NotEnoughData, match="no row to train on has team = sales: there is nothing to learn about it"):
        split_rows(without, TIME)


def test_the_card_has_the_metrics_of_all_models_and_a_picture_of_each_class(
    tmp_path: Any, parts: SplitRows, model: Any, scores: np.ndarray, baselines: dict[str, np.ndarray]
) -> None:
    predictions = {EVALUATED: scores, **baselines}
    tables = model_card.tables(parts.holdout, predictions)
    assert list(tables["Against simpler models"]["model"]) == [EVALUATED, "constant", "linear", "one rule"]
    assert (tables["By slice"]["rows"] >= 200).all()
    names = [path.name for path in model_card.plots(tmp_path, parts.holdout, predictions, model)]
    assert names == ["calibration.png", "roc.png", "slices.png", "importance.png"]


def test_intervals_comparisons_and_ages_take_several_scores_a_row(parts: SplitRows, scores: np.ndarray) -> None:
    y, day = parts.holdout[problem.TARGET].to_numpy(), metrics.days(parts.holdout)
    table = metrics.with_intervals(y, scores, day)
    assert (table["low"] < table["value"]).all()
    assert metrics.compare(parts.holdout, scores, scores).identical
    assert metrics.compare(parts.holdout, scores, merged(scores)).clearly_worse
    assert metrics.group_gaps(parts.holdout, scores, 200).empty

    def fit(time: pd.Timestamp) -> staleness.Predict:
        older = parts.pool[parts.pool[problem.LABEL_TIME] < time]
        fitted = LogisticRegression().fit(older[["words", "invoices"]], older[problem.TARGET])
        return lambda rows: fitted.predict_proba(rows[["words", "invoices"]])

    measured = staleness.measure(parts.pool, TIME, fit)
    assert measured is not None
    assert measured.dollars is None
