"""One pass over the last window: read, measure, compare, diagnose, and write it down."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock, quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.quarantine import Quarantined
from monitoring import history as run_history
from monitoring.data.prediction_window import SHADOW, Log, before, between, last_days, of_rows, read
from monitoring.detectors import concept_drift, data_faults, drift, past_champions, performance, training_serving_skew
from monitoring.detectors.drift import N
from monitoring.detectors.past_champions import PastChampion
from monitoring.diagnosis import Facts, diagnose
from monitoring.results import Diagnosis, Drift, MonitoringRun, Performance, Release, Skew, Span, Window

REFERENCE_DAYS = 28  # before the window
MOST_DAYS_BACK = 4 * REFERENCE_DAYS
NEW = 2  # windows for which a release counts as new
FAILING = 0.01  # share of predictions without a score
MUCH_CLOSER = 0.5  # of the champion's distance: an earlier champion's data fits clearly better
CHANGE, DRIFT, FAULT = "change", "drift", "fault"  # signals that a window shows by itself
Scored = tuple[pd.DataFrame, np.ndarray]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """Everything that a pass looks at."""

    settings: Settings
    now: datetime
    current: Log
    logged: Log  # before the window
    reference: Log  # the same or, while the log is too young, what the training code makes of these days
    champion: str | None
    model: Bundle | None  # the champion's
    history: tuple[Release, ...]
    earlier: list[MonitoringRun]  # over the windows before, the newest first
    made: pd.DataFrame | str  # rows of the training code; or why there are none
    hidden: tuple[Quarantined, ...]  # left out of both logs
    lifted: tuple[Quarantined, ...]  # that a person found to be no fault

    @property
    def promised(self) -> dict[str, float]:
        """The champion's metrics at promotion."""
        return dict(self.model.manifest.get("metrics", {})) if self.model else {}

    @property
    def promised_rmse(self) -> float | None:
        """What a regression's loss is held against; None, and only its bias is, if `evaluate` gives no rmse or mse."""
        mse = self.promised.get("mse")
        return self.promised.get("rmse", None if mse is None else mse**0.5)

    @property
    def release(self) -> Release | None:
        """When the champion took over."""
        return next((one for one in reversed(self.history) if one.version == self.champion), None)


def run_monitoring(settings: Settings, now: datetime | None = None, days: int = run_history.DAYS) -> MonitoringRun:
    """One pass over the last `days` whole local days before `now` (by default the clock's time).

    Writes its row in `passes` and, on a data fault, the spans in `quarantine`: in one transaction, so a
    killed pass leaves nothing and can run again. Of a window of another length nothing is kept (`journal.usual`).
    """
    now = now or clock.now(settings)
    store = Store(settings.operations)
    try:
        view = _look(settings, store, now, last_days(now, days), days)
        found = _judge(view)
        run_history.write(store, found)
        return found
    finally:
        store.close()


def _look(settings: Settings, store: Store, now: datetime, window: Window, days: int) -> View:
    hidden = quarantine.spans(store, window.end)  # not what this pass wrote itself when it ran before
    made = training_serving_skew.make(pd.Timestamp(now), settings.source, settings.home / "cache")
    past = before(window, _days_back(window, hidden))
    logged = read(store, past, now, hidden)
    champion = store.route(problem.NAME).champion
    return View(
        settings=settings,
        now=now,
        current=read(store, window, now, hidden),
        logged=logged,
        reference=_reference(logged, hidden, made),
        champion=champion,
        model=past_champions.load(settings.bundles, champion),
        history=past_champions.releases(store),
        earlier=run_history.earlier(store, window, days, N - 1),
        made=made,
        hidden=hidden,
        lifted=quarantine.lifted(store),
    )


def _days_back(window: Window, hidden: tuple[Quarantined, ...]) -> int:
    """How far to look for REFERENCE_DAYS without a quarantine: a fault that lasts must not become what is usual."""
    whole = 0
    for days in range(1, MOST_DAYS_BACK + 1):
        start, end = before(window, days).start, before(window, days - 1).start
        whole += not any(span.start < end and span.end > start for span in hidden)
        if whole == REFERENCE_DAYS:
            return days
    return MOST_DAYS_BACK


def _reference(logged: Log, hidden: tuple[Quarantined, ...], made: pd.DataFrame | str) -> Log:
    if data_faults.comparable(logged) or isinstance(made, str):
        return logged
    return of_rows(made[~quarantine.covers(made, hidden)], logged.window)


