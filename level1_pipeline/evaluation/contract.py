"""Does problem.py keep what the later levels rely on?  What can be told without data is told before anything is trained."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.errors import ProblemRefused

ENTITY_MAX_SHARE = 0.1  # of the rows; the first step of a canary is 5 %
DAYS = {"one row": [1.0], "one row without the event": [0.0], "rows with one label only": [1.0, 1.0, 1.0]}


def check_metrics() -> None:
    """Two models are compared day by day, and a day may have a single row, or a single label.

    Raises:
        ProblemRefused: `evaluate` raises on such a day, lacks a metric, or gives a primary metric that is no number.
    """
    for what, labels in DAYS.items():
        y, p = np.array(labels), np.linspace(0.2, 0.6, len(labels))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a metric that is not defined; that is judged below
                metrics = problem.evaluate(y, p)
        except Exception as error:  # whatever a metric raises
            raise ProblemRefused(
                f"problem.py: `evaluate` raises {type(error).__name__} on a day with {what} ({error}); "
                "give NaN for a metric that is not defined there"
            ) from error
        wanted = {problem.PRIMARY_METRIC, *problem.GATE["limits"]}
        if absent := sorted(wanted - set(metrics)):
            raise ProblemRefused(
                f"problem.py: PRIMARY_METRIC or GATE['limits'] names '{absent[0]}', which `evaluate` does not give; "
                f"it gives {', '.join(sorted(metrics))}"
            )
        if not np.isfinite(metrics[problem.PRIMARY_METRIC]):
            raise ProblemRefused(
                f"problem.py: the metric '{problem.PRIMARY_METRIC}' is {metrics[problem.PRIMARY_METRIC]} on a day with {what}, "
                "and models are compared by it day by day; choose a PRIMARY_METRIC that is a mean over rows, "
                "as log_loss or mae, and keep the other as a limit"
            )


def entity_warning(rows: pd.DataFrame) -> str:
    """What a person should know of ENTITY before a rollout; empty if all is well.

    An entity keeps its arm in a canary, so one that has many of the rows leaves an arm without a sample.
    """
    shares = rows[problem.ENTITY].value_counts(normalize=True)
    if not len(shares) or shares.iloc[0] <= ENTITY_MAX_SHARE:
        return ""
    return (
        f"{problem.ENTITY} '{shares.index[0]}' has {shares.iloc[0]:.0%} of the rows, so a canary cannot get a small share "
        "of them; give the rows a finer ENTITY in problem.py (their ID, if nothing has to stay in one arm)"
    )
