"""The second phase of a monitoring run: every detector, on what was collected."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle
from level1_pipeline.schema.scores import from_columns, shape
from level1_pipeline.store import quarantine
from monitoring.data import traffic
from monitoring.data.collect import Collected
from monitoring.data.prediction_window import SHADOW, can_be_reference, whole_days
from monitoring.detectors import (
    concept_drift,
    data_faults,
    drift,
    past_champions,
    performance,
    training_serving_skew,
)
from monitoring.detectors.concept_drift import ConceptDrift
from monitoring.detectors.data_faults import Fault
from monitoring.detectors.labels import label_faults
from monitoring.detectors.labels.label_faults import LabelFault
from monitoring.detectors.measured import Measured
from monitoring.detectors.past_champions import PastChampion
from monitoring.results import Drift, Performance, Skew, Span
from monitoring.thresholds import LAST_WINDOWS, REFERENCE_DAYS, RELEASE_MAX_ERROR_SHARE, SKEW_MAX_SHARE

DRIFT_SIGNAL = "drift"  # of a window whose inputs moved
Scored = tuple[pd.DataFrame, np.ndarray]  # matured rows, and a version's scores for them

logger = logging.getLogger(__name__)


def measure(collected: Collected) -> Measured:
    """Ask every detector."""
    current = _scored_by_champion(collected, performance.matured(collected.current.rows))
    last_windows = _last_windows(collected, current)
    promised = _promised_rmse(collected.model)
    relation = _without_lifted_slices(collected, concept_drift.check(*current, promised))
    over = concept_drift.check(*last_windows, promised, lasting=True)
    other_class = over.about not in ("", relation.about)
    faults = data_faults.find(
        collected.reference, collected.current, collected.quarantined, collected.lifted, collected.trained_on
    )
    skew, of_labels = _skew(collected), _label_faults(collected)
    rows_apart = tuple(span for span in collected.quarantined if span.what == quarantine.ROWS)
    return Measured(
        coverage=collected.current.coverage,
        drift=_drift(collected),
        skew=skew,
        concept_drift=relation,
        concept_drift_over=over,
        same_class=concept_drift.check(*current, promised, about=over.about) if other_class else None,
        windows_in_direction=_windows_in_direction(collected, last_windows, over),
        faults=tuple(faults),
        label_faults=of_labels,
        fault_spans=(*_spans(collected, faults, skew), *_label_spans(collected, of_labels, relation)),
        traffic=traffic.look(collected.current, collected.logged, collected.reference, rows_apart),
        has_reference=not len(collected.current.rows) or can_be_reference(collected.reference),
        past_champions=_past_champions(collected, current, last_windows),
        undo_to=_undo_to(collected),
        fits_better=_fits_better(collected) if relation.changed is None else None,
        performances=_performances(collected),
    )


def _scored_by_champion(collected: Collected, rows: pd.DataFrame) -> Scored:
    """Matured rows that the champion had not seen in training, with its scores.

    Those that another version answered are scored again, so that a champion is judged from its first day. If the
    champion is gone or fails on some of the rows, only its own answers count.
    """
    if not len(rows):
        return rows, np.empty(shape(0))
    if collected.model is not None:
        unseen = _unseen(collected.model, rows)
        scores = _scores(collected.model, unseen)
        if scores is not None:
            return unseen, scores
    rows = rows[rows["version"] == collected.champion].reset_index(drop=True)
    return rows, from_columns(rows)


def _last_windows(collected: Collected, current: Scored) -> Scored:
    """The matured rows of the last windows that the champion had not seen, with its scores."""
    window = collected.current.window
    rows = performance.matured(collected.logged.rows)
    if collected.model is None or not len(rows):
        return current
    newer = rows[rows["at"] >= window.end - LAST_WINDOWS * (window.end - window.start)]
    return _scored_by_champion(collected, pd.concat([newer, current[0]], ignore_index=True))


def _unseen(model: Bundle, rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[problem.EVENT_TIME] > pd.Timestamp(model.manifest["trained_until"])].reset_index(drop=True)


def _scores(model: Bundle, rows: pd.DataFrame) -> np.ndarray | None:
    """A version's scores; None if it raises or gives no number: a bad release must not end a monitoring run."""
    try:
        scores = model.predict_frame(rows) if len(rows) else np.empty(shape(0))
    except Exception as error:  # whatever a model does wrong, the diagnosis is needed all the more
        logger.warning("%s cannot score %d rows again: %s: %s", model.folder, len(rows), type(error).__name__, error)
        return None
    return scores if np.isfinite(scores).all() else None


def _promised_rmse(model: Bundle | None) -> float | None:
    """What a regression's loss is held against; None, and only its bias is, if `evaluate` gives no rmse or mse."""
    metrics = model.manifest.get("metrics", {}) if model else {}
    mse = metrics.get("mse")
    return metrics.get("rmse", None if mse is None else mse**0.5)


def _drift(collected: Collected) -> Drift:
    reference = collected.reference.sums.day_summaries()
    if not len(reference) and collected.model:
        reference = past_champions.profile(collected.model).tail(REFERENCE_DAYS)
    moved_before = [DRIFT_SIGNAL in run.signals for run in collected.earlier_runs]
    return drift.decide(reference, collected.current.sums.day_summaries(like=reference), moved_before)