def _judge(view: View) -> MonitoringRun:
    rows_asked, moved = view.current.rows, _drift(view)
    replayed = _replayed(view)
    rows, scores = _matured(view)
    promised = view.promised_rmse
    relation = _cleared(view, concept_drift.check(rows, scores, promised))
    longer, longer_scores = _last_windows(view, rows, scores)
    over = concept_drift.check(longer, longer_scores, promised, lasting=True)
    found = data_faults.find(view.reference, view.current, view.hidden, view.lifted)
    facts = Facts(
        coverage=view.current.coverage,
        drift=moved,
        skew=replayed,
        change=relation,
        over=over,
        persisted=_persisted(view, longer, longer_scores, over),
        faults=tuple(found),
        spans=_spans(view, found, replayed, relation),
        compared=not len(rows_asked) or data_faults.comparable(view.reference),
        rivals=_rivals(view, (rows, scores), (longer, longer_scores)),
        failing=_failing(view),
        fits_better=_fits_better(view) if relation.changed is None else None,
    )
    return _pass(view, facts, diagnose(facts))


def _pass(view: View, facts: Facts, diagnosis: Diagnosis) -> MonitoringRun:
    relation = facts.change
    signals = {CHANGE: relation.changed, DRIFT: facts.drift.verdict == "moved", FAULT: diagnosis.cause == "data fault"}
    figures = {
        "bias": relation.bias,
        "bias_t": relation.bias_t,
        "excess": relation.excess,
        "excess_t": relation.excess_t,
        "bias_over": facts.over.bias,
        "excess_over": facts.over.excess,
    }
    return MonitoringRun(
        problem=problem.NAME,
        at=view.now,
        window=view.current.window,
        reference=view.reference.window if len(view.reference.rows) else None,
        champion=view.champion,
        coverage=view.current.coverage,
        performances=_performances(view),
        drift=facts.drift,
        skew=facts.skew,
        releases=view.history,
        diagnosis=diagnosis,
        signals=tuple(name for name, shown in signals.items() if shown),
        figures={name: value if relation.changed is not None else None for name, value in figures.items()},
    )


def _matured(view: View) -> Scored:
    """Matured answers that the champion had not seen in training, and what it says about them.

    Those that another version answered are scored again, so that a champion is judged from its first day.
    """
    rows = performance.known(view.current.rows)
    return _by_champion(view, rows) if len(rows) else (rows, np.empty(0))


def _by_champion(view: View, rows: pd.DataFrame) -> Scored:
    """Unseen rows with the champion's scores; only its own answers, if it is gone or fails on some of the others."""
    if view.model is not None:
        unseen = _unseen(view.model, rows)
        scores = _scores(view.model, unseen)
        if scores is not None:
            return unseen, scores
    rows = rows[rows["version"] == view.champion].reset_index(drop=True)
    return rows, rows["score"].to_numpy()


def _scores(model: Bundle, rows: pd.DataFrame) -> np.ndarray | None:
    """What a version says about rows; None if it raises or gives no number: a bad release must not end a pass."""
    try:
        scores = model.predict_frame(rows) if len(rows) else np.empty(0)
    except Exception as error:  # whatever a model does wrong, the diagnosis is needed all the more
        logger.warning("%s cannot score %d rows again: %s: %s", model.folder, len(rows), type(error).__name__, error)
        return None
    return scores if np.isfinite(scores).all() else None


def _drift(view: View) -> Drift:
    earlier = [DRIFT in one.signals for one in view.earlier]
    reference = view.reference.sums.day_summaries()
    if not len(reference) and view.model:
        reference = past_champions.profile(view.model).tail(REFERENCE_DAYS)
    return drift.gate(reference, view.current.sums.day_summaries(like=reference), earlier)


def _last_windows(view: View, rows: pd.DataFrame, scores: np.ndarray) -> Scored:
    """The matured rows of the last N windows that the champion had not seen, and what it says about them."""
    window = view.current.window
    before_ = performance.known(view.logged.rows)
    if view.model is None or not len(before_):
        return rows, scores
    newer = before_[before_["at"] >= window.end - N * (window.end - window.start)]
    return _by_champion(view, pd.concat([newer, rows], ignore_index=True))


