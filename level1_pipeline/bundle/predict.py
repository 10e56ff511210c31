"""What a fitted pipeline says about rows, the same way for every task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from level1_pipeline import problem, schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline


def predict(pipeline: Pipeline, rows: pd.DataFrame) -> np.ndarray:
    """What the pipeline says about rows: P(target = 1), or the value for a regression; shape (n,)."""
    inputs = rows[schema.names()]
    if problem.TASK != "classification":
        return pipeline.predict(inputs)
    return pipeline.predict_proba(inputs)[:, _place_of_the_event(pipeline)]


def _place_of_the_event(pipeline: Pipeline) -> int:
    """Which column of `predict_proba` is P(target = 1): the model itself knows the order of its classes."""
    classes = list(getattr(pipeline, "classes_", (0, 1)))
    return classes.index(1)