def _windows_in_direction(collected: Collected, last_windows: Scored, over: ConceptDrift) -> int:
    """How many of the last windows are off in the direction in which they are off together."""
    if not over.changed:
        return 0
    (rows, scores), window = last_windows, collected.current.window
    windows_back = ((window.end - rows["at"]) // (window.end - window.start)).to_numpy()
    parts = [np.flatnonzero(windows_back == number) for number in range(LAST_WINDOWS)]
    promised = _promised_rmse(collected.model)
    tests = [
        concept_drift.check(rows.iloc[part].reset_index(drop=True), scores[part], promised, about=over.about)
        for part in parts
    ]
    return sum(concept_drift.same_direction(test, over) for test in tests)


def _skew(collected: Collected) -> Skew:
    """Requests against the training code, without the rows that a person has looked at and found right."""
    rows = collected.current.rows
    rows = rows[~quarantine.covers(rows, collected.lifted)] if len(rows) else rows
    return training_serving_skew.compare(rows, collected.training_rows)


def _without_lifted_slices(collected: Collected, relation: ConceptDrift) -> ConceptDrift:
    """Without the slices whose labels a person has found right for the whole window."""
    window = collected.current.window
    labels = [span for span in collected.lifted if span.what == quarantine.LABELS]
    right = {span.slice for span in labels if span.start <= window.start and window.end <= span.end}
    remaining = tuple(part for part in relation.outlier_slices if not right & {part.slice, ""})
    return replace(relation, outlier_slices=remaining)


def _label_faults(collected: Collected) -> tuple[LabelFault, ...]:
    """What is wrong with the window's labels. The champion may be bad, so past champions are asked for scores, too."""
    rows = label_faults.old_enough(collected.current.rows, collected.lifted)
    past = collected.past_models.values() if len(rows) else ()
    opinions = [scores for model in past if (scores := _scores(model, rows)) is not None]
    reference = collected.reference.rows
    return label_faults.find(rows, reference, collected.training_rows, opinions, collected.quarantined)


def _label_spans(collected: Collected, faults: tuple[LabelFault, ...], relation: ConceptDrift) -> tuple[Span, ...]:
    """The labels that a label fault covers: of its own days or, if it is known only that those of a slice left all
    others, of the window."""
    window, reason = collected.current.window, "its outcomes left those of all other slices on the same days"
    outliers = (
        Span(window.start, window.end, part.slice, reason, quarantine.LABELS) for part in relation.outlier_slices
    )
    return label_faults.spans(faults, window) or tuple(outliers)


def _spans(collected: Collected, faults: list[Fault], skew: Skew) -> tuple[Span, ...]:
    """The rows that a data fault covers: its own days, or those of the replayed requests that differ."""
    window = collected.current.window
    spans = data_faults.spans([fault for fault in faults if not fault.strange], window)
    if not spans and skew.mismatched >= SKEW_MAX_SHARE * max(skew.checked, 1):
        days = [whole_days(date.fromisoformat(day) + timedelta(days=1), 1) for day in skew.days]
        reason = f"training-serving skew: {skew.message}"
        spans = tuple(Span(day.start, day.end, skew.slice, reason) for day in days)
    return spans


def _past_champions(collected: Collected, current: Scored, last_windows: Scored) -> tuple[PastChampion, ...]:
    """Past champions on the last windows, over which a change must have lasted; the one just replaced on this one."""
    if not len(current[0]) or collected.model is None:
        return ()
    release, compared = collected.new_release, []
    for version, model in collected.past_models.items():
        if _scores(model, last_windows[0]) is not None:
            if _is_of_training(model):
                compared.append(past_champions.compare(*last_windows, model, version))
            if release and version == release.replaced:
                compared.append(past_champions.compare(*current, model, version, at_release=True))
    return tuple(compared)


def _is_of_training(model: Bundle) -> bool:
    """Whether a version has trees of its own. An offset on another one's scores is no concept that could come back."""
    return "recalibration" not in model.manifest


def _undo_to(collected: Collected) -> str | None:
    """The version to go back to, when a new champion often gives no score and the one before did."""
    release = collected.new_release
    if not release or not release.replaced:
        return None

    def error_share(version: str | None) -> float:
        logs = (collected.current.answers, collected.logged.answers)
        own = [answers for log in logs for (name, arm), answers in log.items() if name == version and arm != SHADOW]
        failed = sum(answers.errors for answers in own)
        return failed / max(failed + sum(answers.predictions for answers in own), 1)

    fails = error_share(collected.champion) > RELEASE_MAX_ERROR_SHARE >= error_share(release.replaced)
    return release.replaced if fails else None


def _fits_better(collected: Collected) -> str | None:
    """A past champion whose training days look much more like the window than the champion's do."""
    if collected.model is None or collected.current.sums.rows is None:
        return None
    past = {version: model for version, model in collected.past_models.items() if _is_of_training(model)}
    return past_champions.closest(collected.model, past, collected.current.sums.day_summaries)


def _performances(collected: Collected) -> tuple[Performance, ...]:
    reference = performance.matured(collected.logged.rows)
    cutoff = collected.now - timedelta(hours=problem.GATE["maturity_hours"])
    reference = reference[reference["at"] <= cutoff] if len(reference) else reference
    measured = []
    for (version, _), answers in sorted(collected.current.answers.items()):
        model = collected.models.get(version)
        promised = model.manifest.get("metrics", {}) if model else {}
        own = reference[reference["version"] == version] if len(reference) else None
        measured.append(performance.measure(answers, promised, own))
    return tuple(measured)
