"""The one-rule baseline: the best single threshold on one numeric input, which a person could use without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from level1_pipeline import schema
from level1_pipeline.evaluation.decisions import prices
from level1_pipeline.schema.scores import shape
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task


class OneRule:
    """Two rows of a table in the place of a model: what to expect up to the threshold, and above it.

    The rule costs least on its own rows: in dollars, where `problem.COSTS` prices a miss and a needless action, else
    in squared error. A missing value counts as one below every threshold. Without a rule it says the mean.
    """

    def fit(self, X: pd.DataFrame, y: pd.Series) -> OneRule:
        """Try each threshold of each numeric input."""
        labels, self.input, self.threshold = (
            np.column_stack(list(task().parts(y.to_numpy("float64")).values())),
            "",
            np.nan,
        )
        self.low = self.high = labels.mean(axis=0)
        total, count = labels.sum(axis=0), len(labels)
        least = _loss(total[None], np.array([count]))[0]
        for name in (column.name for column in schema.columns() if not column.text):
            values = X[name].fillna(-np.inf).to_numpy("float64")
            order = np.argsort(values, kind="stable")
            values = values[order]
            last = np.flatnonzero(values[1:] > values[:-1])  # the last row below each threshold
            if not len(last):
                continue
            sums, rows = labels[order].cumsum(axis=0)[last], last + 1
            loss = _loss(sums, rows) + _loss(total - sums, count - rows)
            best = int(loss.argmin())
            if loss[best] < least:
                least, self.input, self.threshold = loss[best], name, float(values[last[best]])
                self.low, self.high = sums[best] / rows[best], (total - sums[best]) / (count - rows[best])
        self.classes_ = np.arange(max(len(total), 2))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """The mean label on the row's side of the threshold; shape (n,), or that of `predict_proba` with several classes."""
        above = X[self.input].to_numpy("float64") > self.threshold if self.input else np.zeros(len(X), bool)
        return np.where(above[:, None], self.high, self.low).reshape(shape(len(X)))

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """The same as probabilities of all classes; shape (n, classes)."""
        p = self.predict(X)
        return np.column_stack([1 - p, p]) if p.ndim == 1 else p

    def __str__(self) -> str:
        """The rule for people."""
        if not self.input:
            return f"no threshold on one input is better than the mean, {_told(self.low)}"
        where = "is not missing" if self.threshold == -np.inf else f"above {self.threshold:g}"
        return f"{self.input} {where}: {_told(self.high)}, else {_told(self.low)}"


def _told(means: np.ndarray) -> str:
    return ", ".join(f"{name} {mean:.3g}".strip() for name, mean in zip(classes() or [""], means, strict=True))


def _loss(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What groups of rows cost if each is treated as its mean label says, up to what no rule can change; shape (groups,).

    Args:
        sums: of the labels of each group, a column for each class; shape (groups, columns).
        rows: of each group; shape (groups,).
    """
    if (named := prices()) is None:
        return (-sums * (sums / rows[:, None])).sum(axis=1)
    miss, needless = named
    return np.minimum(sums[:, 0] * miss, (rows - sums[:, 0]) * needless)
