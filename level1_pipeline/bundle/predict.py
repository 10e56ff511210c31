"""What a fitted pipeline says about rows, the same way for every task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from level1_pipeline import schema
from level1_pipeline.schema.task import task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline


def predict(pipeline: Pipeline, rows: pd.DataFrame) -> np.ndarray:
    """What the pipeline says about rows: P(target = 1), or the value for a regression; shape (n,)."""
    # A model without an encoder of columns refuses those that came into the Record after it was fitted.
    inputs = rows[list(getattr(pipeline, "feature_names_in_", schema.names()))]
    return task().scores(pipeline, inputs)
