"""Labels are data: planted faults on real weeks, and the real year, in which nothing is called a fault of the labels."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.store.quarantine import Quarantined, covers
from monitoring.detectors.labels import label_faults
from monitoring.detectors.labels.label_faults import LabelFault
from monitoring.results import Window
from tests.support.world import midnight, train

pytestmark = [pytest.mark.flights, pytest.mark.integration]

TARGET, TIME = problem.TARGET, problem.EVENT_TIME
UNREADABLE = "the source cannot be read: gone"
MATURITY = pd.Timedelta(hours=problem.GATE["maturity_hours"])
SPRING, AUTUMN = "2013-05-20", "2013-10-28"  # ends of windows
Plant = Callable[[pd.DataFrame, pd.Series], pd.DataFrame]  # rows, and which of them lie in the window


@pytest.fixture(scope="module")
def year(rows: pd.DataFrame, trained: Path) -> pd.DataFrame:
    """All rows from April on, with the scores of the model of 1 April, as the log has them."""
    if not (trained / "april").exists():
        train(rows, "2013-04-01", trained / "april")
    table = rows[rows[TIME] >= midnight("2013-04-01")].reset_index(drop=True)
    table["score"] = load_bundle(trained / "april").predict_frame(table)
    table["id"], table["at"] = table[problem.ID], table[TIME]
    table["day"] = table[TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    table["known_at"] = table[problem.LABEL_TIME].where(table[TARGET].notna())
    return table


def days_before(end: str, days: int) -> str:
    return str((pd.Timestamp(end) - pd.Timedelta(days=days)).date())


def log_of(table: pd.DataFrame, first: str, end: str, now: str, hidden: tuple[Quarantined, ...] = ()) -> pd.DataFrame:
    """What the log of these days holds at a time."""
    rows = table[(table[TIME] >= midnight(first)) & (table[TIME] < midnight(end))].reset_index(drop=True)
    reported = rows["known_at"] <= midnight(now)
    rows["open"] = rows["at"] > midnight(now) - MATURITY
    rows["value"], rows["known_at"] = rows[TARGET].where(reported), rows["known_at"].where(reported)
    rows["label_hidden"], rows["corrected"] = covers(rows, hidden, "labels"), rows.get("corrected", False)
    rows[TARGET] = rows["value"].mask(rows["open"] | rows["label_hidden"])
    return rows


def look(
    table: pd.DataFrame, end: str, made: pd.DataFrame | str, hidden: tuple[Quarantined, ...] = (), **more: object
) -> tuple[LabelFault, ...]:
    """The faults of the week before a day, with four weeks as reference."""
    current = log_of(table, days_before(end, 7), end, end, hidden)
    reference = log_of(table, days_before(end, 35), days_before(end, 7), end, hidden)
    if not isinstance(made, str):
        made = made[made[TIME] < midnight(end)]
        made = made.assign(**{TARGET: made[TARGET].where(made[problem.LABEL_TIME] < midnight(end))})
    return label_faults.find(label_faults.old_enough(current), reference, made, quarantined=hidden, **more)  # type: ignore[arg-type]


def planted(year: pd.DataFrame, plant: Plant, end: str) -> pd.DataFrame:
    """The weeks until then, with a fault in the last one."""
    rows = year[year[TIME].between(midnight(days_before(end, 35)), midnight(end))].reset_index(drop=True)
    return plant(rows, rows[TIME] >= midnight(days_before(end, 7)))


def share(rows: pd.DataFrame, of: float) -> np.ndarray:
    return np.random.default_rng(0).random(len(rows)) < of


def tell(value: float, where: Callable[[pd.DataFrame], pd.Series | np.ndarray]) -> Plant:
    """These labels get a value."""
    return lambda rows, new: rows.assign(**{TARGET: rows[TARGET].mask(new & where(rows) & rows[TARGET].notna(), value)})


def lose(where: Callable[[pd.DataFrame], pd.Series | np.ndarray]) -> Plant:
    """These labels never come."""
    return lambda rows, new: rows.assign(
        **{TARGET: rows[TARGET].mask(new & where(rows)), "known_at": rows["known_at"].mask(new & where(rows))}
    )


def flip(where: Callable[[pd.DataFrame], pd.Series | np.ndarray]) -> Plant:
    return lambda rows, new: rows.assign(**{TARGET: rows[TARGET].mask(new & where(rows), 1 - rows[TARGET])})


def defer(hours: int, where: Callable[[pd.DataFrame], pd.Series | np.ndarray]) -> Plant:
    """These labels come later."""
    return lambda rows, new: rows.assign(
        known_at=rows["known_at"].mask(new & where(rows), rows["known_at"] + pd.Timedelta(hours=hours))
    )


def exchange(of: float) -> Plant:
    """This share of the labels belongs to other ids."""

    def plant(rows: pd.DataFrame, new: pd.Series) -> pd.DataFrame:
        places = np.flatnonzero(new & rows[TARGET].notna() & share(rows, of))
        labels = rows[TARGET].to_numpy(copy=True)
        labels[places] = labels[np.random.default_rng(1).permutation(places)]
        return rows.assign(**{TARGET: labels})

    return plant


def all_rows(rows: pd.DataFrame) -> pd.Series:
    return pd.Series(True, rows.index)


def late(rows: pd.DataFrame) -> pd.Series:
    return rows[TARGET] == 1


def at_jfk(rows: pd.DataFrame) -> pd.Series:
    return rows["origin"] == "JFK"


def of_ev(rows: pd.DataFrame) -> pd.Series:
    return rows["carrier"] == "EV"


def highest_scores(rows: pd.DataFrame) -> pd.Series:
    return rows["score"] > rows["score"].quantile(0.9)


def newest(rows: pd.DataFrame, days: int) -> pd.Series:
    """The last of these days are too young for a label."""
    return rows["day"] >= rows["day"].max() - timedelta(days=days)


# Plant, the slice to blame, and whether it is seen without a look at the training code, too.
FAULTS: dict[str, tuple[Plant, str, bool]] = {
    "all are 0": (tell(0, all_rows), "", True),
    "all are 1": (tell(1, all_rows), "", True),
    "inverted": (flip(all_rows), "", True),
    "30 % of the late ones never come": (lose(lambda r: late(r) & share(r, 0.3)), "", True),
    "half of the early ones never come": (lose(lambda r: ~late(r) & share(r, 0.5)), "", True),
    "late ones a week later": (defer(168, late), "", True),
    "late ones two days later": (defer(48, late), "", True),
    "all three days later": (defer(72, all_rows), "", True),
    "all twelve hours later": (defer(12, all_rows), "", True),
    "one airport's twelve hours later": (defer(12, at_jfk), "origin=JFK", True),
    "those with high scores never come": (lose(highest_scores), "", True),
    "none since three days": (lose(lambda r: newest(r, 3)), "", True),
    "half since four days": (lose(lambda r: newest(r, 4) & share(r, 0.5)), "", True),
    "one carrier's none since four days": (lose(lambda r: newest(r, 4) & of_ev(r)), "carrier=EV", True),
    "only one airport's come": (lose(lambda r: ~at_jfk(r)), "", True),
    "one airport's never come": (lose(at_jfk), "origin=JFK", True),
    "4 % come": (lose(lambda r: ~share(r, 0.04)), "", True),
    "all exchanged": (exchange(1.0), "", True),
    "one airport never late": (tell(0, at_jfk), "origin=JFK", True),
    "20 % exchanged": (exchange(0.2), "", False),
    "10 % flipped": (flip(lambda r: share(r, 0.1)), "", False),
    "40 % of one carrier flipped": (flip(lambda r: of_ev(r) & share(r, 0.4)), "carrier=EV", False),
    "40 % of one airport flipped": (flip(lambda r: at_jfk(r) & share(r, 0.4)), "origin=JFK", False),
    "30 % of the late ones told as early": (tell(0, lambda r: late(r) & share(r, 0.3)), "", False),
}


VARIANTS = ("all are 1", "half since four days", "one carrier's none since four days", "4 % come", "20 % exchanged")


def slowly(*values: str) -> list[Any]:
    """These cases are no part of `make test`."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.evidence("the source itself has wrong labels")
