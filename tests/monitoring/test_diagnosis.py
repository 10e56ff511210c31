"""Every row of the decision table, with a planted case on the real year; and kinds of faults it has never seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.store.quarantine import Quarantined, covers
from monitoring import thresholds
from monitoring.data import collect
from monitoring.data.prediction_window import Log, of_rows
from monitoring.detectors import data_faults, fault_checks
from monitoring.detectors.concept_drift import UNTESTED
from monitoring.detectors.data_faults import Fault
from monitoring.detectors.labels.label_faults import LabelFault
from monitoring.detectors.measured import Measured
from monitoring.detectors.past_champions import PastChampion
from monitoring.diagnosis import TABLE, diagnose
from monitoring.results import AffectedSlice, Coverage, Drift, Skew, Window
from tests.support.serving import edit_manifest
from tests.support.world import World, midnight

pytestmark = pytest.mark.flights

Plant = Callable[[pd.DataFrame], pd.DataFrame]
FIRST, LAST = "2013-05-20", "2013-05-27"


def at_jfk(rows: pd.DataFrame) -> pd.Series:
    return rows["origin"] == "JFK"


def noise(rows: pd.DataFrame, name: str, size: float) -> pd.Series:
    return rows[name] + np.random.default_rng(0).normal(0, size, len(rows))


KNOWN: dict[str, tuple[Plant, str, str]] = {  # kinds that the rules were written for: plant, column, slice
    "degrees Celsius": (lambda r: r.assign(temp=(r["temp"] - 32) / 1.8), "", ""),
    "seconds for minutes": (lambda r: r.assign(recent_delay=r["recent_delay"] * 60), "recent_delay", ""),
    "stuck sensor at one airport": (lambda r: r.assign(temp=r["temp"].mask(at_jfk(r), 51.0)), "temp", "origin=JFK"),
    "stuck feed": (lambda r: r.assign(recent_delay=0.0), "recent_delay", ""),
    "null column": (lambda r: r.assign(temp=np.nan), "temp", ""),
    "null column at one airport": (
        lambda r: r.assign(recent_delay=r["recent_delay"].mask(at_jfk(r))),
        "recent_delay",
        "",  # at JFK or at its airline: most of both are the same rows
    ),
    "the record's clock is an hour ahead": (
        lambda r: r.assign(departure_minute=(r["departure_minute"] + 60) % 1440),
        "",
        "",
    ),
    "the log's clock is an hour ahead": (
        lambda r: r.assign(decision_time=r["decision_time"] + pd.Timedelta("1h")),
        "",
        "",
    ),
    "one airport missing": (lambda r: r[~at_jfk(r)].reset_index(drop=True), "origin", "origin=JFK"),
    "a forbidden value": (lambda r: r.assign(dest=r["dest"].str.lower()), "dest", ""),
}
HELD_OUT: dict[str, Plant] = {  # not looked at while the rules were written
    "noise on a sensor": lambda r: r.assign(temp=noise(r, "temp", 15)),
    "swapped columns": lambda r: r.assign(temp=r["dewp"], dewp=r["temp"]),
    "hours for minutes": lambda r: r.assign(recent_delay=r["recent_delay"] / 60),
    "kilometres for miles": lambda r: r.assign(distance=(r["distance"] * 1.609).clip(upper=6000)),
    "codes reversed": lambda r: r.assign(carrier=r["carrier"].str[::-1]),
    "a column's rows shuffled": lambda r: r.assign(
        recent_delay=r["recent_delay"].sample(frac=1, random_state=0).to_numpy()
    ),
    "sign flipped": lambda r: r.assign(recent_delay=(-r["recent_delay"]).clip(-10, 180)),
    "counted twice": lambda r: r.assign(recent_departures=r["recent_departures"] * 2),
    "a constant added": lambda r: r.assign(recent_delay=(r["recent_delay"] + 30).clip(upper=180)),
    "weekday off by one": lambda r: r.assign(weekday=(r["weekday"] + 1) % 7),
    "stale by hours": lambda r: r.assign(recent_delay=r.groupby("origin")["recent_delay"].shift(60)),
    "airports swapped": lambda r: r.assign(origin=r["origin"].replace({"JFK": "EWR", "EWR": "JFK"})),
}


def log_of(rows: pd.DataFrame, first: str, last: str) -> Log:
    return of_rows(rows, Window(*(midnight(day).to_pydatetime() for day in (first, last))), "1")


@pytest.fixture(scope="module")
def before(rows: pd.DataFrame) -> Log:
    """The four weeks before."""
    return log_of(rows, "2013-04-22", FIRST)


@pytest.fixture(scope="module")
def week(rows: pd.DataFrame) -> pd.DataFrame:
    when = rows[problem.EVENT_TIME]
    return rows[(when >= midnight(FIRST)) & (when < midnight(LAST))].reset_index(drop=True)


@pytest.mark.integration
def test_an_ordinary_week_has_no_fault(before: Log, week: pd.DataFrame) -> None:
    assert data_faults.find(before, log_of(week, FIRST, LAST)) == []


@pytest.mark.evidence("Monitor 2", "the data are broken")
@pytest.mark.integration
@pytest.mark.parametrize("kind", KNOWN)
@pytest.mark.slow
def test_a_known_kind_of_fault_is_found_with_its_column_and_slice(before: Log, week: pd.DataFrame, kind: str) -> None:
    """Without a look at the training code: the source itself may be what is wrong."""
    plant, column, where = KNOWN[kind]
    faults = [
        fault for fault in data_faults.find(before, log_of(plant(week), FIRST, "2013-05-28")) if not fault.strange
    ]
    assert faults
    assert column in (faults[0].column, "")
    assert where in (faults[0].slice, "")
    answer = diagnose(replace(CALM, faults=tuple(faults)))
    assert (answer.cause, answer.action) == ("data fault", "quarantine")
    assert faults[0].column in answer.message


@pytest.mark.integration
@pytest.mark.slow
def test_days_that_nobody_was_asked_about_say_nothing_about_when_callers_ask(
    rows: pd.DataFrame, week: pd.DataFrame
) -> None:
    """A young log is compared with rows of the training code, and callers may always ask ten minutes late."""
    never_asked = of_rows(rows, Window(*(midnight(day).to_pydatetime() for day in ("2013-04-22", FIRST))))
    late = week.assign(**{problem.EVENT_TIME: week[problem.EVENT_TIME] + pd.Timedelta(minutes=10)})
    assert [fault for fault in data_faults.find(never_asked, log_of(late, FIRST, LAST)) if not fault.strange] == []


@pytest.mark.integration
def test_a_fault_of_two_days_covers_these_days_only(before: Log, week: pd.DataFrame) -> None:
    bad = week[problem.EVENT_TIME] >= midnight("2013-05-25")
    current = log_of(week.assign(temp=week["temp"].mask(bad, 51.0)), FIRST, LAST)
    spans = data_faults.spans(data_faults.find(before, current), current.window)
    assert {(span.start, span.end) for span in spans} == {(midnight("2013-05-25"), midnight(LAST))}


NULLABLE = [column.name for column in schema.columns() if column.nullable]


@pytest.mark.integration
@pytest.mark.parametrize("first", [FIRST, "2013-08-19", "2013-11-11"])
@pytest.mark.slow
def test_a_column_without_any_value_is_a_fault_however_often_it_is_missing(rows: pd.DataFrame, first: str) -> None:
    """Gusts are missing in 77 % of the rows, on many calm days in all of them."""
    start = pd.Timestamp(first)
    days = [str((start + pd.Timedelta(days=n)).date()) for n in (-28, 0, 7)]
    when = rows[problem.EVENT_TIME]
    during = rows[(when >= midnight(days[1])) & (when < midnight(days[2]))].reset_index(drop=True)
    reference = log_of(rows, days[0], days[1])
    assert [item for item in data_faults.find(reference, log_of(during, *days[1:])) if not item.strange] == []
    for name in NULLABLE:
        faults = data_faults.find(reference, log_of(during.assign(**{name: np.nan}), *days[1:]))
        assert [(item.kind, item.column, item.slice) for item in faults if not item.strange] == [
            (fault_checks.MISSED, name, "")
        ]


@pytest.mark.integration
def test_a_window_of_few_rows_is_judged_by_the_rules_of_the_record_only(before: Log, week: pd.DataFrame) -> None:
    assert data_faults.find(before, log_of(week.head(1), FIRST, LAST)) == []


@pytest.mark.integration
def test_a_fault_everywhere_is_not_blamed_on_the_only_slice_large_enough_to_be_checked(
    before: Log, week: pd.DataFrame
) -> None:
    few = week.groupby(["origin", week[problem.EVENT_TIME].dt.date]).cumcount() < thresholds.FAULT_MIN_ROWS // 3
    current = week[at_jfk(week) | few].assign(temp=np.nan).reset_index(drop=True)
    faults = [
        item for item in data_faults.find(before, log_of(current, FIRST, LAST)) if item.kind == fault_checks.MISSED
    ]
    assert [(item.column, item.slice) for item in faults] == [("temp", "")]


@pytest.mark.integration
def test_a_fault_at_one_airport_that_shows_in_all_rows_is_blamed_on_it(before: Log, week: pd.DataFrame) -> None:
    """More than half of all rows lose the value, and the others were checked and are fine."""
    others = week.groupby(["origin", week[problem.EVENT_TIME].dt.date]).cumcount() < 2 * thresholds.FAULT_MIN_ROWS
    current = week[at_jfk(week) | others].reset_index(drop=True)
    current = current.assign(temp=current["temp"].mask(at_jfk(current)))
    faults = [
        item for item in data_faults.find(before, log_of(current, FIRST, LAST)) if item.kind == fault_checks.MISSED
    ]
    assert [(item.column, item.slice) for item in faults] == [("temp", "origin=JFK")]


# A span in quarantine is no fault of its own.
TWO_DAYS = Window(*(midnight(day).to_pydatetime() for day in (FIRST, "2013-05-22")))
AT_JFK = Quarantined(TWO_DAYS.start, TWO_DAYS.end, "origin=JFK", "stuck")


def seen(rows: pd.DataFrame, first: str, last: str, **spans: tuple[Quarantined, ...]) -> list[data_faults.Fault]:
    """The faults of days, with the four weeks before, as a run finds them that leaves the hidden rows out."""
    visible = rows[~covers(rows, spans.get("quarantined", ()))]
    start = str((pd.Timestamp(first) - pd.Timedelta(days=28)).date())
    hidden, lifted = spans.get("quarantined", ()), spans.get("lifted", ())
    faults = data_faults.find(log_of(visible, start, first), log_of(visible, first, last), hidden, lifted)
    return [fault for fault in faults if not fault.strange]


@pytest.mark.integration
@pytest.mark.slow
def test_rows_that_are_set_apart_are_not_gone(rows: pd.DataFrame) -> None:
    assert seen(rows, FIRST, LAST, quarantined=(AT_JFK,)) == []
    flights_of_delta = AT_JFK._replace(slice="carrier=DL")
    assert seen(rows, FIRST, LAST, quarantined=(flights_of_delta, AT_JFK._replace(slice="carrier=B6"))) == []
    assert seen(rows, FIRST, LAST, quarantined=(AT_JFK._replace(slice=""),)) == []


@pytest.mark.integration
@pytest.mark.slow
def test_a_missing_airport_is_seen_although_days_of_it_are_set_apart(rows: pd.DataFrame) -> None:
    """In the reference and in the window itself; the days that are set apart are not among those of the fault."""
    when = rows[problem.EVENT_TIME]
    for first, last, gone in (("2013-05-27", "2013-06-03", "2013-05-30"), (FIRST, LAST, "2013-05-23")):
        left = rows[~(at_jfk(rows) & (when >= midnight(gone)) & (when < midnight(last)))]
        result = seen(left, first, last, quarantined=(AT_JFK,))
        assert [(item.slice, min(item.days)) for item in result] == [("origin=JFK", pd.Timestamp(gone).date())]


@pytest.mark.integration
@pytest.mark.slow
def test_an_airport_that_was_missing_on_days_set_apart_is_not_missed_again(rows: pd.DataFrame) -> None:
    left = rows[~(covers(rows, (AT_JFK,)))]
    assert [item.slice for item in seen(left, FIRST, LAST)] == ["origin=JFK"]
    assert seen(left, FIRST, LAST, quarantined=(AT_JFK,)) == []


@pytest.mark.integration
@pytest.mark.slow
def test_what_a_person_lifted_is_no_fault_on_these_days_and_is_one_on_others(rows: pd.DataFrame) -> None:
    lost = rows.assign(
        recent_delay=rows["recent_delay"].mask(at_jfk(rows) & (rows[problem.EVENT_TIME] >= AT_JFK.start))
    )
    (result,) = seen(lost, FIRST, "2013-05-22")
    lifted = (AT_JFK._replace(slice=result.slice),)
    assert seen(lost, FIRST, "2013-05-22", lifted=lifted) == []
    (later,) = seen(lost, FIRST, "2013-05-24", lifted=lifted)
    assert (later.slice, len(later.days), min(later.days)) == (result.slice, 2, pd.Timestamp("2013-05-22").date())
    other = (AT_JFK._replace(slice="origin=LGA"),)
    assert seen(lost, FIRST, "2013-05-22", lifted=other) == [result]


@pytest.mark.parametrize(("kind", "weeks"), [(kind, 3 if place < 3 else 1) for place, kind in enumerate(HELD_OUT)])
@pytest.mark.slow
def test_a_kind_never_seen_is_no_concept_drift(world: World, kind: str, weeks: int) -> None:
    """Logged by the service; the outcomes are true, so calibration suffers from it."""
    mondays = ["2013-06-10", "2013-06-17", "2013-06-24"][:weeks]
    world.log(world.between("2013-05-06", "2013-06-03"))
    world.log(HELD_OUT[kind](world.between("2013-06-03", mondays[-1])))
    runs = [world.look(day) for day in mondays]
    assert {run.diagnosis.cause for run in runs} <= {"data fault", "inconclusive"}
    assert runs[0].diagnosis.quarantine


@pytest.mark.slow
def test_a_fault_that_lasts_for_weeks_stays_one_and_is_never_taken_for_what_is_usual(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can ask the training code, and the days before are in quarantine more and more."""
    monkeypatch.setattr(collect, "training_rows", lambda *_: "the source cannot be read: gone")
    world.log(world.between("2013-04-22", "2013-05-27"))
    world.log(world.between("2013-05-27", "2013-07-08").assign(temp=np.nan))
    mondays = [str(day.date()) for day in pd.date_range("2013-06-03", "2013-07-08", freq="7D")]
    assert [world.look(day).diagnosis.cause for day in mondays] == ["data fault"] * len(mondays)


