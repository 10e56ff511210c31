"""A model with several classes is scored, explained and logged with a probability for each class."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from examples.several_classes import problem as tickets
from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import Bundle, load_bundle
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.schema.scores import told
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import predictions
from serving.batch import job
from serving.batch.log import BatchLog
from serving.batch.reader import Source
from serving.models import routing
from serving.models.loaded_model import Model
from serving.models.routing import Case
from serving.telemetry.metrics import Metrics
from serving.telemetry.prediction_log import PredictionLog
from tests.support.problems import in_place

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True, scope="module")
def several() -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets):
        yield


@pytest.fixture(scope="module")
def rows(several: None) -> pd.DataFrame:
    return schema.typed(problem.load(pd.Timestamp("2024-03-01", tz="UTC"))).dropna(subset=problem.TARGET)


@pytest.fixture(scope="module")
def bundle(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "1"
    write_bundle(folder, fit_model(rows, {"model__max_iter": 10}), rows.tail(200), {}, day_summaries(rows))
    return load_bundle(folder)


class Broken:
    """A model that gives no number for every second row."""

    scorer = True

    def __init__(self, bundle: Bundle):
        self.bundle = bundle

    def predict(self, records: Any) -> np.ndarray:
        scores = self.bundle.predict(records)
        scores[::2, 1] = np.nan
        return scores


def scored(bundle: Any, records: list[dict[str, Any]]) -> routing.Scored:
    cases = [Case(f"id-{place}", "somebody", record, NOW) for place, record in enumerate(records)]
    return routing.score(Model("1", bundle, "checksum", {}, {}), "champion", cases)


def logged(settings: Settings) -> list[Any]:
    store = Store(settings.operations)
    with store.engine.connect() as connection:
        lines = connection.execute(sa.select(predictions).order_by(predictions.c.id)).all()
    store.close()
    return list(lines)


def test_the_log_keeps_the_probabilities_and_the_largest_of_them(
    home: Settings, bundle: Bundle, rows: pd.DataFrame
) -> None:
    records, store = schema.records(rows.head(3)), Store(home.operations)
    log = PredictionLog(store, 100, Metrics())
    log.add(scored(bundle, records))
    log.flush()
    assert (log.trouble, log.lost) == (None, 0)
    store.close()
    lines, expected = logged(home), bundle.predict(records)
    assert np.array([line.scores for line in lines]).tobytes() == expected.tobytes()
    assert [line.score for line in lines] == expected.max(axis=1).tolist()


def test_a_case_of_which_one_class_has_no_number_has_no_score(
    home: Settings, bundle: Bundle, rows: pd.DataFrame
) -> None:
    group, store = scored(Broken(bundle), schema.records(rows.head(4))), Store(home.operations)
    assert [score is None for score in group.scores] == [True, False, True, False]
    log = PredictionLog(store, 100, Metrics())
    log.add(group)
    log.flush()
    store.close()
    assert [(line.score is None, line.scores is None, line.error is None) for line in logged(home)] == [
        (True, True, False),
        (False, False, True),
    ] * 2


def test_files_get_a_column_for_each_class_with_the_bits_of_the_service(
    home: Settings, bundle: Bundle, rows: pd.DataFrame, tmp_path: Path
) -> None:
    some, store = rows.head(50)[[problem.ID, *schema.names()]], Store(home.operations)
    some.to_parquet(tmp_path / "in.parquet")
    log = BatchLog(store, "1", NOW)
    result = job.score(Source(tmp_path / "in.parquet"), tmp_path / "out", bundle, "1", 1, log)
    store.close()
    assert (result.rows, result.bad) == (50, 0)
    table = pd.read_parquet(tmp_path / "out" / "scores")
    expected = bundle.predict(schema.records(some))
    assert table[["score billing", "score sales", "score technical"]].to_numpy().tobytes() == expected.tobytes()
    assert list(table["decision"]) == [problem.choose_action(p) for p in expected]
    assert sorted(line.scores for line in logged(home)) == sorted(expected.tolist())


def test_a_row_of_a_file_without_a_number_is_bad_and_costs_no_other(
    bundle: Bundle, rows: pd.DataFrame, tmp_path: Path
) -> None:
    rows.head(4)[[problem.ID, *schema.names()]].to_parquet(tmp_path / "in.parquet")

    class Half(Broken):
        manifest: dict[str, Any] = {}  # noqa: RUF012
        checksum = "checksum"

        def predict_columns(self, inputs: schema.Columns) -> np.ndarray:
            scores = self.bundle.predict_columns(inputs)
            scores[0, 2] = np.inf
            return scores

    half: Any = Half(bundle)
    result = job.score(Source(tmp_path / "in.parquet"), tmp_path / "out", half, "1", 1)
    assert (result.rows, result.bad) == (4, 1)
    assert list(pd.read_parquet(tmp_path / "out" / "bad")["reasons"]) == ["the score is not a finite number"]


def test_people_read_each_class_with_its_probability() -> None:
    assert told({"billing": 0.25, "sales": 0.75}) == "billing 0.250000, sales 0.750000"
