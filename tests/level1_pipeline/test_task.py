"""What a task is stands in one module, and its losses are those of scikit-learn."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_squared_error

from level1_pipeline import problem
from level1_pipeline.errors import ProblemRefused
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


def test_a_score_is_sound_when_it_is_finite_and_a_probability_where_it_should_be_one() -> None:
    scores = np.array([0.0, 0.5, 1.0, -0.1, 1.1, np.nan, np.inf, -np.inf])
    assert EVENT.sound(scores).tolist() == [True] * 3 + [False] * 5
    assert NUMBER.sound(scores).tolist() == [True] * 5 + [False] * 3


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
    names = [{name for name in dir(kind) if not name.startswith("_")} for kind in TASKS.values()]
    assert all(own == names[0] for own in names)


def test_the_task_is_that_of_the_problem_and_an_unknown_one_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert task() is TASKS[problem.TASK]
    monkeypatch.setattr(problem, "TASK", "clustering")
    with pytest.raises(ProblemRefused, match=r"TASK: 'clustering' is no task .* classification or regression"):
        task()


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