@pytest.mark.slow
def test_a_concept_drift_is_seen_in_the_first_weeks_of_a_log(world: World) -> None:
    """Three windows, while the inputs are still compared with what the training code makes of the days before."""
    world.log(world.between("2013-06-24", "2013-07-15"))
    assert world.look("2013-07-15").diagnosis.cause == "concept drift"


# The decision itself.
COVERAGE = Coverage(6000, 5000, 900, 100)
STEADY, MOVED = (Drift(verdict, 0.5, (), n, 3, "message") for verdict, n in (("steady", 0), ("moved", 2)))  # type: ignore[arg-type]
EQUAL = Skew("equal", 5000, 0, (), "0 of 5,000 replayed requests differ")
FINE = replace(UNTESTED, changed=False, days=6, rows=5000)
OFF = replace(FINE, changed=True, bias=0.1, bias_t=4.0, everywhere=True)
IN_ONE_SLICE = replace(OFF, everywhere=False, explained_by_slice="origin=JFK")
OF_ANOTHER_CLASS = replace(OFF, bias=-0.1, bias_t=-4.0, about="another class")
CALM = Measured(COVERAGE, STEADY, EQUAL, FINE)
LASTING = replace(CALM, concept_drift=OFF, concept_drift_over=OFF, windows_in_direction=2)
WRONG = LabelFault("constant", "", (pd.Timestamp("2013-06-03").date(),), "the labels are all 0")
BETTER = PastChampion("1", 0.1, 6, True, beyond_doubt=True, at_release=True)
AT_JFK_ONLY = AffectedSlice("origin=JFK", 0.3, 0.5, 0.15)
STRANGE = Fault("does not fit the other inputs", "a", "", (pd.Timestamp("2013-06-03").date(),), 2.0, strange=True)


