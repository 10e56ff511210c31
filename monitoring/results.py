"""The result of a monitoring run: plain frozen data that is stored, shown, and acted upon.

Everything here turns into JSON and back (`as_dict`, `from_dict`). A number that cannot be had (one class
only, a single day) is None, because JSON has no NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Literal, Self

from pydantic import TypeAdapter

from level1_pipeline.evaluation.decisions import SincePromotion

Cause = Literal[
    "nothing",
    "data fault",
    "label fault",
    "covariate shift",
    "concept drift",
    "bad release",
    "recurring concept",
    "inconclusive",
]
FAULTS: tuple[Cause, ...] = ("data fault", "label fault")  # nothing may be learned from what they touch
Action = Literal["none", "quarantine", "note", "retrain", "roll back", "switch back", "wait"]
Confidence = Literal["low", "medium", "high"]


class JsonData:
    """Turns into JSON-ready data and back, nested parts included."""

    def as_dict(self) -> dict[str, Any]:
        """Only dictionaries, lists, strings, numbers, booleans and None."""
        return self._adapter().dump_python(self, mode="json")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The inverse of `as_dict`; a missing or mistyped part raises pydantic's ValidationError."""
        return cls._adapter().validate_python(data)

    @classmethod
    @cache  # for each class, because it takes longer to make than a run to read
    def _adapter(cls) -> TypeAdapter[Any]:
        return TypeAdapter(cls)


@dataclass(frozen=True)
class Window(JsonData):
    """A span of time, half open, in aware UTC: start included, end excluded."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Coverage(JsonData):
    """How much of what was predicted is known by now. A metric is never shown without it."""

    predictions: int
    matured: int  # have an outcome
    open: int  # young enough to get one still
    never: int  # older than the problem's maturity, and without one
    quarantined: int = 0  # left out of everything else, and of the other counts
    labels_quarantined: int = 0  # of the predictions, whose labels are left out: neither matured nor open nor never


@dataclass(frozen=True)
class Interval(JsonData):
    """A value with its 95 % interval by day blocks; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SliceFigures(JsonData):
    """One value of one slice."""

    slice: str  # `column=value`
    coverage: Coverage
    share: float  # of the predictions of this version and arm
    metrics: dict[str, Interval]


@dataclass(frozen=True)
class DayFigures(JsonData):
    """One local day, for a plot over time."""

    day: str  # ISO date
    predictions: int
    matured: int
    metrics: dict[str, float | None]
    observed: float | None  # mean outcome of the matured rows; of several classes how often the likeliest was right
    expected: float | None  # mean score of the same rows; of several classes that of the likeliest
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)  # of each class: observed, and expected


@dataclass(frozen=True)
class Bin(JsonData):
    """One bar of the calibration plot: rows with similar scores."""

    expected: float
    observed: float
    rows: int
    about: str = ""  # the class, of several


@dataclass(frozen=True)
class Estimate(JsonData):
    """Performance as it should be if the scores are calibrated, for the rows without outcomes too."""

    metrics: dict[str, Interval]
    rows: int
    message: str  # always says that it cannot see concept drift


@dataclass(frozen=True)
class Performance(JsonData):
    """How one version did in one arm."""

    version: str
    arm: str
    coverage: Coverage
    metrics: dict[str, Interval]  # problem.evaluate's, plus `skill`: 1 - loss / loss of the window's own base rate
    promised: dict[str, float]  # the same metrics at promotion, from the bundle's manifest
    slices: tuple[SliceFigures, ...] = ()
    days: tuple[DayFigures, ...] = ()
    calibration: tuple[Bin, ...] = ()
    estimate: Estimate | None = None  # not applicable to a regression
    sampled: float = 1.0  # share of the rows that the metrics rest on; below 1 a fixed sample by hash of the id
    errors: int = 0  # cases without a score
    latency_ms: float | None = None  # median


@dataclass(frozen=True)
class Effect(JsonData):
    """How far a column moved: `column|mean`, `column|missing`, `value|column` …, in standard deviations between days."""

    column: str
    size: float


@dataclass(frozen=True)
class Drift(JsonData):
    """The one decision about the whole data set, and the columns ranked by effect (no alarms of their own)."""

    verdict: Literal["moved", "steady", "inconclusive"]
    p_value: float | None
    effects: tuple[Effect, ...]
    persisted: int  # windows of the last `windows`, this one included, that moved
    windows: int
    message: str


@dataclass(frozen=True)
class Skew(JsonData):
    """Training-serving skew: logged requests replayed through the code that makes training rows."""

    verdict: Literal["equal", "different", "inconclusive"]
    checked: int
    mismatched: int
    examples: tuple[str, ...]
    message: str
    columns: dict[str, int] = field(default_factory=dict)  # how often each input differed
    days: tuple[str, ...] = ()  # local days on which more than `thresholds.SKEW_MAX_SHARE` of the requests differ
    slice: str = ""  # `column=value` that all these requests share, if others are right


@dataclass(frozen=True)
class Release(JsonData):
    """When a version became champion."""

    version: str
    at: datetime
    action: str  # of the audit log: promote, rollback, …
    replaced: str | None


@dataclass(frozen=True)
class Span(JsonData):
    """Rows, or only their labels, to leave out of training and judging: times by EVENT_TIME, half open, perhaps of one slice."""

    start: datetime
    end: datetime
    slice: str  # `column=value`, or empty for all rows
    reason: str
    what: Literal["rows", "labels"] = "rows"


@dataclass(frozen=True)
class AffectedSlice(JsonData):
    """A part of the traffic that contributes to what is wrong."""

    slice: str
    share: float  # of the rows
    change: float  # of its figure against what was expected
    weight: float  # share x change, by which they are ranked


@dataclass(frozen=True)
class Diagnosis(JsonData):
    """What is going on, how sure we are, and what should be done."""

    cause: Cause
    action: Action
    confidence: Confidence
    message: str
    evidence: tuple[str, ...] = ()
    slices: tuple[AffectedSlice, ...] = ()
    columns: tuple[Effect, ...] = ()  # the columns most responsible
    quarantine: tuple[Span, ...] = ()  # on a data fault or a label fault
    version: str | None = None  # to go back to, for `roll back` and `switch back`
    missing: tuple[str, ...] = ()  # what an inconclusive run lacks


@dataclass(frozen=True)
class MonitoringRun(JsonData):
    """One monitoring run over one window, complete: its row in the store, its report and the control loop rest on it."""

    problem: str
    at: datetime  # on the clock of decisions
    window: Window
    reference: Window | None  # of the days that the window is compared with; None if there are none
    champion: str | None
    coverage: Coverage  # of the champion's answers (arm champion)
    performances: tuple[Performance, ...]
    drift: Drift
    skew: Skew
    releases: tuple[Release, ...]  # oldest first
    diagnosis: Diagnosis
    signals: tuple[str, ...] = ()  # what this window shows by itself; persistence counts them over runs
    figures: dict[str, float | None] = field(default_factory=dict)  # that the decision rests on
    dollars: SincePromotion | None = (
        None  # of the champion's decisions; None without COSTS, and in runs of an older release
    )
