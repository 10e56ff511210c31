"""What a task is: how its labels look, what a score says, and what a prediction costs when the label is known.

`problem.TASK` names one of `TASKS`. All that differs between them by nature stands here, each task with the same names,
so that other code asks `task()` and does not compare the text. What differs in one place only stays in that place,
behind `task().has_event` or `task().has_classes`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from level1_pipeline import problem
from level1_pipeline.errors import ProblemRefused
from level1_pipeline.schema.probabilities import EXCESS_EDGE, LOSS_EDGE, PROMISE_EDGE
from level1_pipeline.schema.several_classes import MULTICLASS, Classes


class Event:
    """An event happens or not: the label is 1 or 0, and the score is the probability of 1."""

    has_classes: bool = True  # labels are classes, and the model is a classifier
    has_event: bool = True  # one of two labels is what we look for: a miss and a needless action exist, and a rate
    labels: tuple[int, ...] | None = (0, 1)  # that there are
    labels_wanted = "0 and 1, and NaN where it is not known"
    link = "sigmoid"  # from the sum of the trees to the score
    probes = (0.0, 0.25, 0.5, 0.75, 1.0)  # scores that `choose_action` is asked about
    loss_metrics: tuple[str, ...] = ()  # of which `evaluate` must give one, so that monitoring can test the loss

    @property
    def score_means(self) -> str:
        """What a score is, in words."""
        return f"probability that {problem.TARGET} = 1"

    def wrong_label(self, value: float) -> str:
        """What is wrong with a label; empty if nothing is."""
        return "" if value in (0, 1) else f"value is neither 0 nor 1, and {problem.TARGET} is one of them"

    def label(self, value: Any) -> float:
        """A label that the service or a file was given, as a number."""
        return float(value)

    def as_json(self, label: float) -> int:
        """A label as the service takes it."""
        return int(label)

    def scores(self, model: Any, inputs: Any) -> np.ndarray:
        """P(label = 1) by a fitted model, which itself knows the order of its classes; shape (n,)."""
        order = list(getattr(model, "classes_", (0, 1)))
        return model.predict_proba(inputs)[:, order.index(1)]

    def columns(self) -> list[str]:
        """Under which names the parts of a score lie in a table."""
        return ["score"]

    def parts(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """The labels in the form of the scores, by the name of what each part of a score is about."""
        return {problem.TARGET: y}

    def sound(self, p: np.ndarray) -> np.ndarray:
        """Which scores are finite, and probabilities; shape (n,)."""
        return np.isfinite(p) & (p >= 0) & (p <= 1)

    def losses(self, y: np.ndarray, p: np.ndarray) -> np.ndarray:
        """The log loss of each row; shape (n,)."""
        p = np.clip(p, LOSS_EDGE, 1 - LOSS_EDGE)
        return -(y * np.log(p) + (1 - y) * np.log(1 - p))

    def promises(self, p: np.ndarray) -> dict[str, np.ndarray]:
        """What scores promise of each row before its label is known, if they are calibrated: losses, and the rate."""
        p = np.clip(p, PROMISE_EDGE, 1 - PROMISE_EDGE)
        return {"log_loss": -(p * np.log(p) + (1 - p) * np.log1p(-p)), "brier": p * (1 - p), "rate": p}

    def keeps(self, y: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
        """What became of the promises."""
        p = np.clip(p, PROMISE_EDGE, 1 - PROMISE_EDGE)
        return {"log_loss": -(y * np.log(p) + (1 - y) * np.log1p(-p)), "brier": (y - p) ** 2, "rate": y}

    def excess(self, y: np.ndarray, p: np.ndarray, promised: float | None) -> np.ndarray:
        """The log loss of each row minus its expectation, the entropy of the score; shape (n,). It is 0 on average
        where scores are calibrated, so nothing needs to be promised."""
        p = np.clip(p, EXCESS_EDGE, 1 - EXCESS_EDGE)
        return (p - y) * np.log(p / (1 - p))


class Number:
    """The label is a number, and the score is the number that is expected (a regression)."""

    has_classes: bool = False
    has_event: bool = False
    labels: tuple[int, ...] | None = None  # any number
    labels_wanted = "numbers"
    link = "identity"
    probes = (-1e6, -1.0, 0.0, 1.0, 1e6)
    loss_metrics: tuple[str, ...] = ("rmse", "mse")

    @property
    def score_means(self) -> str:
        """What a score is, in words."""
        return f"predicted {problem.TARGET}"

    def wrong_label(self, value: float) -> str:
        """What is wrong with a label; empty if nothing is."""
        return "" if math.isfinite(value) else "value is not finite"

    def label(self, value: Any) -> float:
        """A label that the service or a file was given, as a number."""
        return float(value)

    def as_json(self, label: float) -> float:
        """A label as the service takes it."""
        return float(label)

    def scores(self, model: Any, inputs: Any) -> np.ndarray:
        """The predictions of a fitted model; shape (n,)."""
        return model.predict(inputs)

    def columns(self) -> list[str]:
        """Under which names the parts of a score lie in a table."""
        return ["score"]

    def parts(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """The labels in the form of the scores, by the name of what each part of a score is about."""
        return {problem.TARGET: y}

    def sound(self, p: np.ndarray) -> np.ndarray:
        """Which scores are finite; shape (n,)."""
        return np.isfinite(p)

    def losses(self, y: np.ndarray, p: np.ndarray) -> np.ndarray:
        """The squared error of each row; shape (n,)."""
        return (y - p) ** 2

    def promises(self, p: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing: a number does not say how sure it is."""
        return {}

    def keeps(self, y: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
        """Nothing was promised."""
        return {}

    def excess(self, y: np.ndarray, p: np.ndarray, promised: float | None) -> np.ndarray:
        """The squared error of each row against the promised one, as a share of it; shape (n,). NaN without a promise.

        Args:
            y: labels; shape (n,).
            p: scores; shape (n,).
            promised: the root of the mean squared error that training measured.
        """
        return (y - p) ** 2 / promised**2 - 1 if promised else np.full(len(y), np.nan)


Task = Event | Number | Classes
TASKS: dict[str, Task] = {"classification": Event(), MULTICLASS: Classes(), "regression": Number()}


def task() -> Task:
    """That of the problem.

    Raises:
        ProblemRefused: `problem.TASK` is no name of `TASKS`.
    """
    if problem.TASK not in TASKS:
        raise ProblemRefused(f"problem.py: TASK: {unknown(problem.TASK)}")
    return TASKS[problem.TASK]


def unknown(name: object) -> str:
    """What is wrong with a task that is not there."""
    return f"{name!r} is no task that this project knows; it must be {' or '.join(TASKS)}"
