"""Scores as an array and as columns of a table: one column for a number or an event, one for each class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

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
    columns = scores.reshape(len(scores), -1).T
    for (name, labels), part in zip(task().parts(y).items(), columns, strict=True):
        yield name, labels, part
