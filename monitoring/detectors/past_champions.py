"""Earlier champions: who they were, what they would have said, and whether their data looked like today's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import PROFILE, Bundle, load_bundle
from level1_pipeline.errors import BundleRefused
from level1_pipeline.store import audit_queries
from level1_pipeline.store.database import Store
from monitoring.detectors.concept_drift import CONFIDENCE, beyond
from monitoring.results import Release

EARLIER = 4  # champions that are tried
MIN_DAYS = 3
CLEARLY = 0.975  # one-sided


@dataclass(frozen=True)
class PastChampion:
    """Another version on the same rows: `gain` is the mean daily difference of the loss, above 0 if it is better."""

    version: str
    gain: float
    days: int
    clearly_better: bool  # with CLEARLY: for a switch, which also needs a lasting signal
    beyond_doubt: bool = False  # with change.CONFIDENCE: enough by itself, to undo a release
    at_release: bool = False  # it is the version that a new champion has just replaced


def releases(store: Store) -> tuple[Release, ...]:
    """When which version became champion, oldest first, from the audit log."""
    return tuple(
        Release(str(line.to_version), line.at, line.text, line.from_version)
        for line in audit_queries.releases(store.audit_log(problem.NAME))
    )


def earlier(history: tuple[Release, ...], champion: str) -> list[str]:
    """Versions that were champion before this one, the newest first."""
    names = [release.version for release in history if release.version != champion]
    return list(dict.fromkeys(reversed(names)))[:EARLIER]


def load(bundles: Path, version: str | None) -> Bundle | None:
    """A published version; None if it is gone or damaged, which must not stop a pass."""
    try:
        return load_bundle(bundles / version) if version else None
    except BundleRefused:
        return None


def compare(
    rows: pd.DataFrame, champion: np.ndarray, other: Bundle, version: str, at_release: bool = False
) -> PastChampion:
    """Compare the loss day by day with that of another version, on matured rows that it had not seen in training either.

    A version whose manifest does not say until when it was trained is compared on no row: nobody could trust it.
    """
    until = pd.Timestamp(other.manifest.get("trained_until") or pd.Timestamp.max.tz_localize("UTC"))
    unseen = (rows[problem.EVENT_TIME] > until).to_numpy()
    rows, champion = rows[unseen].reset_index(drop=True), champion[unseen]
    theirs = other.predict_frame(rows) if len(rows) else np.empty(0)
    y = rows[problem.TARGET].to_numpy()
    name = problem.PRIMARY_METRIC
    gains = pd.Series(
        [
            problem.evaluate(y[i], champion[i])[name] - problem.evaluate(y[i], theirs[i])[name]
            for i in rows.groupby("day").indices.values()
            if len(i) >= 20
        ],
        dtype="float64",
    )
    gain = float(gains.mean()) if len(gains) else 0.0
    large = len(gains) >= MIN_DAYS and gain > problem.GATE["max_harm"]
    better = [large and beyond(gains, confidence) for confidence in (CLEARLY, CONFIDENCE)]
    return PastChampion(version, gain, len(gains), better[0], better[1], at_release)


def distance(profile: pd.DataFrame, current: pd.DataFrame) -> float:
    """How far the window's days lie from those that a version was trained on: mean |difference| over the
    columns, in standard deviations between its days. Infinite if they share no column."""
    names = [name for name in profile.columns if name in current.columns and name != "rows|rows"]
    spread = profile[names].std()
    gaps = ((current[names].mean() - profile[names].mean()).abs() / spread.where(spread > 0)).dropna()
    return float(gaps.clip(upper=10).mean()) if len(gaps) else float("inf")


def profile(one: Bundle) -> pd.DataFrame:
    """Day summaries of the data that a version was trained on."""
    return pd.read_parquet(one.folder / PROFILE)
