"""Labels and predictions that nobody made, to see what `evaluate` does with good ones and with bad ones."""

from __future__ import annotations

import numpy as np

from level1_pipeline.schema.scores import shape
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task

ROWS = 400


def labels() -> np.ndarray:
    """Ordinary ones of the task; shape (ROWS,)."""
    draws = np.random.default_rng(0)
    if named := classes():
        return draws.integers(len(named), size=ROWS) * 1.0
    return (draws.random(ROWS) < 0.4) * 1.0 if task().has_event else 10 + draws.normal(size=ROWS)


def good(y: np.ndarray) -> np.ndarray:
    """Predictions that know the labels, but for some noise."""
    noise = np.random.default_rng(1).normal(size=len(y))
    if classes():
        sure = 0.6 + 0.1 * np.tanh(noise)[:, None]
        return sure * np.column_stack(list(task().parts(y).values())) + (1 - sure) * middling(len(y))
    return np.clip(0.2 + 0.6 * y + 0.1 * noise, 0.01, 0.99) if task().has_event else y + 0.1 * noise


def bad(y: np.ndarray) -> np.ndarray:
    """Predictions that are worse than none: of another class, of the other label, or of another row."""
    if classes():
        return np.roll(good(y), 1, axis=1)
    return 1 - good(y) if task().has_event else good(y)[::-1]


def middling(rows: int) -> np.ndarray:
    """Predictions that know nothing; each class is as likely as the others."""
    return np.full(shape(rows), 1 / len(classes())) if classes() else np.linspace(0.2, 0.6, rows)
