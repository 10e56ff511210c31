"""How the inputs hang together: each number predicted from the others, as it was on the reference days.

Weather may be anything, but temperature, dew point and humidity cannot disagree, a departure's minute
cannot leave the clock, and a distance belongs to its destination. So a unit, a shifted clock, swapped
columns or noise break a relation long before they leave the bounds, and a season does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from monitoring.data.aggregates import numeric
from monitoring.thresholds import RELATION_CATEGORIES, RELATION_FIT_ROWS, RELATION_MIN_EXPLAINED, RELATION_RIDGE

CLOCK = "(clock)"  # minute of the local day at which the prediction was requested


@dataclass(frozen=True)
class Relations:
    """One linear relation for each numeric input: fitted by `learn`, applied by `residuals`."""

    centre: pd.Series
    scale: pd.Series
    values: dict[str, list[str]]
    weights: dict[str, np.ndarray]

    def residuals(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Observed minus expected, in standard deviations of the column; NaN where the input is missing."""
        numbers = self._numbers(rows)
        design = np.ascontiguousarray(self._design(rows, numbers))
        # The weights of a column's own value, and of its being missing, are zero.
        return pd.DataFrame(
            {name: numbers[name] - design @ weights for name, weights in self.weights.items()}, rows.index
        )

    def _numbers(self, rows: pd.DataFrame) -> pd.DataFrame:
        return (_with_clock(rows)[list(self.centre.index)] - self.centre) / self.scale

    def _design(self, rows: pd.DataFrame, numbers: pd.DataFrame) -> np.ndarray:
        parts = [numbers.fillna(0.0).clip(-10, 10).to_numpy(), numbers.isna().to_numpy("float64")]
        parts += [
            (rows[name].astype(str) == value).to_numpy("float64")[:, None]
            for name in self.values
            for value in self.values[name]
        ]
        return np.hstack([*parts, np.ones((len(rows), 1))])


def learn(rows: pd.DataFrame) -> Relations:
    """Fit on reference rows; a constant column is left out."""
    rows = rows.sample(min(RELATION_FIT_ROWS, len(rows)), random_state=0)
    numbers = _with_clock(rows)
    centre, scale = numbers.mean(), numbers.std()
    usable = scale.index[(scale > 0) & scale.notna()]
    texts = [column.name for column in schema.columns() if column.text]
    values = {name: list(rows[name].astype(str).value_counts().index[:RELATION_CATEGORIES]) for name in texts}
    relations = Relations(centre[usable], scale[usable], values, {})
    standard = relations._numbers(rows)
    design = relations._design(rows, standard)
    cross = (
        design.T @ design
    )  # one for all columns: `sklearn.linear_model.Ridge`, fitted for each, takes three times as long
    for place, name in enumerate(usable):
        present = standard[name].notna().to_numpy()
        gram = cross if present.all() else design[present].T @ design[present]
        others = np.delete(np.arange(len(gram)), [place, place + len(usable)])
        target = design[present][:, others].T @ standard[name].to_numpy()[present]
        weights = np.zeros(len(gram))
        penalty = RELATION_RIDGE * np.eye(len(others))
        weights[others] = np.linalg.solve(gram[np.ix_(others, others)] + penalty, target)
        relations.weights[name] = weights
    explained = 1 - relations.residuals(rows).var() / relations._numbers(rows).var()
    kept = {name: weights for name, weights in relations.weights.items() if explained[name] >= RELATION_MIN_EXPLAINED}
    return replace(relations, weights=kept)


def _with_clock(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that nobody requested (of the training code, with no version) say nothing about when callers send requests."""
    local = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE)
    minute = (local.dt.hour * 60 + local.dt.minute).astype("float64")
    return rows[numeric()].assign(**{CLOCK: minute.where(rows["version"] != "", 0.0)})