@pytest.mark.parametrize(
    ("measured", "cause"),
    [
        (CALM, "nothing"),
        (replace(CALM, drift=MOVED), "covariate shift"),
        (replace(CALM, concept_drift=OFF), "inconclusive"),
        (replace(LASTING, windows_in_direction=1), "inconclusive"),
        (LASTING, "concept drift"),
        (replace(LASTING, concept_drift=FINE), "nothing"),
        (replace(LASTING, concept_drift=OF_ANOTHER_CLASS), "inconclusive"),
        (replace(LASTING, concept_drift=OF_ANOTHER_CLASS, same_class=OFF), "concept drift"),
        (replace(LASTING, concept_drift=OF_ANOTHER_CLASS, same_class=FINE), "inconclusive"),
        (
            replace(
                LASTING,
                concept_drift_over=IN_ONE_SLICE,
                windows_in_direction=3,
            ),
            "inconclusive",
        ),
        (
            replace(LASTING, skew=replace(EQUAL, verdict="different", mismatched=1)),
            "inconclusive",
        ),
        (
            replace(LASTING, skew=replace(EQUAL, verdict="different", mismatched=900)),
            "data fault",
        ),
        (replace(CALM, concept_drift=UNTESTED), "inconclusive"),
        (replace(CALM, concept_drift=UNTESTED, drift=MOVED, fits_better="1"), "recurring concept"),
        (replace(CALM, concept_drift=UNTESTED, drift=STEADY, fits_better="1"), "inconclusive"),
        (replace(CALM, coverage=Coverage(0, 0, 0, 0), concept_drift=UNTESTED), "inconclusive"),
        (replace(CALM, undo_to="1"), "bad release"),
        (replace(LASTING, label_faults=(WRONG,)), "label fault"),
        (replace(CALM, label_faults=(WRONG,), concept_drift=UNTESTED), "label fault"),
        (replace(CALM, label_faults=(WRONG,), past_champions=(BETTER,)), "label fault"),
        (replace(CALM, label_faults=(WRONG,), undo_to="1"), "bad release"),
        (replace(LASTING, concept_drift=replace(OFF, outlier_slices=(AT_JFK_ONLY,))), "label fault"),
        (replace(CALM, has_reference=False), "inconclusive"),
        (replace(CALM, drift=MOVED, has_reference=False), "inconclusive"),
        (replace(CALM, skew=replace(EQUAL, verdict="different", mismatched=49)), "inconclusive"),
        (replace(CALM, faults=(STRANGE,), drift=MOVED), "inconclusive"),
        (
            replace(CALM, concept_drift_over=IN_ONE_SLICE),
            "inconclusive",
        ),
    ],
)
def test_the_table_answers(measured: Measured, cause: str) -> None:
    answer = diagnose(measured)
    assert answer.cause == cause
    assert answer.message
    assert answer.evidence
    assert bool(answer.missing) == (cause == "inconclusive")


