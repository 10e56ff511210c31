"""The example of models that are not compiled: each of its models keeps the contract."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation.contract import check
from level1_pipeline.settings import Settings
from tests.support import ROOT
from tests.support.problems import in_place

LATER = pd.Timestamp("2024-05-01", tz="UTC")


@pytest.fixture(params=["logistic", "forest", "calibrated", "lightgbm"])
def model(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example with one of its models, in the place of problem.py."""
    usual = 'MODEL = "logistic"'
    text = (ROOT / "examples/no_trees/problem.py").read_text()
    assert text.count(usual) == 1
    (tmp_path / "problem.py").write_text(text.replace(usual, f'MODEL = "{request.param}"'))
    spec = importlib.util.spec_from_file_location("with_a_model", tmp_path / "problem.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "with_a_model", module)
    spec.loader.exec_module(module)
    with in_place(module, monkeypatch):
        yield request.param


def test_the_check_finds_no_mistake_with_any_of_its_models(model: str, tmp_path: Path) -> None:
    assert [str(mistake) for mistake in check.mistakes(Settings(home=tmp_path))] == []


@pytest.mark.filterwarnings("error")
def test_each_of_its_models_scores_a_row_alone_as_among_others_and_is_the_same_when_fitted_again(model: str) -> None:
    rows = problem.load(LATER)
    rows = rows[rows[problem.TARGET].notna()]
    first, again = (problem.build_model().fit(rows[schema.names()], rows[problem.TARGET]) for _ in range(2))
    scores = predict(first, rows.head(5))
    assert predict(again, rows.head(5)).tolist() == scores.tolist()
    for number in range(5):
        alone = predict(first, rows.iloc[[number]])
        assert alone[0] == pytest.approx(scores[number], abs=1e-12)
