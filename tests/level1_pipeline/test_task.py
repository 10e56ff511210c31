"""What a task is stands in one module, and its losses are those of scikit-learn."""

from __future__ import annotations

import ast
import math
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from level1_pipeline import problem
from level1_pipeline.errors import ProblemRefused
from level1_pipeline.schema.scores import (
    as_columns,
    by_part,
    difference,
    finite,
    from_columns,
    residuals,
    shape,
    stacked,
)
from level1_pipeline.schema.several_classes import Classes, classes
from level1_pipeline.schema.task import TASKS, Event, Number, task
from tests.support import ROOT
from tests.test_architecture import files

EVENT, NUMBER = TASKS["classification"], TASKS["regression"]
DRAWS = np.random.default_rng(0)
P = DRAWS.uniform(0.02, 0.98, 40_000)
Y = (DRAWS.random(len(P)) < P) * 1.0  # as the scores promise
VALUES = 10 + DRAWS.normal(0, 3.0, len(P))  # labels of a regression that says 10 and promises an error of 3


def test_the_losses_of_rows_have_the_mean_that_scikit_learn_says() -> None:
    assert EVENT.losses(Y, P).mean() == pytest.approx(log_loss(Y, P))
    assert NUMBER.losses(VALUES, P).mean() == pytest.approx(mean_squared_error(VALUES, P))


def test_a_sure_error_has_a_finite_loss() -> None:
    sure = np.array([0.0, 1.0])
    assert np.isfinite([EVENT.losses(1 - sure, sure), EVENT.excess(1 - sure, sure, None)]).all()


def test_the_excess_is_the_loss_beside_what_the_scores_promise() -> None:
    entropy = -(P * np.log(P) + (1 - P) * np.log(1 - P))
    assert EVENT.excess(Y, P, None) == pytest.approx(EVENT.losses(Y, P) - entropy)


def test_the_excess_is_zero_on_average_when_the_promise_is_kept_and_positive_when_it_is_not() -> None:
    ten = np.full(len(VALUES), 10.0)
    assert abs(EVENT.excess(Y, P, None).mean()) < 0.02
    assert abs(NUMBER.excess(VALUES, ten, 3.0).mean()) < 0.02
    assert EVENT.excess(1 - Y, P, None).mean() > 0.2
    assert NUMBER.excess(VALUES, ten, 2.0).mean() > 0.2


def test_a_regression_without_a_promise_has_no_excess() -> None:
    assert np.isnan(NUMBER.excess(VALUES, VALUES, None)).all()


@pytest.mark.parametrize("classes", [(0, 1), (1, 0)], ids=str)
def test_the_score_is_the_probability_of_the_event_wherever_the_model_has_it(classes: tuple[int, int]) -> None:
    proba = np.column_stack([P if label else 1 - P for label in classes])
    model = SimpleNamespace(classes_=np.array(classes), predict_proba=lambda inputs: proba)
    assert EVENT.scores(model, None).tolist() == P.tolist()


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [(EVENT, [0, 1.0], [2, 0.5, float("nan")]), (NUMBER, [0, -2.5], [float("inf"), float("nan")])],
)
def test_a_label_is_refused_with_a_reason_and_only_when_it_is_wrong(
    kind: Event | Number, good: list[float], bad: list[float]
) -> None:
    assert [kind.wrong_label(value) for value in good] == [""] * len(good)
    assert all(kind.wrong_label(value) for value in bad)


def test_all_tasks_answer_the_same_questions() -> None:
    names = [{name for name in dir(kind) if not name.startswith("_")} for kind in (EVENT, NUMBER, Classes())]
    assert all(own == names[0] for own in names)


def test_the_task_is_that_of_the_problem_and_an_unknown_one_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert task() is TASKS[problem.TASK]
    monkeypatch.setattr(problem, "TASK", "clustering")
    with pytest.raises(
        ProblemRefused, match=r"TASK: 'clustering' is no task .* classification or multiclass or regression"
    ):
        task()


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> Classes:
    """The task of a problem with three classes."""
    kind = Classes()
    monkeypatch.setitem(TASKS, "multiclass", kind)
    monkeypatch.setattr(problem, "TASK", "multiclass")
    monkeypatch.setattr(problem, "CLASSES", ("low", "middle", "high"), raising=False)
    return kind


SHARES = DRAWS.dirichlet([1.0, 2.0, 3.0], 40_000)
PLACES = (DRAWS.random(len(SHARES))[:, None] > SHARES.cumsum(axis=1)).sum(axis=1) * 1.0  # as the shares promise


def test_the_loss_of_several_classes_is_that_of_scikit_learn(three: Classes) -> None:
    assert three.losses(PLACES, SHARES).mean() == pytest.approx(log_loss(PLACES, SHARES, labels=[0, 1, 2]))


def test_the_excess_of_several_classes_is_zero_on_average_when_the_shares_are_right(three: Classes) -> None:
    assert abs(three.excess(PLACES, SHARES, None).mean()) < 0.02
    assert three.excess((PLACES + 1) % 3, SHARES, None).mean() > 0.2


def test_with_two_classes_the_excess_and_the_losses_are_those_of_an_event(
    three: Classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "CLASSES", ("no", "yes"))
    both = np.column_stack([1 - P, P])
    assert three.losses(Y, both) == pytest.approx(EVENT.losses(Y, P))
    assert three.excess(Y, both, None) == pytest.approx(EVENT.excess(Y, P, None))


