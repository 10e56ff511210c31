"""What is going on, and what should be done?  One ordered table: the first row that holds is the answer.

Faults come first, because broken data imitates everything else; a release before the world, because it
can be undone; the world last. What is not understood is *inconclusive*, and never a reason to retrain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from monitoring.detectors.measured import Measured
from monitoring.detectors.past_champions import PastChampion
from monitoring.results import Action, Cause, Confidence, Diagnosis, Effect
from monitoring.thresholds import LAST_WINDOWS, PERSISTENT_WINDOWS, REFERENCE_MIN_DAYS


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    cause: Cause
    action: Action
    confidence: Confidence
    when: Callable[[Measured], object]
    message: Callable[[Measured], str]


TABLE = (
    Row("data fault", "quarantine", "high", lambda m: m.certain_faults, lambda m: m.certain_faults[0].message),
    Row("data fault", "quarantine", "high", lambda m: m.skewed, lambda m: m.skew.message),
    Row("bad release", "roll back", "high", lambda m: m.undo_to, lambda m: "the new version fails to answer"),
    Row("label fault", "quarantine", "high", lambda m: m.label_faults, lambda m: m.label_faults[0].message),
    Row("bad release", "roll back", "high", lambda m: m.before_release, lambda m: _better(m.before_release)),
    Row("label fault", "quarantine", "medium", lambda m: m.concept_drift.outlier_slices, lambda m: _outlier(m)),
    Row("inconclusive", "wait", "medium", lambda m: m.lasting and m.strange, lambda m: _not_to_be_learned()),
    Row(
        "recurring concept", "switch back", "high", lambda m: m.lasting and m.came_back, lambda m: _better(m.came_back)
    ),
    Row("concept drift", "retrain", "high", lambda m: m.lasting, lambda m: _changed(m)),
    Row("inconclusive", "wait", "medium", lambda m: m.concept_drift.changed, lambda m: _not_yet(m)),
    Row(
        "recurring concept", "switch back", "low", lambda m: m.untested and m.inputs_came_back, lambda m: _came_back(m)
    ),
    Row("inconclusive", "wait", "low", lambda m: m.untested, lambda m: _too_few(m)),
    Row("inconclusive", "wait", "low", lambda m: m.traffic.stopped, lambda m: _stopped(m)),
    Row("inconclusive", "wait", "low", lambda m: not m.has_reference, lambda m: _no_reference()),
    Row("inconclusive", "wait", "low", lambda m: m.traffic.too_little, lambda m: _too_little(m)),
    Row("inconclusive", "wait", "medium", lambda m: m.strange, lambda m: _strange(m)),
    Row("inconclusive", "wait", "medium", lambda m: m.explained_by_slice, lambda m: _in_one_slice(m)),
    Row("covariate shift", "note", "high", lambda m: m.drift.verdict == "moved", lambda m: _harmless(m)),
    Row("nothing", "none", "high", lambda m: True, lambda m: "inputs, calibration and skill are as they were"),
)


def diagnose(measured: Measured) -> Diagnosis:
    """The first row that holds, with its evidence."""
    row = next(row for row in TABLE if row.when(measured))
    skew_untested = row.cause in ("nothing", "covariate shift") and measured.skew.verdict == "inconclusive"
    slices = measured.concept_drift.outlier_slices or measured.concept_drift.slices
    return Diagnosis(
        cause=row.cause,
        action=row.action,
        confidence="medium" if skew_untested else row.confidence,
        message=row.message(measured),
        evidence=_evidence(measured),
        slices=slices if row.cause != "nothing" else (),
        columns=_columns(measured) if row.cause != "nothing" else (),
        quarantine=measured.fault_spans if row.action == "quarantine" else (),
        version=_version(measured, row),
        missing=_missing(measured) if row.cause == "inconclusive" else (),
    )


def _columns(measured: Measured) -> tuple[Effect, ...]:
    """The columns most responsible."""
    if measured.certain_faults:
        return tuple(Effect(fault.column, fault.size) for fault in measured.certain_faults[:5])
    if measured.skewed:
        return tuple(Effect(name, n / measured.skew.checked) for name, n in list(measured.skew.columns.items())[:5])
    return measured.drift.effects[:5]


def _version(measured: Measured, row: Row) -> str | None:
    """The version to go back to."""
    if row.cause == "bad release":
        return measured.undo_to or (measured.before_release.version if measured.before_release else None)
    if row.cause == "recurring concept":
        return measured.came_back.version if measured.came_back else measured.fits_better
    return None


def _better(past: PastChampion | None) -> str:
    assert past
    return f"version {past.version} is better by {past.gain:.3f} a day on the same {past.days} days"


def _outlier(measured: Measured) -> str:
    worst = measured.concept_drift.outlier_slices[0]
    gap = f"{worst.change:+.2f}"
    return f"the outcomes of {worst.slice} left those of all others on the same days by {gap}: look at its labels"


def _changed(measured: Measured) -> str:
    over = measured.concept_drift_over
    loss = "" if over.excess is None else f" and the loss from its expectation by {over.excess:+.3f}"
    shown = f"{measured.windows_in_direction} of {LAST_WINDOWS} windows show it"
    about = f" of {over.about}" if over.about else ""
    return f"over {over.days} days outcomes differ from the scores{about} by {over.bias:+.3f}{loss}; {shown}"


def _not_to_be_learned() -> str:
    return "the relation is off, but some inputs are unlike any we know: a new kind of fault must not be learned"


def _came_back(measured: Measured) -> str:
    return f"the days look like those that version {measured.fits_better} was trained on; no outcomes prove it yet"


def _too_few(measured: Measured) -> str:
    coverage = measured.coverage
    if measured.traffic.stopped:
        return _stopped(measured)
    few = f"{coverage.matured:,} matured outcomes of {coverage.predictions:,} predictions are too few to judge by"
    return f"{_too_little(measured)}; {few}" if measured.traffic.too_little else few


def _too_little(measured: Measured) -> str:
    traffic = measured.traffic
    return (
        f"too little traffic for Level 2: {traffic.requests:,} requests in {traffic.days} days, and "
        f"{traffic.enough_a_day} a day would be enough to judge inputs and outcomes. Train by the calendar, or look at more "
        "days by hand (`python -m monitoring run --days 28`; the loop does not act on that report)"
    )


def _stopped(measured: Measured) -> str:
    traffic = measured.traffic
    days = ", ".join(map(str, traffic.empty_days))
    return (
        f"traffic stopped: {len(traffic.empty_days)} of {traffic.days} days have no request ({days}); "
        "is the service up, and do its callers reach it?"
    )


def _harmless(measured: Measured) -> str:
    return f"inputs moved ({measured.drift.message}), calibration and skill are intact"


def _not_yet(measured: Measured) -> str:
    if measured.explained_by_slice:
        return _in_one_slice(measured)
    shown = f"{measured.windows_in_direction} show it, {PERSISTENT_WINDOWS} are needed"
    return f"the relation is off in this window, but not over the last {LAST_WINDOWS} ({shown})"


def _in_one_slice(measured: Measured) -> str:
    return f"the relation is off only at {measured.explained_by_slice}: look at its labels and its process"


def _no_reference() -> str:
    return f"the inputs cannot be judged: there are no {REFERENCE_MIN_DAYS} days without a fault before this window"


def _strange(measured: Measured) -> str:
    fault = next((fault.message for fault in measured.faults if fault.strange), measured.skew.message)
    return f"outcomes are as expected, but some inputs are unlike any we know: {fault}"


def _missing(measured: Measured) -> tuple[str, ...]:
    coverage = measured.coverage
    needs = {
        "predictions in the window": not coverage.predictions,
        f"matured outcomes: {coverage.open:,} are open, {coverage.never:,} never came": measured.untested,
        f"requests on {', '.join(map(str, measured.traffic.empty_days))}": measured.traffic.empty_days,
        f"{measured.traffic.enough_a_day} requests a day": measured.traffic.too_little,
        f"labels: {coverage.labels_quarantined:,} are in quarantine": measured.untested and coverage.labels_quarantined,
        "another such window": measured.concept_drift.changed and not measured.lasting,
        "a look at the one slice that explains it": bool(measured.explained_by_slice),
        "days without a fault, to compare the inputs with": not measured.has_reference,
        "a look at the inputs that are unlike any known": measured.strange,
    }
    return tuple(need for need, is_missing in needs.items() if is_missing)


def _evidence(measured: Measured) -> tuple[str, ...]:
    coverage = measured.coverage
    never = f"{coverage.never:,} never, {coverage.quarantined:,} quarantined"
    never += f", {coverage.labels_quarantined:,} with a label in quarantine" if coverage.labels_quarantined else ""
    lines = [
        f"coverage: {coverage.matured:,} of {coverage.predictions:,} predictions matured, {coverage.open:,} open, {never}"
    ]
    if measured.traffic.empty_days:
        lines.append(f"days without a request: {', '.join(map(str, measured.traffic.empty_days))}")
    lines += [f"{'strange' if fault.strange else 'fault'}: {fault.message}" for fault in measured.faults[:8]]
    lines += [f"label fault: {fault.kind}, {fault.message}" for fault in measured.label_faults[:8]]
    lines.append(f"training-serving skew: {measured.skew.message}")
    lines += _relation(measured)
    lines.append(f"drift: {measured.drift.verdict}, {measured.drift.message}")
    for past in measured.past_champions:
        since = " (replaced by the new champion)" if past.at_release else ""
        lines.append(f"version {past.version}: {past.gain:+.3f} better a day over {past.days} days{since}")
    return tuple(lines)


def _relation(measured: Measured) -> list[str]:
    """How far the relation of inputs and outcome is off."""
    now, over = measured.concept_drift, measured.concept_drift_over
    if measured.untested:
        return []
    shown = f"{measured.windows_in_direction} of the last {LAST_WINDOWS} windows show it"
    about = [f" of {relation.about}" if relation.about else "" for relation in (now, over)]
    return [
        f"calibration{about[0]}: observed - expected {_with_t(now.bias, now.bias_t)} over {now.days} days",
        f"loss: observed - expected {_with_t(now.excess, now.excess_t)}",
        f"over {over.days} days{about[1]}: {_with_t(over.bias, over.bias_t)}, loss {_with_t(over.excess, over.excess_t)}; {shown}",
    ]


def _with_t(value: float | None, t: float | None) -> str:
    if value is None or t is None:
        return "not tested, because `evaluate` gives neither rmse nor mse to expect"
    return f"{value:+.3f} (t = {t:.1f})"
