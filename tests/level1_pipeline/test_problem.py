"""The contract of problem.py: what the Record refuses, what the model and the scores do."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from pydantic import ValidationError
from sklearn.pipeline import Pipeline

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict

COLUMNS = schema.columns()
NUMBERS = [column for column in COLUMNS if not column.text and not column.allowed]
TEXTS = [column for column in COLUMNS if column.text]


def name_of(column: schema.Column) -> str:
    return column.name


@pytest.fixture(scope="module")
def record(rows: pd.DataFrame) -> dict[str, Any]:
    """A record that is accepted; the tests spoil one field of it."""
    return schema.records(rows.iloc[[len(rows) // 2]])[0]


@pytest.fixture(scope="module")
def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[problem.TARGET].notna()].head(4000)


@pytest.fixture(scope="module")
def fitted(labelled: pd.DataFrame) -> Pipeline:
    return problem.build_model().fit(labelled[schema.names()], labelled[problem.TARGET])


def refused(record: dict[str, Any], **spoiled: Any) -> str:
    """The name of the field that is refused first, as the API would report it."""
    with pytest.raises(ValidationError) as error:
        problem.Record(**(record | spoiled))
    return str(error.value.errors()[0]["loc"][0])


@pytest.mark.parametrize("column", COLUMNS, ids=name_of)
def test_every_field_is_bounded(column: schema.Column) -> None:
    assert column.allowed or (column.pattern if column.text else None not in (column.low, column.high))


@pytest.mark.parametrize("column", NUMBERS, ids=name_of)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", "", [1.0], True], ids=repr)
def test_a_number_must_be_a_finite_number(record: dict[str, Any], column: schema.Column, value: Any) -> None:
    assert refused(record, **{column.name: value}) == column.name


@pytest.mark.parametrize("column", NUMBERS, ids=name_of)
def test_a_number_outside_its_bounds_is_refused(record: dict[str, Any], column: schema.Column) -> None:
    assert column.low is not None
    assert column.high is not None
    assert refused(record, **{column.name: float(np.nextafter(column.low, -np.inf))}) == column.name
    assert refused(record, **{column.name: float(np.nextafter(column.high, np.inf))}) == column.name


@pytest.mark.flights
@pytest.mark.parametrize("column", NUMBERS, ids=name_of)
def test_a_number_at_its_bounds_is_accepted(record: dict[str, Any], column: schema.Column) -> None:
    for bound in (column.low, column.high):
        assert getattr(problem.Record(**(record | {column.name: bound})), column.name) == bound


@pytest.mark.parametrize("column", TEXTS, ids=name_of)
@pytest.mark.parametrize("value", [7, b"JFK", "", "no such value", ["JFK"], "\n"], ids=repr)
def test_a_text_of_the_wrong_type_or_form_is_refused(record: dict[str, Any], column: schema.Column, value: Any) -> None:
    assert refused(record, **{column.name: value}) == column.name


@pytest.mark.flights
@pytest.mark.parametrize(
    ("field", "value"),
    [("carrier", "aa"), ("carrier", "AA\n"), ("carrier", "ABC"), ("dest", "LA"), ("dest", "LÄX"), ("origin", "BOS")],
)
def test_codes_have_their_exact_form(record: dict[str, Any], field: str, value: str) -> None:
    assert refused(record, **{field: value}) == field


@pytest.mark.parametrize("column", COLUMNS, ids=name_of)
def test_none_is_accepted_only_where_a_value_may_be_missing(record: dict[str, Any], column: schema.Column) -> None:
    if column.nullable:
        assert getattr(problem.Record(**(record | {column.name: None})), column.name) is None
    else:
        assert refused(record, **{column.name: None}) == column.name


@pytest.mark.flights
def test_only_weather_and_recent_delay_may_be_missing() -> None:
    weather = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    assert [column.name for column in COLUMNS if column.nullable] == [*weather, "recent_delay"]


def test_a_record_with_an_unknown_field_is_refused(record: dict[str, Any]) -> None:
    assert refused(record, surprise=1.0) == "surprise"


@pytest.mark.parametrize("column", COLUMNS, ids=name_of)
def test_no_field_may_be_left_out(record: dict[str, Any], column: schema.Column) -> None:
    with pytest.raises(ValidationError, match=column.name):
        problem.Record(**{name: value for name, value in record.items() if name != column.name})


def test_a_record_cannot_be_changed(record: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        setattr(problem.Record(**record), COLUMNS[0].name, record[COLUMNS[0].name])


def test_every_prepared_row_is_a_valid_record(rows: pd.DataFrame) -> None:
    sample = schema.records(rows.sample(min(5000, len(rows)), random_state=1))
    assert [problem.Record(**item).model_dump() for item in sample] == sample


def test_rows_have_ids_times_and_outcomes(rows: pd.DataFrame) -> None:
    assert rows[problem.ID].is_unique
    assert rows[[problem.ID, problem.ENTITY, problem.EVENT_TIME, *problem.SLICES]].notna().all(axis=None)
    assert str(rows[problem.EVENT_TIME].dt.tz) == str(rows[problem.LABEL_TIME].dt.tz) == "UTC"
    assert not (rows[problem.LABEL_TIME] < rows[problem.EVENT_TIME]).any()
    assert not {problem.TARGET, problem.LABEL_TIME, problem.ID} & set(schema.names())


# ---- the model


def test_two_fits_on_the_same_rows_predict_the_same_bits(fitted: Pipeline, labelled: pd.DataFrame) -> None:
    again = problem.build_model().fit(labelled[schema.names()], labelled[problem.TARGET])
    first, second = predict(fitted, labelled), predict(again, labelled)
    assert np.array_equal(first, second)
    assert len(np.unique(first)) > 100


def test_the_fitted_pipeline_needs_no_type_that_was_not_reviewed(fitted: Pipeline) -> None:
    assert set(skops.io.get_untrusted_types(data=skops.io.dumps(fitted))) <= set(problem.TRUSTED_TYPES)


@pytest.mark.flights
def test_a_category_that_training_never_saw_gets_a_prediction(
    fitted: Pipeline, labelled: pd.DataFrame, record: dict[str, Any]
) -> None:
    new = record | {"carrier": "ZZ", "dest": "QQQ"}
    assert problem.Record(**new)
    assert "QQQ" not in set(labelled["dest"])
    carrier, _, dest = fitted["encode"].transform(schema.frame([new]))[0, :3]
    assert math.isnan(carrier)  # the trees take it for missing, not for the smallest code
    assert math.isnan(dest)
    (p,) = predict(fitted, schema.frame([new]))
    assert 0 < p < 1


@pytest.mark.flights
def test_a_record_of_missing_values_gets_a_prediction(fitted: Pipeline, record: dict[str, Any]) -> None:
    (p,) = predict(fitted, schema.frame([record | {column.name: None for column in COLUMNS if column.nullable}]))
    assert 0 < p < 1


# ---- scores and decisions


@pytest.mark.flights
def test_scores_equal_those_computed_by_hand() -> None:
    scores = problem.evaluate(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.8, 0.4, 0.3, 0.2]))
    assert scores["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.6) + math.log(0.3) + math.log(0.8)) / 4)
    assert scores["roc_auc"] == pytest.approx(3 / 4)  # of four pairs, (0.3, 0.4) stands the wrong way round
    assert scores["brier"] == pytest.approx((0.04 + 0.16 + 0.49 + 0.04) / 4)
    assert scores["calibration"] == pytest.approx(2 / 1.7)
    assert problem.PRIMARY_METRIC in scores
    assert set(problem.GATE["limits"]) <= set(scores)


@pytest.mark.flights
@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_with_outcomes_of_one_kind_only_the_auc_is_unknown(outcome: float) -> None:
    scores = problem.evaluate(np.full(3, outcome), np.array([0.2, 0.5, 0.7]))
    assert math.isnan(scores.pop("roc_auc"))
    assert all(math.isfinite(value) for value in scores.values())


@pytest.mark.flights
def test_the_desk_warns_from_the_probability_at_which_both_errors_cost_the_same() -> None:
    assert problem.choose_action(0.25) == "warn"
    assert problem.choose_action(float(np.nextafter(0.25, 0))) == "stay silent"
    assert {problem.choose_action(p) for p in (0.3, 1.0)} == {"warn"}
    assert problem.choose_action(0.0) == "stay silent"
    cost_of_silence, cost_of_warning = (
        0.25 * problem.COSTS["missed_late_flight"],
        0.75 * problem.COSTS["needless_warning"],
    )
    assert cost_of_silence == cost_of_warning


def test_importing_the_problem_loads_no_heavy_library() -> None:
    heavy = ("sklearn", "pandas", "numpy", "scipy", "mlflow", "prefect")
    code = f"import sys, level1_pipeline.problem; print([name for name in {heavy} if name in sys.modules])"
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
