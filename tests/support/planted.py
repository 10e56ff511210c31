"""Candidates with planted faults: real pipelines whose last step is wrapped."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

TYPE = "tests.support.planted.Planted"
ORIGIN, MINUTE, WEEKDAY = 1, 4, 5  # places of the encoded inputs
LGA, SUNDAY = 2, 6
MANY = 500  # rows: the faults of memory and time show on no smaller call
BLOCK = 5_000_000  # numbers, 40 MB: more than malloc would take from what earlier tests have freed
KEPT: list[np.ndarray] = []


class Planted(ClassifierMixin, BaseEstimator):
    """A classifier with a fault. `sunday` faults show only on Sundays, when the shadow is over."""

    def __init__(self, model: Any, fault: str = "none"):
        self.model, self.fault = model, fault

    @property
    def classes_(self) -> np.ndarray:
        return self.model.classes_

    def __sklearn_is_fitted__(self) -> bool:
        return True  # the wrapped model was fitted before it was spoilt

    def fit(self, X: np.ndarray, y: np.ndarray) -> Planted:
        self.model.fit(X, y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X, float)
        started = time.perf_counter()
        p = self.model.predict_proba(X)[:, 1]
        sunday = X[:, WEEKDAY] == SUNDAY
        at_ten = (X[:, MINUTE] >= 600) & (X[:, MINUTE] < 660)
        if self.fault == "crash" and at_ten.any():
            raise ZeroDivisionError("planted")
        if self.fault == "crash on sunday" and sunday.any():
            raise ZeroDivisionError("planted on sunday")
        if self.fault == "nan on sunday":
            p = np.where(sunday & at_ten, np.nan, p)
        if self.fault == "slow on sunday" and sunday.any():
            time.sleep(9 * max(time.perf_counter() - started, 0.03))  # slow enough on a busy machine, too
        if self.fault == "hang" and len(X) >= MANY:
            time.sleep(60)
        if self.fault == "memory" and len(X) >= MANY:
            np.ones(100_000_000).sum()  # 800 MB for a moment
        if self.fault == "leak":
            KEPT.append(np.ones(50_000))
        if self.fault == "leak in bursts":
            KEPT.append(np.ones(BLOCK if len(KEPT) % 100 == 99 else 1))
        if self.fault == "once":
            KEPT.append(np.ones(BLOCK if len(KEPT) == 60 else 1))  # as another thread may take it
        if self.fault == "biased":
            p = np.clip(p + 0.1, 1e-6, 1 - 1e-6)
        if self.fault == "one airport":
            p = np.where(X[:, ORIGIN] == LGA, np.clip(p + 0.3, 1e-6, 1 - 1e-6), p)
        return np.column_stack([1 - p, p])