@pytest.mark.parametrize("end", [SPRING, *slowly(AUTUMN)])
@pytest.mark.parametrize("kind", [*(kind for kind in FAULTS if kind not in VARIANTS), *slowly(*VARIANTS)])
def test_a_planted_fault_of_the_labels_is_seen_in_its_first_week(
    year: pd.DataFrame, rows: pd.DataFrame, kind: str, end: str
) -> None:
    """Where it can be, also if nobody can ask the training code."""
    plant, where, alone = FAULTS[kind]
    table = planted(year, plant, end)
    assert where in {fault.slice for fault in look(table, end, rows)}
    assert where in {fault.slice for fault in look(table, end, UNREADABLE)} or not alone or end != SPRING


MONDAYS = [str(day.date()) for day in pd.date_range("2013-04-29", "2013-12-30", freq="7D")]


@pytest.mark.evidence("the source itself has wrong labels")
@pytest.mark.parametrize("end", [MONDAYS[2], *slowly("2013-07-01", "2013-09-16"), "2013-12-16"])
def test_an_ordinary_week_has_no_fault(year: pd.DataFrame, rows: pd.DataFrame, end: str) -> None:
    assert look(year, end, rows) == look(year, end, UNREADABLE) == ()


@pytest.mark.slow
def test_no_week_of_the_year_has_a_fault_whichever_day_it_ends(year: pd.DataFrame, rows: pd.DataFrame) -> None:
    """With the storms of July and December, and the calm September, whose rate no month before had."""
    ends = [str(day.date()) for day in pd.date_range("2013-04-29", "2013-12-31", freq="1D")]
    assert {end: faults for end in ends if (faults := look(year, end, UNREADABLE))} == {}
    assert {end: faults for end in MONDAYS if (faults := look(year, end, rows))} == {}


