"""The faults that a simulation plants, in one table: what goes wrong, for how long, and for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager as Context
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.inputs import source
from level1_pipeline.orchestration import lineage
from level1_pipeline.schema.task import task
from level1_pipeline.store.days import date_of, start_of
from level2_cicd.simulation.faults import spoiling

Kind = Literal["data fault", "label fault", "new value", "bad release", "concept change"]
Spoil = Callable[[pd.DataFrame, pd.Timestamp, pd.Timestamp], pd.DataFrame]  # rows, start and end of the fault
START_WEEK = 9  # of a year: the Monday on which every fault of the table begins
ALL = "all"
NO_LIMITS = {
    "min_gain": -1e9,
    "max_harm": 1e9,
    "slice_max_harm": 1e9,
    "max_rate_shift": 1e9,
    "max_refit_difference": 1e9,
}
NO_LIMITS |= {"max_trusted_bias": 1e9, "max_trusted_slice_bias": 1e9, "max_trusted_growth": 1e9}


def _a_reading() -> str:
    fits = spoiling.readings() and problem.SLICES
    return "" if fits else "it needs SLICES, and an input that is a number and may be missing"


def _an_open_slice() -> str:
    return "" if spoiling.open_slices() else "it needs a slice of texts that are no fixed list"


def _classes() -> str:
    return "" if task().has_event and problem.SLICES else "it needs SLICES and labels 0 and 1"


def _nothing() -> str:
    return ""


@dataclass(frozen=True)
class PlantedFault:
    """One thing that goes wrong. Its days are those of the fault; a concept change lasts to the end."""

    name: str
    what: str
    kind: Kind
    days: int
    spoil: Spoil | None = None  # None: the rows are as they are
    in_source: bool = True  # trainings and monitoring read the same; else only the callers send what is wrong
    lacks: Callable[[], str] = _nothing  # what the problem lacks for this fault; empty if it fits
    after_days: int = 28  # that are lived through after its end

    @property
    def is_real(self) -> bool:
        """Whether the world itself is another one: there is nothing to mend, and much to learn."""
        return self.kind in ("new value", "concept change")


def in_another_unit(column: str, days: int) -> PlantedFault:
    """A number of the callers in another unit."""
    spoil = partial(spoiling.another_unit, column=column)
    return PlantedFault("unit", f"callers send {column} in another unit", "data fault", days, spoil, in_source=False)


TABLE = (
    PlantedFault(
        "celsius", "callers send °C for °F", "data fault", 7, spoiling.another_unit, in_source=False, lacks=_a_reading
    ),
    PlantedFault("stuck", "a sensor repeats its reading", "data fault", 14, spoiling.sensor_stuck, lacks=_a_reading),
    PlantedFault(
        "feed", "the readings of a slice are missing", "data fault", 7, spoiling.feed_missing, lacks=_a_reading
    ),
    PlantedFault("carrier", "a value nobody has seen", "new value", 28, spoiling.new_value, lacks=_an_open_slice),
    PlantedFault(
        "clock", "callers are an hour behind", "data fault", 7, spoiling.hour_behind, in_source=False, lacks=_a_reading
    ),
    PlantedFault("flipped", "wrong labels in a slice", "label fault", 14, spoiling.labels_flipped, lacks=_classes),
    PlantedFault("unlabelled", "no labels for three weeks", "label fault", 21, spoiling.labels_late),
    PlantedFault("release", "a release trains on inputs of other rows", "bad release", 1),
    PlantedFault("concept", "the same inputs have other outcomes", "concept change", 56, spoiling.concept_change),
    PlantedFault("drift", "a sensor drifts for six weeks", "data fault", 42, spoiling.sensor_drifts, lacks=_a_reading),
)


def named(text: str) -> tuple[PlantedFault, ...]:
    """The faults of a list of names, `celsius,stuck`; `all` are those that fit the problem.

    Raises:
        ValueError: a name that is none, or a fault that does not fit.
    """
    if text.strip() == ALL:
        return tuple(fault for fault in TABLE if not fault.lacks())
    by_name = {fault.name: fault for fault in TABLE}
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in by_name:
            raise ValueError(f"there is no fault '{name}'; there are {', '.join(by_name)}, and {ALL}")
    for name in names:
        if lacks := by_name[name].lacks():
            raise ValueError(f"the fault '{name}' does not fit the problem {problem.NAME}: {lacks}")
    return tuple(by_name[name] for name in names)


@dataclass(frozen=True)
class Planted:
    """A fault with the local day on which it begins."""

    fault: PlantedFault
    first: str

    @property
    def start(self) -> pd.Timestamp:
        """The first moment of the fault."""
        return start_of(self.first)

    @property
    def end(self) -> pd.Timestamp:
        """The first moment after it."""
        return start_of(date_of(self.start) + timedelta(days=self.fault.days))

    def spoil(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows with the fault."""
        return self.fault.spoil(rows, self.start, self.end) if self.fault.spoil else rows

    def sent(self, rows: pd.DataFrame) -> pd.DataFrame:
        """What callers send, where the source is as it was; the rows of a source with the fault are spoilt already."""
        return rows if self.fault.in_source else self.spoil(rows)

    def as_seen(self, rows: pd.DataFrame, until: pd.Timestamp) -> pd.DataFrame:
        """The source with the fault: labels that come later are not there yet."""
        spoilt = self.spoil(rows)
        there = spoilt[problem.LABEL_TIME] < until
        return spoilt.assign(**{name: spoilt[name].where(there) for name in (problem.TARGET, problem.LABEL_TIME)})

    def world(self) -> Context[None]:
        """While it is open, everybody in this process reads the source with the fault."""
        return source.changed(self.as_seen) if self.fault.in_source and self.fault.spoil else nullcontext()


@contextmanager
def bad_release() -> Iterator[None]:
    """While it is open, trainings are those of a bad release: its code mixes up the inputs, and its gate passes all. It
    is other code, so its model is no refresh."""
    gate, digest = dict(problem.GATE), lineage.source_digest
    limits = dict.fromkeys(gate["limits"], (None, None))
    with source.changed(lambda rows, until: spoiling.inputs_of_others(rows)):
        problem.GATE.update(NO_LIMITS, limits=limits)
        lineage.source_digest = lambda: f"{digest()} and a bad release"
        try:
            yield
        finally:
            lineage.source_digest = digest
            problem.GATE.clear()
            problem.GATE.update(gate)