def _persisted(view: View, rows: pd.DataFrame, scores: np.ndarray, over: concept_drift.ConceptDrift) -> int:
    """How many of the last N windows lean to where they are off together."""
    if not over.changed:
        return 0
    length = view.current.window.end - view.current.window.start
    back = ((view.current.window.end - rows["at"]) // length).to_numpy()
    promised = view.promised_rmse
    parts = [np.flatnonzero(back == one) for one in range(N)]
    windows = [concept_drift.check(rows.iloc[part].reset_index(drop=True), scores[part], promised) for part in parts]
    return sum(concept_drift.leans(one, over) for one in windows)


def _replayed(view: View) -> Skew:
    """Requests against the training code, without the rows that a person has looked at and found right."""
    rows = view.current.rows
    return training_serving_skew.compare(rows[~quarantine.covers(rows, view.lifted)] if len(rows) else rows, view.made)


def _cleared(view: View, relation: concept_drift.ConceptDrift) -> concept_drift.ConceptDrift:
    """Without the slices whose labels a person has found right for the whole window."""
    window = view.current.window
    right = {one.slice for one in view.lifted if one.start <= window.start and window.end <= one.end}
    return replace(relation, apart=tuple(part for part in relation.apart if not right & {part.slice, ""}))


def _spans(
    view: View, found: list[data_faults.Fault], replayed: Skew, relation: concept_drift.ConceptDrift
) -> tuple[Span, ...]:
    """What a data fault covers: its own days; or those of the replayed requests that differ; or, if it is known only
    that labels are wrong, the window."""
    spans = data_faults.spans([fault for fault in found if not fault.strange], view.current.window)
    window = view.current.window
    if not spans and replayed.mismatched >= training_serving_skew.SKEWED * max(replayed.checked, 1):
        starts = [pd.Timestamp(day, tz=problem.TIMEZONE) for day in replayed.days]
        days = [between(start, start + pd.DateOffset(days=1)) for start in starts]
        why = f"training-serving skew: {replayed.message}"
        spans = tuple(Span(day.start, day.end, replayed.slice, why) for day in days)
    if not spans:
        why = "its outcomes left those of all other slices on the same days"
        spans = tuple(Span(window.start, window.end, part.slice, why) for part in relation.apart)
    return spans


def _rivals(view: View, now: Scored, longer: Scored) -> tuple[PastChampion, ...]:
    """Earlier champions on the last N windows, in which a change must have lasted; the one just replaced on this one."""
    if not len(now[0]) or view.model is None or view.champion is None:
        return ()
    found, replaced = [], view.release.replaced if _is_new(view) and view.release else None
    for version in past_champions.earlier(view.history, view.champion):
        other = past_champions.load(view.settings.bundles, version)
        if other is not None and _scores(other, longer[0]) is not None:
            found.append(past_champions.compare(*longer, other, version))
            if version == replaced:
                found.append(past_champions.compare(*now, other, version, at_release=True))
    return tuple(found)


def _unseen(model: Bundle, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[problem.EVENT_TIME] > pd.Timestamp(model.manifest["trained_until"])].reset_index(drop=True)


def _is_new(view: View) -> bool:
    window = view.current.window
    return view.release is not None and view.release.at >= window.end - NEW * (window.end - window.start)


def _failing(view: View) -> str | None:
    """The version to go back to, when a new champion often gives no score and the one before did."""
    release = view.release
    if not _is_new(view) or not release or not release.replaced:
        return None

    def share(version: str | None) -> float:
        logs = (view.current, view.logged)
        mine = [log.answers[key] for log in logs for key in log.answers if key[0] == version and key[1] != SHADOW]
        failed = sum(one.errors for one in mine)
        return failed / max(failed + sum(one.predictions for one in mine), 1)

    return release.replaced if share(view.champion) > FAILING >= share(release.replaced) else None


def _fits_better(view: View) -> str | None:
    """An earlier champion whose training days look much more like the window than the champion's do."""
    if view.model is None or view.champion is None or view.current.sums.rows is None:
        return None
    summaries = view.current.sums.day_summaries
    mine = past_champions.profile(view.model)
    best, limit = None, MUCH_CLOSER * past_champions.distance(mine, summaries(like=mine))
    for version in past_champions.earlier(view.history, view.champion):
        other = past_champions.load(view.settings.bundles, version)
        if other is not None:
            theirs = past_champions.profile(other)
            gap = past_champions.distance(theirs, summaries(like=theirs))
            best, limit = (version, gap) if gap < limit else (best, limit)
    return best


def _performances(view: View) -> tuple[Performance, ...]:
    reference = performance.known(view.logged.rows)
    cutoff = view.now - timedelta(hours=problem.GATE["maturity_hours"])
    reference = reference[reference["at"] <= cutoff] if len(reference) else reference
    found = []
    for (version, _), answers in sorted(view.current.answers.items()):
        model = view.model if version == view.champion else past_champions.load(view.settings.bundles, version)
        promised = model.manifest.get("metrics", {}) if model else {}
        same = reference[reference["version"] == version] if len(reference) else None
        found.append(performance.measure(answers, promised, same))
    return tuple(found)
