"""Did the inputs or the predictions move?  One decision for the whole data set, with persistence.

The decision is max-T over day summaries with permuted days (`level1_pipeline.validation.value_skew`).
Seasonal inputs always move in the end: drift is a note unless performance says otherwise. The columns
are ranked by effect, and are no alarms of their own.
"""

from __future__ import annotations

import pandas as pd

from level1_pipeline.evaluation.drift import MIN_DAYS, drift_test
from monitoring.results import Drift, Effect

K, N = 2, 3  # windows that must have moved, of the last


def gate(reference: pd.DataFrame, current: pd.DataFrame, earlier: list[bool]) -> Drift:
    """The decision on results of `Sums.day_summaries` (or a bundle's profile as the reference).

    Args:
        reference: summaries of the days to compare with.
        current: of the window's days.
        earlier: whether each of the windows before this one moved, the newest first.
    """
    if min(len(reference), len(current)) < MIN_DAYS:
        message = f"{len(current)} days against {len(reference)}: at least {MIN_DAYS} are needed on each side"
        return Drift("inconclusive", None, (), sum(earlier[: N - 1]), N, message)
    found = drift_test(reference.reset_index(drop=True), current.reset_index(drop=True))
    moved = found.verdict == "moved"
    effects = tuple(Effect(name, size) for name, size in found.columns.items())
    persisted = sum([moved, *earlier[: N - 1]])
    verdict = "moved" if moved else "steady" if found.verdict == "steady" else "inconclusive"
    return Drift(verdict, found.p_value, effects, persisted, N, found.reason)  # type: ignore[arg-type]


def persisted(drift: Drift) -> bool:
    """Whether it moved now, and in K of the last N windows."""
    return drift.verdict == "moved" and drift.persisted >= K
