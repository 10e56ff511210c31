"""What the detectors say of one window, as plain data: all that the diagnosis rests on."""

from __future__ import annotations

from dataclasses import dataclass, field

from monitoring.data.traffic import Traffic
from monitoring.detectors import concept_drift, drift
from monitoring.detectors.concept_drift import UNTESTED, ConceptDrift
from monitoring.detectors.data_faults import Fault
from monitoring.detectors.labels.label_faults import LabelFault
from monitoring.detectors.past_champions import PastChampion
from monitoring.results import Coverage, Drift, Performance, Skew, Span
from monitoring.thresholds import PERSISTENT_WINDOWS, SKEW_MAX_SHARE


@dataclass(frozen=True)
class Measured:
    """The second phase's result. The properties are the questions that the decision table asks."""

    coverage: Coverage
    drift: Drift
    skew: Skew
    concept_drift: ConceptDrift = UNTESTED  # of this window
    concept_drift_over: ConceptDrift = UNTESTED  # of the last windows together: a week alone is weather
    same_class: ConceptDrift | None = None  # of this window, about the class of the last windows, if its own is another
    windows_in_direction: int = (
        0  # of the last windows, this one included, that are off in the direction of all together
    )
    faults: tuple[Fault, ...] = ()
    label_faults: tuple[LabelFault, ...] = ()  # the surest first
    fault_spans: tuple[Span, ...] = ()  # that the faults cover: rows, or only their labels
    traffic: Traffic = field(default_factory=Traffic)  # how the window was filled
    has_reference: bool = True  # there were enough days to compare the inputs with
    past_champions: tuple[PastChampion, ...] = ()  # on the same matured rows
    undo_to: str | None = None  # the version to go back to, when the newly released one fails to answer
    fits_better: str | None = None  # a past champion that was trained on days much more like these
    performances: tuple[Performance, ...] = ()  # for people; no decision rests on them

    @property
    def certain_faults(self) -> list[Fault]:
        """Faults beyond doubt."""
        return [fault for fault in self.faults if not fault.strange]

    @property
    def strange(self) -> bool:
        """Something is unlike any data we know, short of a fault; or a few replayed requests differ."""
        return len(self.certain_faults) < len(self.faults) or self.skew.verdict == "different"

    @property
    def skewed(self) -> bool:
        """Too many replayed requests differ."""
        return self.skew.verdict == "different" and self.skew.mismatched >= SKEW_MAX_SHARE * self.skew.checked

    @property
    def before_release(self) -> PastChampion | None:
        """The version that was just replaced, if it is better on the same days beyond doubt."""
        return next((past for past in self.past_champions if past.at_release and past.beyond_doubt), None)

    @property
    def came_back(self) -> PastChampion | None:
        """The best of the clearly better past champions."""
        better = (past for past in self.past_champions if past.clearly_better)
        return max(better, key=lambda past: past.gain, default=None)

    @property
    def lasting(self) -> bool:
        """The relation is off over the last windows, enough of them and the newest in its direction, and not in one
        slice only."""
        together = bool(self.concept_drift_over.changed) and self.concept_drift_over.everywhere
        newest = concept_drift.same_direction(self.same_class or self.concept_drift, self.concept_drift_over)
        return together and self.windows_in_direction >= PERSISTENT_WINDOWS and newest

    @property
    def explained_by_slice(self) -> str:
        """The one slice value without which nothing is off, in this window or over the last ones."""
        over = self.concept_drift_over.explained_by_slice if self.concept_drift_over.changed else ""
        return self.concept_drift.explained_by_slice or over

    @property
    def untested(self) -> bool:
        """There are too few matured outcomes to test anything."""
        return self.concept_drift.changed is None

    @property
    def inputs_came_back(self) -> bool:
        """The inputs have moved for good, to where a past champion was trained."""
        return drift.persisted(self.drift) and self.fits_better is not None
