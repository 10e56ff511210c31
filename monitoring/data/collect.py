"""The first phase of a monitoring run: read everything that it rests on. After this nothing needs the settings or the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle
from level1_pipeline.errors import DataCheckFailed
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings
from level1_pipeline.store import quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.quarantine import Quarantined
from monitoring.data.prediction_window import Log, before, can_be_reference, of_rows, read
from monitoring.data.versions import load_published, past_champions, releases
from monitoring.results import MonitoringRun, Release, Window
from monitoring.thresholds import NEW_RELEASE_WINDOWS, REFERENCE_DAYS, REFERENCE_MAX_DAYS_BACK


@dataclass(frozen=True)
class Collected:
    """All that a monitoring run looks at."""

    now: datetime
    current: Log
    logged: Log  # before the current window
    reference: Log  # the same or, while the log is too young, what the training code makes of these days
    champion: str | None
    releases: tuple[Release, ...]  # oldest first
    models: dict[
        str, Bundle
    ]  # by version: the champion, past champions, and whoever answered; without those that are gone
    earlier_runs: tuple[MonitoringRun, ...]  # over the windows before, the newest first
    training_rows: pd.DataFrame | str  # that the training code makes; or why it cannot
    quarantined: tuple[Quarantined, ...]  # left out of both logs
    lifted: tuple[Quarantined, ...]  # that a person found to be no fault

    @property
    def model(self) -> Bundle | None:
        """The champion's."""
        return self.models.get(self.champion or "")

    @property
    def trained_on(self) -> dict[str, list[str]]:
        """The values of the text inputs that the champion has learned from."""
        return self.model.manifest.get("categories", {}) if self.model else {}

    @property
    def past_models(self) -> dict[str, Bundle]:
        """Of the past champions, the newest first."""
        versions = past_champions(self.releases, self.champion)
        return {version: self.models[version] for version in versions if version in self.models}

    @property
    def new_release(self) -> Release | None:
        """How the champion took over, if that is not long ago."""
        window = self.current.window
        release = next((release for release in reversed(self.releases) if release.version == self.champion), None)
        since = window.end - NEW_RELEASE_WINDOWS * (window.end - window.start)
        return release if release and release.at >= since else None


def collect(
    settings: Settings, store: Store, window: Window, now: datetime, earlier_runs: tuple[MonitoringRun, ...]
) -> Collected:
    """Read the logs, versions, training rows and quarantine that a run over `window` needs, as they were known at `now`."""
    quarantined = quarantine.spans(store, window.end)  # not what this run wrote itself when it ran before
    rows = training_rows(settings, pd.Timestamp(now))
    current = read(store, window, now, quarantined)
    logged = read(store, before(window, _days_back(window, quarantined)), now, quarantined)
    champion, history = store.route(problem.NAME).champion, releases(store)
    versions = {champion, *past_champions(history, champion), *(version for version, _ in current.answers)} - {None}
    return Collected(
        now=now,
        current=current,
        logged=logged,
        reference=_reference(logged, quarantined, rows),
        champion=champion,
        releases=history,
        models=load_published(settings.bundles, store, sorted(filter(None, versions))),
        earlier_runs=earlier_runs,
        training_rows=rows,
        quarantined=quarantined,
        lifted=quarantine.lifted(store),
    )


def training_rows(settings: Settings, until: pd.Timestamp) -> pd.DataFrame | str:
    """The rows that the training code makes, or why it cannot."""
    try:
        return source.load(settings, until)
    except DataCheckFailed as error:
        return str(error)


def _days_back(window: Window, quarantined: tuple[Quarantined, ...]) -> int:
    """How far to look for REFERENCE_DAYS without a quarantine: a fault that lasts must not become what is usual."""
    whole_days = 0
    inputs = [span for span in quarantined if span.what == quarantine.ROWS]
    for days in range(1, REFERENCE_MAX_DAYS_BACK + 1):
        start, end = before(window, days).start, before(window, days - 1).start
        whole_days += not any(span.start < end and span.end > start for span in inputs)
        if whole_days == REFERENCE_DAYS:
            return days
    return REFERENCE_MAX_DAYS_BACK


def _reference(logged: Log, quarantined: tuple[Quarantined, ...], rows: pd.DataFrame | str) -> Log:
    if can_be_reference(logged) or isinstance(rows, str):
        return logged
    visible = rows[~quarantine.covers(rows, quarantined)]
    return of_rows(quarantine.without_labels(visible, quarantined), logged.window)
