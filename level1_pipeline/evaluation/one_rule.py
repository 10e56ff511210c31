"""The one-rule baseline: the best single threshold on one numeric input, which a person could use without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd

from level1_pipeline import schema
from level1_pipeline.evaluation.decisions import prices


class OneRule:
    """Two rows of a table in the place of a model: what to expect up to the threshold, and above it.

    The rule costs least on its own rows: in dollars, where `problem.COSTS` prices a miss and a needless action, else
    in squared error. A missing value counts as one below every threshold. Without a rule it says the mean.
    """

    def fit(self, X: pd.DataFrame, y: pd.Series) -> OneRule:
        """Try each threshold of each numeric input."""
        labels, self.input, self.threshold = y.to_numpy("float64"), "", np.nan
        self.low = self.high = float(labels.mean())
        least = _loss(np.array([labels.sum()]), np.array([len(labels)]))[0]
        for name in (column.name for column in schema.columns() if not column.text):
            values = X[name].fillna(-np.inf).to_numpy("float64")
            order = np.argsort(values, kind="stable")
            values = values[order]
            last = np.flatnonzero(values[1:] > values[:-1])  # the last row below each threshold
            if not len(last):
                continue
            sums, rows = labels[order].cumsum()[last], last + 1
            loss = _loss(sums, rows) + _loss(labels.sum() - sums, len(labels) - rows)
            best = int(loss.argmin())
            if loss[best] < least:
                least, self.input, self.threshold = loss[best], name, float(values[last[best]])
                self.low = float(sums[best] / rows[best])
                self.high = float((labels.sum() - sums[best]) / (len(labels) - rows[best]))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """The mean label on the row's side of the threshold; shape (n,)."""
        above = X[self.input].to_numpy("float64") > self.threshold if self.input else np.zeros(len(X), bool)
        return np.where(above, self.high, self.low)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """The same as probabilities of both classes; shape (n, 2)."""
        p = self.predict(X)
        return np.column_stack([1 - p, p])

    def __str__(self) -> str:
        """The rule for people."""
        if not self.input:
            return f"no threshold on one input is better than the mean, {self.low:.3g}"
        where = "is not missing" if self.threshold == -np.inf else f"above {self.threshold:g}"
        return f"{self.input} {where}: {self.high:.3g}, else {self.low:.3g}"


def _loss(sums: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What groups of rows cost if each is treated as its mean label says, up to what no rule can change."""
    if (named := prices()) is None:
        return -sums * (sums / rows)
    miss, needless = named
    return np.minimum(sums * miss, (rows - sums) * needless)
