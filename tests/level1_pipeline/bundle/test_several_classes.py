"""The bundle of a model with several classes: compiled with equal bits, and refused for other classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline

from examples.several_classes import problem as tickets
from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import GOLDEN, load_to_serve
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.tree_compiler import compile_pipeline
from level1_pipeline.bundle.tree_scorer import Scorer
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.errors import NotCompilable, OtherContract, ProblemRefused
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.evaluation.infrastructure import fit_for_service
from level1_pipeline.orchestration import run
from level1_pipeline.settings import Settings
from tests.support.problems import in_place
from tests.support.serving import set_route


@pytest.fixture(autouse=True, scope="module")
def several() -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets):
        yield


@pytest.fixture(scope="module")
def labelled(several: None) -> pd.DataFrame:
    return schema.typed(problem.load(pd.Timestamp("2024-03-01", tz="UTC"))).dropna(subset=problem.TARGET)


@pytest.fixture(scope="module")
def pipeline(labelled: pd.DataFrame) -> Pipeline:
    return problem.build_model().fit(labelled[schema.names()], labelled[problem.TARGET])


@pytest.fixture(scope="module")
def folder(labelled: pd.DataFrame, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "1"
    write_bundle(path, pipeline, labelled.tail(800), {"verdict": "pass"}, day_summaries(labelled))
    return path


def test_the_trees_of_all_classes_are_compiled_and_proved_equal(folder: Path) -> None:
    bundle = load_to_serve(folder)
    assert bundle.manifest["engine"]["name"] == "compiled"
    assert bundle.manifest["engine"]["largest_difference"] <= 1e-12
    assert bundle.manifest["classes"] == list(tickets.CLASSES)
    assert np.shape(json.loads((folder / GOLDEN).read_text())["predictions"]) == (50, 3)


def test_a_row_has_the_same_bits_alone_in_a_list_in_a_table_and_in_columns(
    folder: Path, labelled: pd.DataFrame
) -> None:
    bundle, some = load_to_serve(folder), labelled.head(3000)  # more than one block
    records = schema.records(some)
    together = bundle.predict(records)
    alone = np.vstack([bundle.predict([record]) for record in records])
    assert together.tobytes() == alone.tobytes()
    assert together.tobytes() == bundle.predict_frame(some).tobytes()
    assert together.tobytes() == bundle.predict_columns(schema.from_frame(some)).tobytes()


def test_the_compiled_model_passes_the_checks_of_the_service(
    folder: Path, labelled: pd.DataFrame, pipeline: Pipeline
) -> None:
    rows = labelled.tail(1500)
    checks = fit_for_service(folder, rows, predict(pipeline, rows))
    assert [check.status for check in checks] == ["pass", "pass"]
    swapped = predict(pipeline, rows)[:, [1, 0, 2]]
    assert fit_for_service(folder, rows, swapped)[0].status == "fail"


def test_no_decision_flips_by_the_compilation(folder: Path, labelled: pd.DataFrame, pipeline: Pipeline) -> None:
    ours, theirs = (
        scores(labelled) for scores in (load_to_serve(folder).predict_frame, lambda t: predict(pipeline, t))
    )
    assert [problem.choose_action(p) for p in ours] == [problem.choose_action(p) for p in theirs]


@pytest.mark.parametrize(
    "named", [("sales", "billing", "technical"), ("billing", "sales"), (*tickets.CLASSES, "legal")]
)
def test_a_model_of_other_classes_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...]
) -> None:
    monkeypatch.setattr(problem, "CLASSES", named)
    with pytest.raises(OtherContract, match=r"trained for the classes .*, and CLASSES are .* now; train one for them"):
        load_to_serve(folder)


@pytest.mark.parametrize(
    ("named", "refused"),
    [
        (("sales", "billing", "technical"), True),
        (("billing", "technical"), True),
        (("legal", *tickets.CLASSES), True),
        ((*tickets.CLASSES, "legal"), False),
        (tickets.CLASSES, False),
    ],
)
def test_no_training_begins_where_a_class_would_take_the_place_of_another(
    folder: Path, home: Settings, monkeypatch: pytest.MonkeyPatch, named: tuple[str, ...], refused: bool
) -> None:
    """Labels in the store are places: those of the classes that the champion knows have to stay."""
    shutil.copytree(folder, home.home / "bundles" / problem.NAME / "1")
    set_route(home, champion="1")
    monkeypatch.setattr(problem, "CLASSES", named)
    monkeypatch.setattr("level1_pipeline.evaluation.contract.check.refuse", lambda *_: None)
    monkeypatch.setattr(run, "_train", lambda *_: "it trains")
    request = run.Request(pd.Timestamp("2024-04-01", tz="UTC"))
    if refused:
        with pytest.raises(
            ProblemRefused, match=r"problem.py: CLASSES: are .*keep the earlier classes where they were"
        ):
            run.run_training(home, request)
    else:
        result: Any = run.run_training(home, request)
        assert result == "it trains"


@pytest.mark.parametrize("now_several", [True, False])
def test_no_training_begins_where_earlier_labels_would_be_read_as_places(
    folder: Path, home: Settings, monkeypatch: pytest.MonkeyPatch, now_several: bool
) -> None:
    shutil.copytree(folder, home.home / "bundles" / problem.NAME / "1")
    if now_several:  # and the champion is of one event
        monkeypatch.setattr(run, "verify_bundle", lambda _: {"task": "classification"})
    else:
        monkeypatch.setattr(problem, "TASK", "classification")
    set_route(home, champion="1")
    monkeypatch.setattr("level1_pipeline.evaluation.contract.check.refuse", lambda *_: None)
    with pytest.raises(
        ProblemRefused, match=r"problem.py: TASK: is .* now.*read wrongly; give the problem another NAME"
    ):
        run.run_training(home, run.Request(pd.Timestamp("2024-04-01", tz="UTC")))


def test_a_class_that_training_lacks_costs_the_compilation_and_nothing_else(
    tmp_path: Path, labelled: pd.DataFrame
) -> None:
    without = labelled[labelled[problem.TARGET] != 1]
    fitted = problem.build_model().fit(without[schema.names()], without[problem.TARGET])
    with pytest.raises(NotCompilable):
        compile_pipeline(fitted)
    write_bundle(tmp_path / "1", fitted, labelled.tail(100), {"verdict": "pass"}, day_summaries(labelled))
    scores = load_to_serve(tmp_path / "1").predict_frame(labelled.tail(100))
    assert scores[:, 1].tolist() == [0.0] * 100


def test_trees_of_one_class_in_the_place_of_another_are_no_equal_model(pipeline: Pipeline, labelled: Any) -> None:
    compiled = compile_pipeline(pipeline)
    each = len(compiled["trees"]) // 3
    swapped = {
        **compiled,
        "trees": compiled["trees"][each : 2 * each] + compiled["trees"][:each] + compiled["trees"][2 * each :],
    }
    some = labelled.head(100)
    assert abs(Scorer(compiled).predict_frame(some) - predict(pipeline, some)).max() <= 1e-12
    assert abs(Scorer(swapped).predict_frame(some) - predict(pipeline, some)).max() > 0.01


def test_a_model_that_averages_its_trees_is_served_by_scikit_learn(tmp_path: Path, labelled: pd.DataFrame) -> None:
    steps = dict(problem.build_model().steps)
    forest = Pipeline([("encode", steps["encode"]), ("model", RandomForestClassifier(5, max_depth=4, random_state=0))])
    filled = labelled.fillna({"errors": 0.0})
    fitted = forest.fit(filled[schema.names()], filled[problem.TARGET])
    with pytest.raises(NotCompilable):
        compile_pipeline(fitted)
    assert predict(fitted, filled.head(5)).shape == (5, 3)