def test_where_the_training_code_could_not_be_asked_the_answer_is_less_sure() -> None:
    unasked = replace(CALM, skew=Skew("inconclusive", 0, 0, (), "the source cannot be read"))
    assert (diagnose(unasked).cause, diagnose(unasked).confidence) == ("nothing", "medium")
    assert diagnose(CALM).confidence == "high"


def test_the_last_row_of_the_table_always_holds() -> None:
    assert TABLE[-1].when(CALM)
    assert TABLE[-1].cause == "nothing"


# Planted cases from the log to the answer.


@pytest.mark.slow
def test_the_new_timetable_of_june_is_a_covariate_shift(world: World) -> None:
    world.log(world.between("2013-05-13", "2013-06-17"))
    answer = world.look("2013-06-17")
    assert answer.drift.verdict == "moved"
    assert "scheduled_minutes" in answer.drift.effects[0].column
    assert (answer.diagnosis.cause, answer.diagnosis.action) == ("covariate shift", "note")


@pytest.mark.slow
def test_the_early_summer_is_a_concept_drift_and_the_spring_is_none(world: World) -> None:
    world.log(world.between("2013-04-29", "2013-07-15"))
    answers = {
        str(day.date()): world.look(str(day.date())).diagnosis
        for day in pd.date_range("2013-06-03", "2013-07-15", freq="7D")
    }
    assert [day for day, answer in answers.items() if answer.cause == "concept drift"] == ["2013-07-15"]
    assert answers["2013-07-08"].cause == "nothing"
    assert answers["2013-07-15"].action == "retrain"
    assert answers["2013-07-15"].slices


