"""Did the inputs or the predictions move?  One decision for the whole data set, with persistence.

The decision is max-T over day summaries with permuted days (`level1_pipeline.evaluation.drift.drift_test`).
Seasonal inputs always move in the end: drift is a note unless performance says otherwise. The columns
are ranked by effect, and are no alarms of their own.
"""

from __future__ import annotations

import pandas as pd

from level1_pipeline.evaluation.drift import DRIFT_MIN_DAYS, drift_test
from monitoring.results import Drift, Effect
from monitoring.thresholds import LAST_WINDOWS, PERSISTENT_WINDOWS


def decide(reference: pd.DataFrame, current: pd.DataFrame, moved_before: list[bool]) -> Drift:
    """The decision on results of `Aggregates.day_summaries` (or a bundle's profile as the reference).

    Args:
        reference: summaries of the days to compare with.
        current: of the window's days.
        moved_before: whether each of the windows before this one moved, the newest first.
    """
    before = moved_before[: LAST_WINDOWS - 1]
    if min(len(reference), len(current)) < DRIFT_MIN_DAYS:
        message = f"{len(current)} days against {len(reference)}: at least {DRIFT_MIN_DAYS} are needed on each side"
        return Drift("inconclusive", None, (), sum(before), LAST_WINDOWS, message)
    test = drift_test(reference, current)
    moved = test.verdict == "moved"
    effects = tuple(Effect(name, size) for name, size in test.columns.items())
    persisted = sum([moved, *before])
    verdict = "moved" if moved else "steady" if test.verdict == "steady" else "inconclusive"
    return Drift(verdict, test.p_value, effects, persisted, LAST_WINDOWS, test.reason)  # type: ignore[arg-type]


def persisted(drift: Drift) -> bool:
    """Whether it moved now, and in enough of the last windows."""
    return drift.verdict == "moved" and drift.persisted >= PERSISTENT_WINDOWS
