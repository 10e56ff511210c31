"""What is going on, and what should be done?  One ordered table: the first row that holds is the answer.

Faults come first, because broken data imitates everything else; a release before the world, because it
can be undone; the world last. What is not understood is *inconclusive*, and never a reason to retrain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from monitoring.detectors import concept_drift, drift
from monitoring.detectors.concept_drift import NOTHING, ConceptDrift
from monitoring.detectors.data_faults import MIN_REFERENCE, Fault
from monitoring.detectors.drift import K, N
from monitoring.detectors.past_champions import PastChampion
from monitoring.detectors.training_serving_skew import SKEWED
from monitoring.results import Action, Cause, Confidence, Coverage, Diagnosis, Drift, Effect, Skew, Span


@dataclass(frozen=True)
class Facts:
    """All that the decision rests on."""

    coverage: Coverage
    drift: Drift
    skew: Skew
    change: ConceptDrift = NOTHING  # of this window
    over: ConceptDrift = NOTHING  # of the last N windows together: a week alone is weather
    persisted: int = 0  # windows of the last N, this one included, that lean to where they are off together
    faults: tuple[Fault, ...] = ()
    spans: tuple[Span, ...] = ()  # that the faults cover
    compared: bool = True  # there were enough days to compare the inputs with
    rivals: tuple[PastChampion, ...] = ()  # earlier champions on the same matured rows
    failing: str | None = None  # the version to go back to, when the newly released one fails to answer
    fits_better: str | None = None  # an earlier champion that was trained on days much more like these

    @property
    def broken(self) -> list[Fault]:
        """Faults beyond doubt."""
        return [fault for fault in self.faults if not fault.strange]

    @property
    def strange(self) -> bool:
        """Something is unlike any data we know, short of a fault; or a few replayed requests differ."""
        return len(self.broken) < len(self.faults) or self.skew.verdict == "different"

    @property
    def skewed(self) -> bool:
        """Too many replayed requests differ."""
        return self.skew.verdict == "different" and self.skew.mismatched >= SKEWED * self.skew.checked

    @property
    def before_release(self) -> PastChampion | None:
        """The version that was just replaced, if it is clearly better on the same days."""
        return next((rival for rival in self.rivals if rival.at_release and rival.beyond_doubt), None)

    @property
    def came_back(self) -> PastChampion | None:
        """The best of the clearly better earlier champions."""
        return max((one for one in self.rivals if one.clearly_better), key=lambda one: one.gain, default=None)

    @property
    def lasting(self) -> bool:
        """The relation is off over the last N windows, K of them and the newest lean there, and not in one slice only."""
        together = bool(self.over.changed) and self.over.everywhere
        return together and self.persisted >= K and concept_drift.leans(self.change, self.over)

    @property
    def only(self) -> str:
        """The one slice value without which nothing is off, in this window or over the last N."""
        return self.change.only or (self.over.only if self.over.changed else "")

    @property
    def blind(self) -> bool:
        """Too few matured outcomes to test anything."""
        return self.change.changed is None

    @property
    def looks_back(self) -> bool:
        """The inputs have moved for good, to where an earlier champion was trained."""
        return drift.persisted(self.drift) and self.fits_better is not None


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    cause: Cause
    action: Action
    confidence: Confidence
    when: Callable[[Facts], object]
    message: Callable[[Facts], str]


TABLE = (
    Row("data fault", "quarantine", "high", lambda f: f.broken, lambda f: f.broken[0].message),
    Row("data fault", "quarantine", "high", lambda f: f.skewed, lambda f: f.skew.message),
    Row("bad release", "roll back", "high", lambda f: f.failing, lambda f: "the new version fails to answer"),
    Row("bad release", "roll back", "high", lambda f: f.before_release, lambda f: _than(f.before_release)),
    Row("data fault", "quarantine", "medium", lambda f: f.change.apart, lambda f: _apart(f)),
    Row("inconclusive", "wait", "medium", lambda f: f.lasting and f.strange, lambda f: _unlike(f)),
    Row("recurring concept", "switch back", "high", lambda f: f.lasting and f.came_back, lambda f: _than(f.came_back)),
    Row("concept drift", "retrain", "high", lambda f: f.lasting, lambda f: _moved(f)),
    Row("inconclusive", "wait", "medium", lambda f: f.change.changed, lambda f: _not_yet(f)),
    Row("recurring concept", "switch back", "low", lambda f: f.blind and f.looks_back, lambda f: _looks_back(f)),
    Row("inconclusive", "wait", "low", lambda f: f.blind, lambda f: _too_few(f)),
    Row("inconclusive", "wait", "low", lambda f: not f.compared, lambda f: _nothing_to_compare_with()),
    Row("inconclusive", "wait", "medium", lambda f: f.strange, lambda f: _strange(f)),
    Row("inconclusive", "wait", "medium", lambda f: f.only, lambda f: _only(f.only)),
    Row("covariate shift", "note", "high", lambda f: f.drift.verdict == "moved", lambda f: _harmless(f)),
    Row("nothing", "none", "high", lambda f: True, lambda f: "inputs, calibration and skill are as they were"),
)


def diagnose(facts: Facts) -> Diagnosis:
    """The first row that holds, with its evidence."""
    row = next(row for row in TABLE if row.when(facts))
    found = Diagnosis(row.cause, row.action, row.confidence, row.message(facts), _evidence(facts))
    columns = tuple(Effect(fault.column, fault.size) for fault in facts.broken[:5]) or facts.drift.effects[:5]
    if facts.skewed and not facts.broken:
        columns = tuple(Effect(name, n / facts.skew.checked) for name, n in list(facts.skew.columns.items())[:5])
    slices = facts.change.apart or facts.change.slices
    unasked = row.cause in ("nothing", "covariate shift") and facts.skew.verdict == "inconclusive"
    return replace(
        found,
        confidence="medium" if unasked else row.confidence,
        slices=slices if row.cause != "nothing" else (),
        columns=columns if row.cause not in ("nothing",) else (),
        quarantine=facts.spans if row.action == "quarantine" else (),
        version=_version(facts, row),
        missing=_missing(facts) if row.cause == "inconclusive" else (),
    )


def _version(facts: Facts, row: Row) -> str | None:
    if row.cause == "bad release":
        return facts.failing or (facts.before_release.version if facts.before_release else None)
    if row.cause == "recurring concept":
        return facts.came_back.version if facts.came_back else facts.fits_better
    return None


def _than(rival: PastChampion | None) -> str:
    assert rival
    return f"version {rival.version} is better by {rival.gain:.3f} a day on the same {rival.days} days"


def _apart(facts: Facts) -> str:
    worst = facts.change.apart[0]
    return f"the outcomes of {worst.slice} left those of all others on the same days by {worst.change:+.2f}: look at its labels"


def _moved(facts: Facts) -> str:
    found = facts.over
    return (
        f"over {found.days} days outcomes differ from the scores by {found.bias:+.3f} and the loss from its "
        f"expectation by {found.excess:+.3f}; {facts.persisted} of {N} windows lean there"
    )


def _unlike(facts: Facts) -> str:
    return "the relation is off, but some inputs are unlike any we know: a new kind of fault must not be learned"


def _looks_back(facts: Facts) -> str:
    return f"the days look like those that version {facts.fits_better} was trained on; no outcomes prove it yet"


def _too_few(facts: Facts) -> str:
    c = facts.coverage
    return f"{c.matured:,} matured outcomes of {c.predictions:,} predictions are too few to judge by"


def _harmless(facts: Facts) -> str:
    return f"inputs moved ({facts.drift.message}), calibration and skill are intact"


def _not_yet(facts: Facts) -> str:
    if facts.only:
        return _only(facts.only)
    return (
        f"the relation is off in this window, but not over the last {N} ({facts.persisted} lean there, {K} are needed)"
    )


def _only(slice_: str) -> str:
    return f"the relation is off only at {slice_}: look at its labels and its process"


def _nothing_to_compare_with() -> str:
    return f"the inputs cannot be judged: there are no {MIN_REFERENCE} days without a fault before this window"


def _strange(facts: Facts) -> str:
    found = next((fault.message for fault in facts.faults if fault.strange), facts.skew.message)
    return f"outcomes are as expected, but some inputs are unlike any we know: {found}"


def _missing(facts: Facts) -> tuple[str, ...]:
    needs = {
        "predictions in the window": not facts.coverage.predictions,
        f"matured outcomes: {facts.coverage.open:,} are open, {facts.coverage.never:,} never came": facts.blind,
        "another such window": facts.change.changed and not facts.lasting,
        "a look at the one slice that explains it": bool(facts.only),
        "days without a fault, to compare the inputs with": not facts.compared,
        "a look at the inputs that are unlike any known": facts.strange,
    }
    return tuple(need for need, lacks in needs.items() if lacks)


def _evidence(facts: Facts) -> tuple[str, ...]:
    c, found = facts.coverage, facts.change
    never = f"{c.never:,} never, {c.quarantined:,} quarantined"
    lines = [f"coverage: {c.matured:,} of {c.predictions:,} predictions matured, {c.open:,} open, {never}"]
    lines += [f"{'strange' if fault.strange else 'fault'}: {fault.message}" for fault in facts.faults[:8]]
    lines.append(f"training-serving skew: {facts.skew.message}")
    if found.changed is not None:
        lines.append(
            f"calibration: observed - expected {found.bias:+.3f} (t = {found.bias_t:.1f} over {found.days} days)"
        )
        lines.append(f"loss: observed - expected {found.excess:+.3f} (t = {found.excess_t:.1f})")
        over = facts.over
        together = f"{over.bias:+.3f} (t = {over.bias_t:.1f}), loss {over.excess:+.3f} (t = {over.excess_t:.1f})"
        lines.append(f"over {over.days} days: {together}; {facts.persisted} of the last {N} windows lean there")
    lines.append(f"drift: {facts.drift.verdict}, {facts.drift.message}")
    for one in facts.rivals:
        since = " (replaced by the new champion)" if one.at_release else ""
        lines.append(f"version {one.version}: {one.gain:+.3f} better a day over {one.days} days{since}")
    return tuple(lines)