@pytest.mark.slow
def test_a_planted_change_of_the_base_rate_is_a_concept_drift_at_the_second_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The world changes for the source, too; labels that differ in the log only are a fault."""
    rows = world.between("2013-04-29", "2013-06-24")
    late = rows[problem.EVENT_TIME] >= midnight("2013-06-03")
    made_late = late & (np.random.default_rng(0).random(len(rows)) < 0.25) & rows[problem.TARGET].notna()
    rows = rows.assign(**{problem.TARGET: rows[problem.TARGET].mask(made_late, 1.0)})
    world.log(rows)
    monkeypatch.setattr(collect, "training_rows", lambda *_: rows)
    causes = [world.look(day).diagnosis.cause for day in ("2013-06-03", "2013-06-10", "2013-06-17")]
    assert causes[1:] == ["inconclusive", "concept drift"]
    assert causes[0] != "concept drift"


@pytest.mark.slow
def test_poisoned_labels_of_one_slice_are_no_concept_drift(world: World) -> None:
    rows = world.between("2013-05-06", "2013-06-24")
    hit = (rows[problem.EVENT_TIME] >= midnight("2013-06-03")) & at_jfk(rows)
    hit &= np.random.default_rng(0).random(len(rows)) < 0.4
    world.log(rows.assign(**{problem.TARGET: rows[problem.TARGET].mask(hit, 1 - rows[problem.TARGET])}))
    answers = [world.look(day).diagnosis for day in ("2013-06-10", "2013-06-17", "2013-06-24")]
    assert {answer.cause for answer in answers} <= {"label fault", "inconclusive"}
    assert answers[0].cause == "label fault"
    assert {span.what for answer in answers for span in answer.quarantine} == {"labels"}
    assert {span.slice for answer in answers for span in answer.quarantine} == {"origin=JFK"}


def late_ones_a_week_later(rows: pd.DataFrame) -> pd.DataFrame:
    later = rows[problem.LABEL_TIME] + pd.Timedelta(days=7)
    return rows.assign(**{problem.LABEL_TIME: rows[problem.LABEL_TIME].mask(rows[problem.TARGET] == 1, later)})


LABELS: dict[str, Plant] = {
    "all are 0": lambda r: r.assign(**{problem.TARGET: r[problem.TARGET] * 0}),
    "late ones a week later": late_ones_a_week_later,
    "inverted": lambda r: r.assign(**{problem.TARGET: 1 - r[problem.TARGET]}),
    "only one airport's come": lambda r: r.assign(**{problem.TARGET: r[problem.TARGET].where(at_jfk(r))}),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.slow
def test_a_fault_of_the_labels_is_no_concept_drift_and_leaves_their_inputs(world: World, kind: str) -> None:
    """Three weeks of it: labels are set apart, rows never; nothing is learned from them in between."""
    world.log(world.between("2013-05-06", "2013-06-03"))
    world.log(LABELS[kind](world.between("2013-06-03", "2013-06-24")))
    runs = [world.look(day) for day in ("2013-06-10", "2013-06-17", "2013-06-24")]
    assert [run.diagnosis.cause for run in runs] == ["label fault"] * 3
    assert {span.what for run in runs for span in run.diagnosis.quarantine} == {"labels"}
    assert runs[1].coverage.quarantined == 0
    assert runs[1].drift.verdict != "inconclusive"


@pytest.mark.slow
def test_a_bad_release_is_rolled_back_to_the_version_before(world: World) -> None:
    """Its scores are shuffled numbers: a release of a model that learned nothing."""
    world.log(world.between("2013-04-29", "2013-05-22"))
    world.serve("2", "confused", "2013-05-22")
    world.log(world.between("2013-05-22", "2013-05-27"), "2")
    answer = world.look("2013-05-27").diagnosis
    assert (answer.cause, answer.action, answer.version) == ("bad release", "roll back", "1")


@pytest.mark.slow
def test_a_good_release_is_none(world: World) -> None:
    world.log(world.between("2013-04-29", "2013-05-22"))
    world.serve("2", "may", "2013-05-22")
    world.log(world.between("2013-05-22", "2013-05-27"), "2")
    assert world.look("2013-05-27").diagnosis.cause not in ("bad release", "concept drift", "data fault")


@pytest.mark.slow
def test_a_release_that_fails_to_answer_is_rolled_back(world: World) -> None:
    world.log(world.between("2013-04-29", "2013-05-26"))
    world.serve("2", "may", "2013-05-26")
    rows = world.between("2013-05-26", "2013-05-27")
    scores = world.score(rows, "2")
    scores[::10] = np.nan
    world.log(rows, "2", scores=scores)
    answer = world.look("2013-05-27").diagnosis
    assert (answer.cause, answer.version) == ("bad release", "1")


@pytest.mark.slow
def test_a_regime_that_returns_brings_its_champion_back(world: World) -> None:
    """In December winter comes back, and the model of last winter beats the one of autumn."""
    world.serve("2", "autumn", "2013-11-15")
    world.log(world.between("2013-11-15", "2013-12-27"), "2")
    storm, few_days, run = (world.look(day) for day in ("2013-12-13", "2013-12-20", "2013-12-27"))
    answer = run.diagnosis
    assert (storm.diagnosis.cause, few_days.diagnosis.cause) == ("nothing", "nothing")
    assert (answer.cause, answer.action, answer.version) == ("recurring concept", "switch back", "1")
    gain = run.figures["past_champion_gain"]  # which the loop compares with that of a training
    assert gain is not None
    assert f"version 1 is better by {gain:.3f} a day" in answer.message
    assert storm.figures["past_champion_gain"] is None


@pytest.mark.slow
def test_a_champion_with_few_outcomes_yet_waits(world: World) -> None:
    rows = world.between("2013-04-29", "2013-05-27")
    world.log(rows.assign(**{problem.TARGET: rows[problem.TARGET].mask(rows[problem.EVENT_TIME] >= midnight(FIRST))}))
    answer = world.look("2013-05-27")
    assert (answer.diagnosis.cause, answer.diagnosis.action) == ("inconclusive", "wait")
    assert answer.coverage.matured == 0
    assert answer.coverage.never > 0
    assert any("never came" in line for line in answer.diagnosis.missing)


@pytest.mark.slow
def test_an_offset_on_the_scores_is_no_regime_that_returns(world: World) -> None:
    """The same December, but the version of last winter is a recalibrated one."""
    edit_manifest(world.settings.home / "bundles" / problem.NAME / "1", recalibration={"parent": "0"})
    world.serve("2", "autumn", "2013-11-15")
    world.log(world.between("2013-11-15", "2013-12-27"), "2")
    answer = world.look("2013-12-27").diagnosis
    assert (answer.cause, answer.version) == ("concept drift", None)
