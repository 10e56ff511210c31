"""Whole numbers, truth values and dates: the same row in every form, and the same score from each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from scipy.special import expit, logit

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.recalibrated import Recalibrated
from level1_pipeline.bundle.tree_compiler import compile_pipeline
from level1_pipeline.bundle.tree_scorer import Scorer
from level1_pipeline.evaluation import data_checks
from level1_pipeline.evaluation.drift import day_summaries, drift_test
from level1_pipeline.inputs.csv_file import day, truth
from level1_pipeline.inputs.source import load
from level1_pipeline.settings import Settings
from level1_pipeline.steps.write_bundle import typical
from serving.batch import chunk
from serving.batch.reader import Source
from tests.problems import orders
from tests.support.problems import in_place


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pd.DataFrame]:
    """The orders, as every part behind `load` gets them."""
    with in_place(orders, monkeypatch):
        yield load(Settings(home=tmp_path))


def fitted(rows: pd.DataFrame) -> Any:
    return problem.build_model().fit(rows[schema.names()], rows[problem.TARGET])


def test_every_input_has_the_type_of_the_model_and_the_label_is_a_number(rows: pd.DataFrame) -> None:
    assert {name: str(rows[name].dtype) for name in schema.names()} == schema.dtypes()
    assert rows[problem.TARGET].dtype == "float64"
    assert schema.violations(rows) == []


def test_records_are_what_the_api_takes_and_give_the_table_back(rows: pd.DataFrame) -> None:
    records = schema.records(rows.head(200))
    texts = [json.dumps(record) for record in records]
    assert {type(value) for value in records[0].values()} <= {str, int, float, bool, type(None)}
    taken = [problem.Record.model_validate_json(text) for text in texts]
    for given in (records, [vars(one) for one in taken], [schema.json_record(vars(one)) for one in taken]):
        pd.testing.assert_frame_equal(schema.frame(given), rows.head(200)[schema.names()])


def test_trees_say_the_same_of_records_tables_and_columns(rows: pd.DataFrame) -> None:
    model, few = fitted(rows), rows.head(300)
    scorer, records = Scorer(compile_pipeline(model)), schema.model_records(schema.records(few))
    expected = predict(model, few)
    for scores in (
        scorer.predict(records),
        scorer.predict_frame(few),
        np.concatenate([scorer.predict([record]) for record in records]),
        predict(model, schema.frame(records)),
    ):
        assert np.abs(scores - expected).max() < 1e-12
    assert (scorer.predict(records) == scorer.predict_frame(few)).all()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_in_the_types_of_the_source_holds_the_same_inputs(rows: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    raw = problem.load(pd.Timestamp("2100-01-01", tz="UTC")).head(200)
    place = tmp_path / f"orders.{kind}"
    _ = raw.to_csv(place, index=False) if kind == "csv" else raw.to_parquet(place)
    (table,) = Source(place).chunks()
    inputs = {column.name: chunk._values(column, table[column.name].combine_chunks()) for column in schema.columns()}
    assert schema.violations(inputs) == []
    pd.testing.assert_frame_equal(schema.to_frame(inputs), rows.head(200)[schema.names()])


def test_a_cell_that_is_no_date_or_truth_value_spoils_its_own_row_only(rows: pd.DataFrame, tmp_path: Path) -> None:
    lines = [{**schema.records(rows.head(1))[0], "gift": gift, "member_since": since} for gift, since in CELLS]
    place = tmp_path / "cells.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist([{**line, "gift": line["gift"]} for line in lines]), place)
    pd.DataFrame(lines).to_csv(csv := tmp_path / "cells.csv", index=False)
    (table,) = Source(csv).chunks()
    inputs = {column.name: chunk._values(column, table[column.name].combine_chunks()) for column in schema.columns()}
    assert sorted(schema.reasons(schema.violations(inputs))) == [2, 3, 4]


CELLS = [("true", "2024-02-29"), ("0", ""), ("yes", "2024-02-29"), ("FALSE", "29.2.2024"), ("", "2021-01-01")]


def test_texts_of_other_tools_are_read() -> None:
    assert [truth(text) for text in ("True", "FALSE", "1", "0", "", "perhaps")] == [1, 0, 1, 0, None, "perhaps"]
    assert [truth(text) for text in ("1.0", "0.0", "2.0", "nan")] == [1, 0, "2.0", None]
    assert [day(text) for text in ("1970-01-02", "1970-01-03 00:00:00", "", "1970")] == [1, 2, None, "1970"]


def test_the_data_checks_and_the_drift_test_take_them(rows: pd.DataFrame) -> None:
    found, checked = data_checks.findings(rows)
    assert [str(finding) for finding in found] == []
    assert checked > 20
    spoiled = rows.assign(gift=rows["gift"] + 2.0)
    assert [finding.column for finding in data_checks.findings(spoiled)[0]] == ["gift"]
    older, newer = rows.head(3000), rows.tail(3000)
    assert drift_test(day_summaries(older), day_summaries(newer.assign(gift=1.0))).verdict == "moved"


def test_a_typical_value_is_one_that_the_record_takes(rows: pd.DataFrame) -> None:
    ordinary = typical(rows)
    assert (type(ordinary["items"]), ordinary["gift"]) == (int, False)
    problem.Record.model_validate_json(json.dumps(ordinary))


class Reversed:
    """A model that knows its classes in another order."""

    classes_ = np.array([1, 0])

    def predict_proba(self, inputs: pd.DataFrame) -> np.ndarray:
        return np.tile([0.9, 0.1], (len(inputs), 1))


def test_the_score_is_that_of_the_class_one_wherever_the_model_has_it(rows: pd.DataFrame) -> None:
    reversed_: Any = Reversed()
    assert predict(reversed_, rows.head(3)).tolist() == [0.9, 0.9, 0.9]
    recalibrated: Any = Recalibrated(reversed_, -1.0)
    np.testing.assert_allclose(predict(recalibrated, rows.head(3)), expit(logit(0.9) - 1))
