"""How sure is a mean over days?  Days that follow each other hang together: a storm, and what it delays, lasts.

An interval that takes them for independent draws covers far less than it says: docs/monitoring.md, "What an interval
covers". Both correlations below were measured on the flights of April to June 2013, quarter means removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

import numpy as np

# Of a day with the next one; with the one after that its square, and so on.
DAY_CORRELATION = 0.5  # of observed - expected outcomes or losses: 0.48 and 0.51
DIFFERENCE_CORRELATION = (
    0.2  # between two models, or a slice and the others, on the same days: 0.18 and 0.25 on average
)
# Of the inputs: with 0.2, 1.0 % of the consecutive A/A windows of `make bench-drift` are alarms, with 0.4 0.3 %.
DRIFT_CORRELATION = 0.25


class DayMean(NamedTuple):
    """The mean of daily figures, and what is known of its error."""

    value: float
    error: float  # standard error; infinite for less than two days
    freedom: float  # degrees of freedom of the error: fewer than days - 1
    variance: float = 0.0  # of a single day

    def half_width(self, confidence: float) -> float:
        """How far the truth may lie above the mean with this one-sided confidence."""
        from scipy.stats import t

        return float(t.ppf(confidence, self.freedom) * self.error) if self.freedom else float("inf")

    @property
    def t(self) -> float:
        """The mean over its error; 0 if there is none."""
        return float(self.value / max(self.error, 1e-12)) if self.freedom else 0.0


def day_mean(
    values: Sequence[float] | np.ndarray, days: Sequence[date] | np.ndarray, correlation: float = DAY_CORRELATION
) -> DayMean:
    """The mean of one figure for each day, with a standard error for days that hang together.

    The days are taken for a first-order autoregression. Its variance is estimated without bias, and the degrees of
    freedom shrink as the number of independent days does.
    (Priestley, Spectral Analysis and Time Series, 1981, 5.3: variance of the mean of a stationary process.)

    Args:
        values: shape (n,).
        days: the local day of each, as a date or as a number of days, each once; shape (n,).
        correlation: of a day with the next one.
    """
    x, n = np.asarray(values, "float64"), len(values)
    if n < 2:
        return DayMean(float(x.mean()) if n else 0.0, float("inf"), 0.0)
    times = inflation(days, correlation)
    variance = float(((x - x.mean()) ** 2).sum() / (n - times))
    return DayMean(float(x.mean()), float(np.sqrt(variance * times / n)), (n - 1) / times, variance)


def inflation(days: Sequence[date] | np.ndarray, correlation: float = DAY_CORRELATION) -> float:
    """How many times the variance of a mean over these days is that of a mean over independent ones."""
    number = np.array([day.toordinal() if isinstance(day, date) else float(day) for day in days])
    return float((correlation ** np.abs(number[:, None] - number[None, :])).sum() / len(number))
