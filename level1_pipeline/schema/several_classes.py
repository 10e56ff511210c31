"""The task of a problem with several classes; see `task` for what each task answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from level1_pipeline import problem
from level1_pipeline.schema.probabilities import EXCESS_EDGE, LOSS_EDGE, PROMISE_EDGE, SUM_EDGE

MULTICLASS = "multiclass"  # the value of `problem.TASK`


def classes() -> tuple[str | int, ...]:
    """`problem.CLASSES`, which names the classes in the order of a score's parts; empty for a task without."""
    return tuple(getattr(problem, "CLASSES", ())) if problem.TASK == MULTICLASS else ()


class Classes:
    """The label is one of `problem.CLASSES`, held as its place there: 0, 1, 2 …; the score is a probability for each."""

    has_classes: bool = True
    has_event: bool = False
    labels_wanted = "classes of CLASSES, missing where it is not known"
    link = "softmax"
    loss_metrics: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[int, ...] | None:
        """The places of the classes."""
        return tuple(range(len(classes())))

    @property
    def probes(self) -> tuple[Any, ...]:
        """Each class for sure, and all alike."""
        width = len(classes())
        return (*np.eye(width).tolist(), [1 / width] * width)

    @property
    def score_means(self) -> str:
        """What a score is, in words."""
        return f"probability of each {problem.TARGET}"

    def wrong_label(self, value: float) -> str:
        """What is wrong with a label; empty if nothing is."""
        is_class = value in range(len(classes()))
        return "" if is_class else f"value is none of {', '.join(map(str, classes()))}"

    def label(self, value: Any) -> float:
        """A class that the service or a file was given, as its place; NaN for an unknown one."""
        whole = int(value) if isinstance(value, float) and value.is_integer() else value
        named = [str(name) for name in classes()]
        return float(named.index(str(whole))) if str(whole) in named else math.nan

    def as_json(self, label: float) -> str | int:
        """A label as the service takes it: the class itself."""
        return classes()[int(label)]

    def scores(self, model: Any, inputs: Any) -> np.ndarray:
        """The probability of each class by a fitted model, in the order of CLASSES; shape (n, classes). It is 0 for a
        class that the training rows lack."""
        given = model.predict_proba(inputs)
        table = np.zeros((len(given), len(classes())))
        table[:, np.asarray(model.classes_, dtype=np.intp)] = given
        return table

    def columns(self) -> list[str]:
        """Under which names the parts of a score lie in a table."""
        return [f"score {name}" for name in classes()]

    def parts(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """For each class which labels are this class, 1 or 0, as a probability of it would be right."""
        return {f"{problem.TARGET} {name}": (y == place) * 1.0 for place, name in enumerate(classes())}

    def sound(self, p: np.ndarray) -> np.ndarray:
        """For which rows all scores are probabilities whose sum is 1; shape (n,)."""
        each = np.isfinite(p) & (p >= 0) & (p <= 1)
        return each.all(axis=1) & (abs(p.sum(axis=1) - 1) <= SUM_EDGE)

    def losses(self, y: np.ndarray, p: np.ndarray) -> np.ndarray:
        """The log loss of each row; shape (n,)."""
        return -np.log(np.clip(_of_the_label(y, p), LOSS_EDGE, 1.0))

    def promises(self, p: np.ndarray) -> dict[str, np.ndarray]:
        """What scores promise of each row before its label is known, if they are calibrated: losses, and how often the
        likeliest class is right."""
        entropy = -(p * np.log(np.clip(p, PROMISE_EDGE, 1.0))).sum(axis=1)
        return {"log_loss": entropy, "brier": 1 - (p**2).sum(axis=1), "accuracy": p.max(axis=1)}

    def keeps(self, y: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
        """What became of the promises."""
        own, right = _of_the_label(y, p), (p.argmax(axis=1) == y) * 1.0
        brier = (p**2).sum(axis=1) - 2 * own + 1
        return {"log_loss": -np.log(np.clip(own, PROMISE_EDGE, 1.0)), "brier": brier, "accuracy": right}

    def excess(self, y: np.ndarray, p: np.ndarray, promised: float | None) -> np.ndarray:
        """The log loss of each row minus its expectation, the entropy of the scores; shape (n,)."""
        p = np.clip(p, EXCESS_EDGE, 1.0)
        return (p * np.log(p)).sum(axis=1) - np.log(_of_the_label(y, p))


def _of_the_label(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """What each row's own class got; shape (n,). NaN where the label is not known."""
    there = np.isfinite(y)
    return np.where(there, p[np.arange(len(y)), np.where(there, y, 0).astype(np.intp)], np.nan)