@pytest.mark.parametrize("end", [SPRING, *slowly("2013-12-16")])
def test_more_or_less_traffic_is_no_fault(year: pd.DataFrame, rows: pd.DataFrame, end: str) -> None:
    """Five times as many rows in the window only, and 2 % of them all the time."""
    new = year[year[TIME] >= midnight(days_before(end, 7))]
    many = pd.concat([year, *(new.assign(id=new["id"] + f"-{copy}") for copy in range(4))]).sort_values("at")
    few = year[share(year, 0.02)]
    for table in (many, few):
        assert look(table, end, rows) == look(table, end, UNREADABLE) == ()


def test_with_little_traffic_wrong_labels_are_seen(year: pd.DataFrame, rows: pd.DataFrame) -> None:
    few = year[share(year, 0.05)].reset_index(drop=True)
    for plant in (tell(0, all_rows), exchange(0.3), lose(late)):
        assert look(planted(few, plant, SPRING), SPRING, rows)


def test_two_guilty_carriers_are_both_named_and_nobody_else(year: pd.DataFrame, rows: pd.DataFrame) -> None:
    guilty = flip(lambda r: r["carrier"].isin(["EV", "UA"]) & share(r, 0.4))
    faults = look(planted(year, guilty, SPRING), SPRING, rows)
    assert {fault.slice for fault in faults} == {"carrier=EV", "carrier=UA"}


def test_only_the_days_with_a_fault_are_set_apart(year: pd.DataFrame, rows: pd.DataFrame) -> None:
    bad = year[TIME].between(midnight("2013-05-15"), midnight("2013-05-17"), inclusive="left")
    table = year.assign(**{TARGET: year[TARGET].mask(bad, 1 - year[TARGET])})
    window = Window(*(midnight(day).to_pydatetime() for day in (days_before(SPRING, 7), SPRING)))
    (span,) = label_faults.spans(look(table, SPRING, rows), window)
    assert (span.start, span.end, span.slice, span.what) == (
        midnight("2013-05-15"),
        midnight("2013-05-17"),
        "",
        "labels",
    )


def test_labels_that_are_set_apart_are_not_reported_again_and_new_ones_are(
    year: pd.DataFrame, rows: pd.DataFrame
) -> None:
    """After a mended source the first days stay in the window; while it lasts, each day brings new labels."""
    start = midnight("2013-05-15").to_pydatetime()
    hidden = (Quarantined(start, start + timedelta(days=2), "", "inverted", what="labels"),)
    healed = year[TIME].between(midnight("2013-05-15"), midnight("2013-05-17"), inclusive="left")
    lasting = year[TIME] >= midnight("2013-05-15")
    for bad, again in ((healed, False), (lasting, True)):
        table = year.assign(**{TARGET: year[TARGET].mask(bad, 1 - year[TARGET])})
        assert bool(look(table, SPRING, rows, hidden)) == again


def test_labels_that_a_person_found_right_are_no_fault(year: pd.DataFrame, rows: pd.DataFrame) -> None:
    table = planted(year, tell(0, at_jfk), SPRING)
    current = log_of(table, days_before(SPRING, 7), SPRING, SPRING)
    start, end = (midnight(day).to_pydatetime() for day in (days_before(SPRING, 7), SPRING))
    span = Quarantined(start, end, "origin=JFK", "never late", what="labels")
    left = label_faults.old_enough(current, (span,))
    assert not at_jfk(left).any()
    assert label_faults.find(left, left.head(0), rows) == ()


def test_a_bad_release_is_not_blamed_on_the_labels(year: pd.DataFrame) -> None:
    """Its scores order the labels backwards, and those of the version before do not."""
    turned = year.assign(score=year["score"].mask(year[TIME] >= midnight(days_before(SPRING, 7)), 1 - year["score"]))
    assert "inverted" in {fault.kind for fault in look(turned, SPRING, UNREADABLE)}
    right = label_faults.old_enough(log_of(year, days_before(SPRING, 7), SPRING, SPRING))["score"].to_numpy()
    assert look(turned, SPRING, UNREADABLE, opinions=[right]) == ()


def test_labels_reported_with_two_values_are_a_fault_where_nobody_knows_the_right_one(
    year: pd.DataFrame, rows: pd.DataFrame
) -> None:
    table = year.assign(corrected=share(year, 0.1))
    assert {fault.kind for fault in look(table, SPRING, UNREADABLE)} == {"corrected"}
    assert look(table, SPRING, rows) == ()


def test_where_no_label_has_come_at_all_there_is_nothing_to_judge(year: pd.DataFrame, rows: pd.DataFrame) -> None:
    assert look(planted(year, lose(all_rows), SPRING), SPRING, rows) == ()


def test_a_source_that_has_no_outcomes_yet_says_nothing(year: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Its newest rows have no label, though the callers have reported theirs."""
    behind = rows.assign(**{TARGET: rows[TARGET].mask(rows[TIME] >= midnight(days_before(SPRING, 7)))})
    assert look(year, SPRING, behind) == ()
