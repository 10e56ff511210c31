"""Scores as an array and as columns of a table: one column for a number or an event, one for each class."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task

if TYPE_CHECKING:
    import pandas as pd


def shape(rows: int) -> tuple[int, ...]:
    """Of the scores of so many rows."""
    width = len(task().columns())
    return (rows,) if width == 1 else (rows, width)


def as_columns(scores: np.ndarray, prefix: str = "") -> dict[str, np.ndarray]:
    """The parts of scores as columns of a table, with the names of `task().columns()` behind a prefix."""
    names = [prefix + name for name in task().columns()]
    return dict(zip(names, scores.reshape(len(scores), len(names)).T, strict=True))


def from_columns(table: pd.DataFrame | Mapping[str, np.ndarray], prefix: str = "") -> np.ndarray:
    """The scores that lie in the columns of a table; see `shape`."""
    parts = [np.asarray(table[prefix + name], dtype="float64") for name in task().columns()]
    return parts[0] if len(parts) == 1 else np.column_stack(parts)


def residuals(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Labels less scores, for each part of a score; see `shape`."""
    return np.column_stack(list(task().parts(y).values())).reshape(shape(len(y))) - scores


def by_part(y: np.ndarray, scores: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """For each part of a score what it is about, the labels as it has them, and the part; each of shape (n,)."""
    columns = scores.reshape(len(scores), len(task().columns())).T
    for (name, labels), part in zip(task().parts(y).items(), columns, strict=True):
        yield name, labels, part


def finite(scores: np.ndarray) -> np.ndarray:
    """For which rows every part of the score is a finite number; shape (n,)."""
    return np.isfinite(scores.reshape(len(scores), len(task().columns()))).all(axis=1)


def likeliest(score: Any) -> float:
    """The one number by which people and histograms watch a score: itself, or the probability of the likeliest class."""
    return max(score) if isinstance(score, list) else score


def as_answer(score: Any) -> Any:
    """A score as it is answered: a number, or the probabilities by the names of the classes."""
    return dict(zip(map(str, classes()), score, strict=True)) if isinstance(score, list) else score


def told(score: Any) -> str:
    """A score for people, with six digits."""
    if isinstance(score, dict):
        return ", ".join(f"{name} {part:.6f}" for name, part in score.items())
    return f"{score:.6f}"


def logged(score: Any) -> dict[str, Any]:
    """A score as the columns of the prediction log: `scores` is missing for a task without several classes."""
    return {"score": likeliest(score)} | ({"scores": score} if isinstance(score, list) else {})


def is_of_today(score: Any) -> bool:
    """Whether a logged score is one of today's TASK: it has a part for each class."""
    return len(score) == len(classes()) if isinstance(score, list) else not classes()


def stacked(scores: Sequence[Any]) -> np.ndarray:
    """Logged scores as an array; see `shape`. NaN in rows without one, and of other classes."""
    nothing = [np.nan] * len(classes()) or np.nan
    rows = [score if score is not None and is_of_today(score) else nothing for score in scores]
    return np.array(rows, dtype="float64").reshape(shape(len(rows)))


def from_log(texts: list[str | None]) -> dict[str, np.ndarray]:
    """The texts of the column `scores` of the prediction log as a column for each class."""
    return as_columns(stacked([json.loads(text) if text else None for text in texts]))


def difference(answer: Any, other: Any) -> float:
    """How far apart two answered scores are: where they differ most; infinite if they name other classes."""
    if not isinstance(answer, dict) or not isinstance(other, dict):
        return float(abs(answer - other))
    if answer.keys() != other.keys():
        return math.inf
    return max(abs(answer[name] - other[name]) for name in answer)


def means(y: np.ndarray) -> np.ndarray:
    """The scores of a model that knows nothing but the mean of these labels, or the share of each class; see `shape`."""
    parts = [np.full(len(y), labels.mean()) for labels in task().parts(y).values()]
    return np.column_stack(parts).reshape(shape(len(y)))


def watched(y: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores as one curve over time shows them, each of shape (n,): as they are; of several classes whether
    the likeliest class was right, and its probability."""
    if scores.ndim == 1:
        return y, scores
    return (scores.argmax(axis=1) == y) * 1.0, scores.max(axis=1)
