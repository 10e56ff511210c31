"""A recalibrated pipeline: the same trees, another base score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import Pipeline, make_pipeline

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.recalibrated import Recalibrated, moved, recalibrate
from level1_pipeline.bundle.tree_compiler import compile_pipeline
from level1_pipeline.bundle.write import write_bundle
from tests.support.bundles import is_compiled
from tests.support.problems import ONE_NUMBER

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[problem.TARGET].notna()].head(2000)


@pytest.fixture(scope="module")
def pipeline(labelled: pd.DataFrame) -> Pipeline:
    few = {name: 20 for name in problem.build_model().get_params() if name.endswith("max_iter")}
    return problem.build_model().set_params(**few).fit(labelled[schema.names()], labelled[problem.TARGET])


@ONE_NUMBER
def test_its_bundle_serves_the_moved_scores_without_more_trees(
    pipeline: Pipeline, labelled: pd.DataFrame, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "b", recalibrate(pipeline, -0.4), labelled, {}, pd.DataFrame({"day": ["2013-01-01"]}))
    bundle = load_bundle(tmp_path / "b")
    assert (bundle.manifest["engine"]["name"] == "compiled") == is_compiled(tmp_path / "b")
    expected = moved(predict(pipeline, labelled), -0.4)
    assert bundle.predict_frame(labelled) == pytest.approx(expected, abs=1e-12)
    assert predict(bundle.pipeline, labelled) == pytest.approx(expected, abs=1e-12)
    if is_compiled(tmp_path / "b"):
        before, after = compile_pipeline(pipeline), compile_pipeline(bundle.pipeline)
        assert after["trees"] == before["trees"]
        assert after["base"] == before["base"] - 0.4


def test_an_offset_on_an_offset_is_one_offset(pipeline: Pipeline) -> None:
    twice = recalibrate(recalibrate(pipeline, 0.5), -0.2)
    assert isinstance(twice[-1], Recalibrated)
    assert twice[-1].offset == pytest.approx(0.3)
    assert twice[-1].model is pipeline[-1]


@ONE_NUMBER
def test_a_model_that_is_not_compiled_is_moved_too() -> None:
    inputs, y = pd.DataFrame({"a": np.arange(4.0)}), np.array([0, 0, 0, 1])
    if problem.TASK == "classification":
        constant = make_pipeline(DummyClassifier().fit(inputs, y))
        assert recalibrate(constant, 1.0).predict_proba(inputs)[0, 1] == pytest.approx(np.e / (3 + np.e))
        assert recalibrate(constant, 2.0).predict(inputs).tolist() == [1] * 4
    else:
        constant = make_pipeline(DummyRegressor().fit(inputs, y))
        assert recalibrate(constant, 1.0).predict(inputs)[0] == pytest.approx(1.25)