def test_scores_stand_in_the_order_of_the_classes_and_a_class_without_training_rows_has_none(three: Classes) -> None:
    model = SimpleNamespace(classes_=np.array([2.0, 0.0]), predict_proba=lambda inputs: np.array([[0.7, 0.3]]))
    assert three.scores(model, None).tolist() == [[0.3, 0.0, 0.7]]


def test_shares_are_sound_when_each_is_a_probability_and_their_sum_is_one(three: Classes) -> None:
    shares = np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.6], [-0.5, 0.5, 1.0], [np.nan, 0.5, 0.5], [0.0, 0.0, 1.0]])
    assert three.sound(shares).tolist() == [True, False, False, False, True]


def test_a_label_is_the_place_of_a_class_and_goes_out_as_the_class(three: Classes) -> None:
    assert (classes(), three.labels) == (("low", "middle", "high"), (0, 1, 2))
    assert [three.as_json(place) for place in (0.0, 2.0)] == ["low", "high"]
    assert three.wrong_label(1.0) == ""
    assert three.wrong_label(3.0) == three.wrong_label(0.5) == "value is none of low, middle, high"


def test_scores_come_back_from_the_columns_of_a_table_as_they_went_in(three: Classes) -> None:
    columns = as_columns(SHARES, "model|")
    assert list(columns) == ["model|score low", "model|score middle", "model|score high"]
    assert (from_columns(columns, "model|") == SHARES).all()
    assert shape(7) == (7, 3)


@pytest.mark.parametrize("name", ["classification", "multiclass"])
def test_no_rows_have_no_scores_and_are_no_trouble(three: Classes, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(problem, "TASK", name)
    nothing, no_labels = np.empty(shape(0)), np.empty(0)
    assert finite(nothing).tolist() == []
    assert [len(part) for _, _, part in by_part(no_labels, nothing)] == [0] * len(task().columns())
    assert residuals(no_labels, nothing).shape == shape(0)
    assert from_columns(as_columns(nothing)).shape == shape(0)


def test_logged_scores_become_an_array_and_those_of_other_classes_are_missing(three: Classes) -> None:
    logged = stacked([[0.2, 0.3, 0.5], None, [0.4, 0.6], 0.7])
    np.testing.assert_array_equal(logged, [[0.2, 0.3, 0.5], *[[np.nan] * 3] * 3])
    assert stacked([]).shape == (0, 3)


def test_a_logged_number_stays_one_and_probabilities_of_classes_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "TASK", "classification")
    np.testing.assert_array_equal(stacked([0.25, None, [0.4, 0.6]]), [0.25, np.nan, np.nan])


def test_two_answers_are_as_far_apart_as_the_class_that_differs_most() -> None:
    one = {"low": 0.25, "high": 0.75}
    assert difference(0.25, 0.75) == difference(0.75, 0.25) == 0.5
    assert difference(one, one) == 0.0
    assert difference(one, {"low": 0.125, "high": 0.5}) == 0.25
    assert difference(one, {"low": 0.25, "middle": 0.75}) == math.inf


def test_a_loss_is_missing_where_the_label_is(three: Classes) -> None:
    y = np.array([0.0, np.nan, 2.0])
    for losses in (three.losses(y, SHARES[:3]), three.excess(y, SHARES[:3], None)):
        assert np.isfinite(losses).tolist() == [True, False, True]


def test_of_several_classes_each_part_has_labels_and_residuals_of_its_own(three: Classes) -> None:
    parts = {about: (labels, part) for about, labels, part in by_part(PLACES, SHARES)}
    assert list(parts) == [f"{problem.TARGET} {name}" for name in classes()]
    assert (np.sum([labels for labels, _ in parts.values()], axis=0) == 1.0).all()
    middle, share = parts[f"{problem.TARGET} middle"]
    assert (residuals(PLACES, SHARES)[:, 1] == middle - share).all()
    assert abs(residuals(PLACES, SHARES).mean(axis=0)).max() < 0.01


@pytest.mark.parametrize("name", ["classification", "regression"])
def test_an_event_and_a_number_have_one_column_and_no_classes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(problem, "TASK", name)
    assert (classes(), list(as_columns(P)), shape(3)) == ((), ["score"], (3,))
    assert from_columns(as_columns(P)).tobytes() == P.tobytes()
    assert residuals(Y, P).tobytes() == (Y - P).tobytes()


def compares_the_task(tree: ast.AST) -> bool:
    """Whether somebody compares `….TASK` with a text instead of asking `task()`."""
    return any(
        isinstance(side, ast.Attribute) and side.attr == "TASK" and isinstance(other, ast.Constant)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side, other in [(node.left, node.comparators[0]), (node.comparators[0], node.left)]
    )


def test_no_module_compares_the_name_of_the_task() -> None:
    modules = [path for path in files(ROOT) if path.suffix == ".py"]
    assert [str(path) for path in modules if compares_the_task(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize("code", ['if problem.TASK != "regression": pass', 'x = "classification" == problem.TASK'])
def test_such_a_comparison_is_found(code: str) -> None:
    assert compares_the_task(ast.parse(code))
