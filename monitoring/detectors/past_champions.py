"""Past champions: how they would have done on the same rows, and whether their training data look like today's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import PROFILE, Bundle
from level1_pipeline.evaluation.day_mean import DIFFERENCE_CORRELATION, day_mean
from level1_pipeline.schema.scores import shape
from monitoring.thresholds import (
    COMPARISON_MIN_DAYS,
    DAY_MIN_ROWS,
    FITS_BETTER_MAX_RATIO,
    PROFILE_MAX_GAP,
    SWITCH_CONFIDENCE,
    UNDO_CONFIDENCE,
)


@dataclass(frozen=True)
class PastChampion:
    """Another version on the same rows: `gain` is the mean daily difference of the loss, above 0 if it is better."""

    version: str
    gain: float
    days: int
    clearly_better: bool  # for a switch, which also needs a lasting signal
    beyond_doubt: bool = False  # enough by itself, to undo a release
    at_release: bool = False  # it is the version that a new champion has just replaced


def compare(
    rows: pd.DataFrame, champion: np.ndarray, other: Bundle, version: str, at_release: bool = False
) -> PastChampion:
    """Compare the loss day by day with that of another version, on matured rows that it had not seen in training either.

    A version whose manifest does not say until when it was trained is compared on no row: nobody could trust it.
    """
    until = pd.Timestamp(other.manifest.get("trained_until") or pd.Timestamp.max.tz_localize("UTC"))
    unseen = (rows[problem.EVENT_TIME] > until).to_numpy()
    rows, champion = rows[unseen].reset_index(drop=True), champion[unseen]
    theirs = other.predict_frame(rows) if len(rows) else np.empty(shape(0))
    y = rows[problem.TARGET].to_numpy()
    name = problem.PRIMARY_METRIC
    by_day = rows.groupby("day").indices if len(rows) else {}
    gains = {
        day: problem.evaluate(y[i], champion[i])[name] - problem.evaluate(y[i], theirs[i])[name]
        for day, i in by_day.items()
        if len(i) >= DAY_MIN_ROWS
    }
    gain = day_mean(list(gains.values()), list(gains), DIFFERENCE_CORRELATION)
    large = len(gains) >= COMPARISON_MIN_DAYS and gain.value > problem.GATE["max_harm"]
    better = [large and gain.value > gain.half_width(sure) for sure in (SWITCH_CONFIDENCE, UNDO_CONFIDENCE)]
    return PastChampion(version, gain.value, len(gains), better[0], better[1], at_release)


def distance(profile: pd.DataFrame, current: pd.DataFrame) -> float:
    """How far the window's days lie from those that a version was trained on: mean |difference| over the
    columns, in standard deviations between its days. Infinite if they share no column."""
    names = [name for name in profile.columns if name in current.columns and name != "rows|rows"]
    spread = profile[names].std()
    gaps = ((current[names].mean() - profile[names].mean()).abs() / spread.where(spread > 0)).dropna()
    return float(gaps.clip(upper=PROFILE_MAX_GAP).mean()) if len(gaps) else float("inf")


def profile(model: Bundle) -> pd.DataFrame:
    """Day summaries of the data that a version was trained on."""
    return pd.read_parquet(model.folder / PROFILE)


def closest(
    champion: Bundle, past_models: dict[str, Bundle], summaries: Callable[[pd.DataFrame], pd.DataFrame]
) -> str | None:
    """The past champion whose training days lie nearest to the window, if much nearer than the champion's do.

    `summaries` gives the window's day summaries with the columns of a profile.
    """

    def gap(model: Bundle) -> float:
        trained_on = profile(model)
        return distance(trained_on, summaries(trained_on))

    best, limit = None, FITS_BETTER_MAX_RATIO * gap(champion)
    for version, model in past_models.items():
        if (nearer := gap(model)) < limit:
            best, limit = version, nearer
    return best
