"""Rows that are set apart: by a run, withdrawn by the same run, lifted by a person; and never a fault of their own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store import quarantine
from level1_pipeline.store.database import Store
from monitoring import history
from monitoring.detectors import measure
from monitoring.detectors.concept_drift import UNTESTED
from monitoring.results import AffectedSlice, Diagnosis, Span, Window
from tests.serving.conftest import both
from tests.support.monitoring_runs import END, FAULT, NOTHING, SPAN, WEEK, a_run, later
from tests.support.serving import opened
from tests.support.world import World, midnight

__all__ = ["both"]  # a fixture
DAY = timedelta(days=1)


def fault(*spans: Span) -> Diagnosis:
    return replace(FAULT, quarantine=spans)


def places(store: Store) -> list[tuple[str, timedelta, timedelta]]:
    """The spans in force: their slice, and where they lie before the end of the first run."""
    return [(span.slice, span.start - END, span.end - END) for span in quarantine.spans(store)]


def test_a_run_that_no_longer_finds_the_fault_withdraws_what_it_had_set_apart(both: Settings) -> None:
    """The source was mended, and sent the days again."""
    elsewhere = replace(SPAN, slice="origin=LGA")
    with opened(both) as store:
        history.record(store, a_run(fault(SPAN, elsewhere)))
        for again in (1, 2):  # found again, though later on the clock
            history.record(store, later(a_run(fault(SPAN, elsewhere)), again))
        assert [place[0] for place in places(store)] == ["origin=JFK", "origin=LGA"]
        history.record(store, later(a_run(fault(elsewhere)), 3))
        assert [place[0] for place in places(store)] == ["origin=LGA"]
        history.record(store, later(a_run(NOTHING), 4))
        assert places(store) == []


def test_a_run_withdraws_nothing_that_another_run_had_set_apart(store: Store) -> None:
    history.record(store, a_run(FAULT))
    before = places(store)
    tomorrow = replace(a_run(NOTHING), at=END + DAY, window=Window(END - WEEK + DAY, END + DAY))
    for item in (replace(tomorrow, diagnosis=FAULT), tomorrow):  # sees the same span, and then none
        history.record(store, item)
        assert places(store) == before


def test_a_lifted_span_counts_no_more_stays_in_the_list_and_is_in_the_audit_log(both: Settings) -> None:
    with opened(both) as store:
        history.record(store, a_run(FAULT))
        span = quarantine.lift(store, 1, "ann", "it is a new sensor", END + DAY)
        assert quarantine.spans(store) == ()
        assert quarantine.lifted(store) == (span,)
        (line,) = store.audit_log(problem.NAME)
        assert (line.text, line.actor, line.reason) == ("lift quarantine", "ann", "it is a new sensor")
        assert line.evidence["slice"] == SPAN.slice
        assert [span.lifted_at for span in quarantine.listed(store)] == [END + DAY]
        for number, message in ((1, "was lifted before"), (2, "does not exist")):
            with pytest.raises(LookupError, match=message):
                quarantine.lift(store, number, "ann", "again", END + DAY)
        assert len(store.audit_log(problem.NAME)) == 1


def test_no_later_run_sets_a_lifted_span_apart_again(store: Store) -> None:
    history.record(store, a_run(FAULT))
    quarantine.lift(store, 1, "ann", "it is a new sensor", END)
    history.record(store, later(a_run(FAULT), 1))
    assert places(store) == []
    longer, part, other = (
        replace(SPAN, end=END),
        replace(SPAN, start=SPAN.start + DAY),
        replace(SPAN, slice="origin=LGA"),
    )
    history.record(store, later(a_run(fault(longer, part, other)), 2))
    length = SPAN.end - SPAN.start
    assert places(store) == [
        ("origin=LGA", -WEEK, length - WEEK),
        ("origin=JFK", length - WEEK, timedelta(0)),  # only the days that nobody has lifted
    ]


def test_the_number_of_a_span_does_not_change_when_others_are_lifted_or_come(store: Store) -> None:
    history.record(store, a_run(FAULT))
    history.record(store, a_run(fault(replace(SPAN, start=END, end=END + DAY)), weeks=1))
    quarantine.lift(store, 1, "ann", "a new sensor", END + WEEK)
    assert quarantine.lift(store, 2, "ann", "a new sensor", END + WEEK).start == END


def test_the_labels_of_a_span_can_be_lifted_beside_its_rows(both: Settings) -> None:
    with opened(both) as store:
        history.record(store, a_run(fault(SPAN, replace(SPAN, what="labels"))))
        assert [span.what for span in quarantine.listed(store)] == ["labels", "rows"]
        assert quarantine.lift(store, 1, "ann", "they are right", END).what == "labels"
        assert [span.what for span in quarantine.spans(store)] == ["rows"]
        history.record(store, later(a_run(fault(SPAN, replace(SPAN, what="labels"))), 1))
        assert [span.what for span in quarantine.spans(store)] == ["rows"]
        assert store.audit_log(problem.NAME)[0].evidence["what"] == "labels"


# From the log to the answer.


def stuck(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(temp=rows["temp"].mask(rows["origin"] == "JFK", 51.0))


@pytest.fixture
def healed(world: World) -> World:
    """A sensor at JFK was stuck on two days, and is well again."""
    world.log(world.between("2013-04-22", "2013-05-20"))
    world.log(stuck(world.between("2013-05-20", "2013-05-22")))
    world.log(world.between("2013-05-22", "2013-05-30"))
    return world


@pytest.mark.slow
@pytest.mark.flights
def test_no_daily_pass_after_healing_says_data_fault(healed: World) -> None:
    """The hidden rows are in the window first, and then in the reference."""
    first = healed.look("2013-05-22").diagnosis
    assert first.cause == "data fault"
    assert {item.slice for item in first.quarantine} == {"origin=JFK"}
    runs = {day: healed.look(day) for day in ("2013-05-23", "2013-05-25", "2013-05-27", "2013-05-30")}
    assert {day: item.diagnosis.message for day, item in runs.items() if item.diagnosis.cause == "data fault"} == {}
    assert runs["2013-05-25"].coverage.quarantined > 0


@pytest.mark.slow
@pytest.mark.flights
def test_a_run_again_after_lifting_says_no_data_fault_and_hides_nothing(healed: World) -> None:
    assert healed.look("2013-05-22").diagnosis.cause == "data fault"
    quarantine.lift(healed.store, 1, "ann", "a new sensor", midnight("2013-05-22").to_pydatetime())
    for day in ("2013-05-22", "2013-05-23"):
        run = healed.look(day)
        assert (run.diagnosis.cause == "data fault", run.coverage.quarantined) == (False, 0), day
    assert quarantine.spans(healed.store) == ()


def test_labels_that_a_person_found_right_are_no_fault_of_their_slice_in_this_window() -> None:
    window = Window(END - WEEK, END)
    outliers = tuple(AffectedSlice(name, 0.3, 0.5, 0.15) for name in ("origin=JFK", "origin=LGA"))
    span = quarantine.Quarantined(window.start, window.end, "origin=JFK", "its labels", what="labels")

    def left(*lifted: quarantine.Quarantined) -> list[str]:
        collected: Any = SimpleNamespace(current=SimpleNamespace(window=window), lifted=lifted)
        relation = replace(UNTESTED, outlier_slices=outliers)
        return [part.slice for part in measure._without_lifted_slices(collected, relation).outlier_slices]

    assert left(span) == ["origin=LGA"]
    assert left(span._replace(slice="")) == []
    assert left(span._replace(end=window.end - DAY)) == left() == ["origin=JFK", "origin=LGA"]
