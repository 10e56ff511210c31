"""A fitted model whose scores are moved by one offset: in the log odds of a classifier, in the unit of a regression."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from level1_pipeline.schema.task import task


class Recalibrated(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The last step of a recalibrated pipeline: its model was fitted, and then its offset."""

    def __init__(self, model: Any, offset: float):
        self.model, self.offset = model, offset

    def __sklearn_is_fitted__(self) -> bool:
        """Whether the model is."""
        return True

    def fit(self, X: Any, y: Any) -> Recalibrated:
        """Fit the model once more. The offset stays."""
        self.model.fit(X, y)
        return self

    @property
    def classes_(self) -> np.ndarray:
        """Those of the model."""
        return np.asarray(self.model.classes_)

    def predict_proba(self, X: Any) -> np.ndarray:
        """P(target = 0) and P(target = 1), in the order of `classes_`; shape (n, 2)."""
        event = self.classes_.tolist().index(1)
        p = moved(self.model.predict_proba(X)[:, event], self.offset)
        return np.column_stack([1 - p, p] if event else [p, 1 - p])

    def predict(self, X: Any) -> np.ndarray:
        """The value of a regression, or the likelier class; shape (n,)."""
        if task().has_classes:
            return self.classes_[self.predict_proba(X).argmax(axis=1)]
        return moved(self.model.predict(X), self.offset)


def moved(scores: np.ndarray, offset: float | np.ndarray) -> np.ndarray:
    """Scores with an offset, or with one for each; shape (n,)."""
    if not task().has_event:
        return scores + offset
    with np.errstate(divide="ignore"):  # a score of 0 or 1 stays what it is
        return expit(logit(scores) + offset)


def recalibrate(pipeline: Pipeline, offset: float) -> Pipeline:
    """The pipeline with an offset on its scores; that of a recalibrated one is added to it."""
    *before, (name, model) = pipeline.steps
    if isinstance(model, Recalibrated):
        model, offset = model.model, model.offset + offset
    return Pipeline([*before, (name, Recalibrated(model, offset))])
