"""Flights: every row holds what was known one hour before departure, and nothing learned later."""

from __future__ import annotations

import errno
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from sklearn.metrics import roc_auc_score

from level1_pipeline import flights, problem, schema
from level1_pipeline.errors import DataCheckFailed
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings

pytestmark = pytest.mark.flights

READINGS = list(flights.PLAUSIBLE)
NEW_YORK = "America/New_York"
HOUR, MINUTE = pd.Timedelta("1h"), pd.Timedelta("1min")


@pytest.fixture(scope="module")
def raw() -> flights.Raw:
    """The raw tables, with isolated impossible readings removed."""
    tables = flights.read()
    return tables._replace(weather=flights.without_glitches(tables.weather)[0])


@pytest.fixture(scope="module")
def scheduled(raw: flights.Raw) -> pd.DataFrame:
    return flights.schedule(raw)


@pytest.fixture(scope="module")
def known(raw: flights.Raw) -> flights.Events:
    return flights.events(raw)


@pytest.fixture
def small_source(tmp_path: Path) -> Path:
    """A folder of raw files like the installed ones, but with the first 2,000 flights and 900 weather rows."""
    folder, small = flights.source_folder(), tmp_path / "source"
    small.mkdir()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open(archive.namelist()[0]) as table:
        lines = [next(table) for _ in range(2001)]
    with zipfile.ZipFile(small / "flights.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flights.csv", b"".join(lines))
    (small / "weather.csv").write_bytes(b"".join((folder / "weather.csv").read_bytes().splitlines(keepends=True)[:901]))
    (small / "airports.csv").write_bytes((folder / "airports.csv").read_bytes())
    return small


def at_midnight(day: str) -> pd.Timestamp:
    return pd.Timestamp(day, tz=NEW_YORK)


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def known_by(events: flights.Events, time: pd.Timestamp) -> flights.Events:
    """The same events, cut off at `time`: what a live feed has delivered by then."""
    return flights.Events(*(table[table["known_at"] <= time] for table in events))


def on_local_day(scheduled: pd.DataFrame, day: str) -> pd.DataFrame:
    next_day = at_midnight(day) + pd.DateOffset(days=1)
    return scheduled[scheduled["scheduled_departure"].between(at_midnight(day), next_day, inclusive="left")]


def departure_times(table: pd.DataFrame) -> pd.Series:
    return table["time_hour"] + pd.to_timedelta(table["minute"] + table["dep_delay"], unit="min")


# ---- what a row is


def test_every_flight_of_the_year_is_one_row_with_its_own_id(rows: pd.DataFrame) -> None:
    assert len(rows) == 336_776
    assert rows["flight_id"].is_unique
    assert rows.loc[0, "flight_id"].count("-") == 5  # carrier-flight-origin-year-month-day
    assert rows["decision_time"].is_monotonic_increasing
    assert set(schema.names()) <= set(rows.columns)


def test_ids_are_made_of_carrier_flight_origin_and_local_date(raw: flights.Raw, scheduled: pd.DataFrame) -> None:
    first = raw.flights.iloc[0]
    assert scheduled.loc[0, "flight_id"] == f"{first.carrier}-{first.flight}-{first.origin}-2013-01-01"
    assert scheduled.loc[0, "entity_id"] == f"{first.carrier}{first.flight}"


def test_a_flight_is_late_from_15_minutes_on(raw: flights.Raw, scheduled: pd.DataFrame) -> None:
    late, delay = flights.outcomes(raw, scheduled)["late"], raw.flights["arr_delay"]
    assert late[delay == 14].eq(0).all()
    assert late[delay == 15].eq(1).all()
    assert late.isna().equals(delay.isna())
    assert late.mean() == pytest.approx(0.2447, abs=0.0001)


@pytest.mark.parametrize(
    ("column", "share"),
    [
        ("wind_gust", 0.766),
        ("pressure", 0.112),
        ("recent_delay", 0.042),
        ("late", 0.028),
        ("temp", 0.0025),
        ("distance", 0.0),
    ],
)
def test_the_share_of_missing_values_is_the_documented_one(rows: pd.DataFrame, column: str, share: float) -> None:
    assert rows[column].isna().mean() == pytest.approx(share, abs=0.0006)


def test_cancelled_flights_have_features_but_never_a_label(
    raw: flights.Raw, scheduled: pd.DataFrame, rows: pd.DataFrame
) -> None:
    cancelled = scheduled.loc[raw.flights["dep_time"].isna(), "flight_id"]
    of_cancelled = rows[rows["flight_id"].isin(cancelled)]
    assert len(of_cancelled) == len(cancelled) > 8000
    assert of_cancelled[["late", "label_time"]].isna().all(axis=None)
    assert of_cancelled["temp"].notna().mean() > 0.9
    assert of_cancelled["recent_delay"].notna().mean() > 0.9


def test_cancelled_flights_do_not_count_as_recent_departures(known: flights.Events, raw: flights.Raw) -> None:
    assert len(known.departures) == raw.flights["dep_time"].notna().sum()


# ---- nothing of the future


def around(raw: flights.Raw, time: pd.Timestamp) -> flights.Raw:
    """The raw tables from two days before `time` until one day after it."""
    table, weather = (
        each[each["time_hour"].between(time - 48 * HOUR, time + 24 * HOUR)].reset_index(drop=True)
        for each in (raw.flights, raw.weather)
    )
    return flights.Raw(table, weather, raw.airports)


def with_another_future(raw: flights.Raw, time: pd.Timestamp, rng: np.random.Generator) -> flights.Raw:
    """The same world up to `time`; who leaves when, all arrivals, and the weather afterwards are drawn anew."""
    table, weather = raw.flights.copy(), raw.weather.copy()
    open_ = ~(departure_times(table) <= time)  # also those that will be cancelled
    still = (time - table["time_hour"]) / MINUTE - table["minute"]
    delay = still.clip(lower=-20) + rng.integers(1, 300, len(table))
    table.loc[open_, "dep_delay"] = delay.where(rng.random(len(table)) < 0.9)[open_]
    for column in ("arr_delay", "arr_time", "air_time"):
        table[column] = rng.integers(0, 600, len(table)).astype("float64")
    later = weather["time_hour"] + HOUR > time
    for column, (low, high) in flights.PLAUSIBLE.items():
        weather.loc[later, column] = rng.uniform(low, high, later.sum())
    return flights.Raw(table, weather, raw.airports)


@pytest.mark.evidence("Data 4", "Data 7", "an input knows the future")
@pytest.mark.parametrize("seed", range(8))
def test_no_feature_changes_when_everything_after_the_decision_time_is_altered(
    raw: flights.Raw, scheduled: pd.DataFrame, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    time = scheduled["decision_time"].iloc[rng.integers(len(scheduled))]
    real = around(raw, time)
    tables = (real, with_another_future(real, time, rng))
    timetables = [flights.schedule(table) for table in tables]
    before, after = (
        flights.features_at(flights.events(t), s, s["decision_time"]) for t, s in zip(tables, timetables, strict=True)
    )

    assert_frame_equal(timetables[0], timetables[1], check_exact=True)
    decided = timetables[0]["decision_time"] <= time
    assert (timetables[0]["decision_time"] == time).any()
    assert_frame_equal(before[decided], after[decided], check_exact=True)
    later = (before[~decided], after[~decided])  # the alteration is real: those decided later do see it
    assert not later[0]["temp"].equals(later[1]["temp"])
    assert not later[0]["recent_delay"].equals(later[1]["recent_delay"])


def auc(late: pd.Series, feature: pd.Series) -> float:
    both = late.notna() & feature.notna()
    value = roc_auc_score(late[both], feature[both])
    return max(value, 1 - value)


@pytest.mark.evidence("an input knows the future")
def test_no_single_feature_gives_the_outcome_away_as_the_actual_departure_delay_does(
    rows: pd.DataFrame, raw: flights.Raw, scheduled: pd.DataFrame
) -> None:
    numeric = [column.name for column in schema.columns() if not column.text]
    strongest = max(auc(rows["late"], rows[name]) for name in numeric)
    assert strongest < problem.GATE["max_single_feature_auc"] == 0.85
    planted = auc(flights.outcomes(raw, scheduled)["late"], raw.flights["dep_delay"])
    assert planted == pytest.approx(0.895, abs=0.001)


# ---- weather counts from when it is known


@pytest.mark.evidence("Data 7")
@pytest.mark.parametrize("origin", ["EWR", "JFK", "LGA"])
@pytest.mark.parametrize("stamp", ["2013-01-15 12:00", "2013-06-10 14:00", "2013-11-20 20:00"])
def test_a_reading_is_used_from_one_hour_after_its_stamp_and_not_before(
    raw: flights.Raw, scheduled: pd.DataFrame, known: flights.Events, origin: str, stamp: str
) -> None:
    weather = raw.weather[raw.weather["origin"] == origin].set_index("time_hour")[READINGS]
    old, new = weather.loc[utc(stamp) - HOUR], weather.loc[utc(stamp)]
    assert not old.equals(new)
    flight = scheduled[scheduled["origin"] == origin].head(1)

    just_before = flights.features_at(known, flight, utc(stamp) + HOUR - pd.Timedelta("1us")).iloc[0][READINGS]
    exactly_then = flights.features_at(known, flight, utc(stamp) + HOUR).iloc[0][READINGS]
    assert just_before.astype("float64").equals(old)
    assert exactly_then.astype("float64").equals(new)


def test_weather_older_than_three_hours_from_its_stamp_is_missing(
    scheduled: pd.DataFrame, known: flights.Events
) -> None:
    stamp = utc("2013-06-10 14:00")
    silent = known_by(known, stamp + HOUR)  # the station publishes nothing after this reading
    flight = scheduled[scheduled["origin"] == "JFK"].head(1)
    assert flights.features_at(silent, flight, stamp + 3 * HOUR)["temp"].notna().all()
    assert flights.features_at(silent, flight, stamp + 3 * HOUR + MINUTE)[READINGS].isna().all(axis=None)


def test_flights_after_the_last_weather_of_the_year_have_none(rows: pd.DataFrame, raw: flights.Raw) -> None:
    assert raw.weather["time_hour"].max() == at_midnight("2013-12-30") + 18 * HOUR
    end = rows[rows["decision_time"] > raw.weather["time_hour"].max() + 3 * HOUR]
    assert len(end) > 700
    assert end[READINGS].isna().all(axis=None)


def test_before_any_event_is_known_weather_and_recent_delay_are_missing(
    scheduled: pd.DataFrame, known: flights.Events
) -> None:
    one = flights.features_at(known_by(known, utc("2012-01-01")), scheduled.head(1), utc("2013-01-01 10:00"))
    assert one[[*READINGS, "recent_delay"]].isna().all(axis=None)
    assert one["recent_departures"].item() == 0


# ---- recent delay


def recent(departures: list[tuple[str, str, float]], time: str) -> tuple[float, float]:
    table = pd.DataFrame(departures, columns=["origin", "known_at", "delay"])
    table["known_at"] = pd.to_datetime(table["known_at"], utc=True).astype("datetime64[us, UTC]")
    nothing = pd.DataFrame(
        {"origin": pd.Series(dtype="str"), "known_at": table["known_at"].head(0)} | dict.fromkeys(READINGS, 0.0)
    ).head(0)
    flight = pd.DataFrame({"carrier": ["AA"], "origin": ["JFK"], "dest": ["LAX"]}).assign(
        distance=1.0, departure_minute=1.0, weekday=1.0, scheduled_minutes=1.0
    )
    record = flights.features_at(flights.Events(table, nothing), flight, utc(time)).iloc[0]
    return record["recent_delay"], record["recent_departures"]


@pytest.mark.evidence("Data 7")
def test_recent_delay_is_the_mean_over_the_flights_that_left_this_origin_in_the_last_two_hours() -> None:
    departures = [
        ("JFK", "2013-05-01 10:00", 100.0),  # exactly two hours ago: no longer
        ("JFK", "2013-05-01 10:01", 4.0),
        ("EWR", "2013-05-01 11:00", 90.0),  # elsewhere
        ("JFK", "2013-05-01 12:00", 7.0),  # now
        ("JFK", "2013-05-01 12:01", 170.0),  # not yet
    ]
    assert recent(departures, "2013-05-01 12:00") == (5.5, 2.0)


def test_recent_delay_is_missing_when_nothing_left() -> None:
    delay, count = recent([("EWR", "2013-05-01 11:00", 90.0)], "2013-05-01 12:00")
    assert np.isnan(delay)
    assert count == 0


def test_one_extreme_delay_is_clipped_before_the_mean(raw: flights.Raw, known: flights.Events) -> None:
    assert raw.flights["dep_delay"].max() == 1301
    assert (known.departures["delay"].min(), known.departures["delay"].max()) == (-10, 180)


def test_a_departure_is_known_when_it_really_left_not_when_it_was_scheduled(
    raw: flights.Raw, known: flights.Events
) -> None:
    left = departure_times(raw.flights).dropna().sort_values(ignore_index=True)
    assert known.departures["known_at"].equals(left.rename("known_at"))
    assert known.departures["known_at"].is_monotonic_increasing


# ---- one producer of records


@pytest.mark.slow
@examples(max_examples=100, deadline=None)
@given(position=st.integers(0, 336_775))
def test_one_flight_with_the_events_known_so_far_gives_the_record_of_the_batch(
    rows: pd.DataFrame, scheduled: pd.DataFrame, known: flights.Events, position: int
) -> None:
    row = rows.iloc[[position]]
    flight = scheduled[scheduled["flight_id"] == row["flight_id"].item()]
    time = row["decision_time"].item()
    one = flights.features_at(known_by(known, time), flight, time)
    assert_frame_equal(one.reset_index(drop=True), row[schema.names()].reset_index(drop=True), check_exact=True)


@pytest.mark.evidence("Monitor 3")
@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param(at_midnight("2013-07-08"), at_midnight("2013-07-08") + 8 * HOUR, id="morning"),
        pytest.param(at_midnight("2013-11-01"), at_midnight("2013-11-08"), id="week", marks=pytest.mark.slow),
    ],
)
def test_time_replayed_event_by_event_equals_the_batch(
    rows: pd.DataFrame, scheduled: pd.DataFrame, known: flights.Events, start: pd.Timestamp, end: pd.Timestamp
) -> None:
    # The live feed starts a day earlier, and grows by the events that arrive between two decisions.
    feed = flights.Events(
        *(table[table["known_at"].between(start - 24 * HOUR, end)].reset_index(drop=True) for table in known)
    )
    week = scheduled[scheduled["decision_time"].between(start, end, inclusive="left")]
    arrived, replayed = [0, 0], []
    for time, deciding in week.groupby("decision_time"):
        for number, table in enumerate(feed):
            while arrived[number] < len(table) and table["known_at"].iloc[arrived[number]] <= time:
                arrived[number] += 1
        seen = flights.Events(*(table.iloc[:count] for table, count in zip(feed, arrived, strict=True)))
        replayed.append(flights.features_at(seen, deciding, time).assign(flight_id=deciding["flight_id"]))
    replay = pd.concat(replayed).set_index("flight_id")
    batch = rows.set_index("flight_id").loc[replay.index, schema.names()]
    assert len(replay) == len(week) > 200
    assert_frame_equal(replay, batch, check_exact=True)


def test_the_order_of_flights_and_their_index_do_not_matter(scheduled: pd.DataFrame, known: flights.Events) -> None:
    some = scheduled.sample(500, random_state=0)
    shuffled = flights.features_at(known, some, some["decision_time"])
    renumbered = some.reset_index(drop=True)
    assert_frame_equal(
        shuffled.reset_index(drop=True),
        flights.features_at(known, renumbered, renumbered["decision_time"]),
        check_exact=True,
    )


# ---- time zones and daylight saving


def test_the_scheduled_departure_is_the_timetables_local_time_on_every_day(scheduled: pd.DataFrame) -> None:
    local = scheduled["scheduled_departure"].dt.tz_convert(NEW_YORK)
    assert (local.dt.hour * 60 + local.dt.minute).astype("float64").equals(scheduled["departure_minute"].rename(None))
    assert local.dt.dayofweek.astype("float64").equals(scheduled["weekday"].rename("scheduled_departure"))


@pytest.mark.evidence("clocks change, or a stamp is wrong")
@pytest.mark.parametrize(("day", "count", "offset"), [("2013-03-10", 908, -4), ("2013-11-03", 902, -5)])
def test_daylight_saving_days_are_like_all_others(
    scheduled: pd.DataFrame, raw: flights.Raw, day: str, count: int, offset: int
) -> None:
    that_day = on_local_day(scheduled, day)
    assert len(that_day) == count
    assert ((that_day["scheduled_departure"] - that_day["decision_time"]) == HOUR).all()
    of_clock = pd.to_datetime(day) + pd.to_timedelta(that_day["departure_minute"], unit="min")
    assert ((of_clock.dt.tz_localize("UTC") - that_day["scheduled_departure"]) == offset * HOUR).all()
    usual = scheduled.groupby(["origin", "dest"])["scheduled_minutes"].transform("median")[that_day.index]
    assert (that_day["scheduled_minutes"] - usual).abs().max() < 45  # an hour off would show
    outcomes = flights.outcomes(raw, scheduled).loc[that_day.index].dropna()
    flown = outcomes["label_time"] - departure_times(raw.flights)[outcomes.index]
    assert (flown >= pd.to_timedelta(raw.flights.loc[outcomes.index, "air_time"].fillna(0), unit="min")).all()


@pytest.mark.evidence("clocks change, or a stamp is wrong")
@pytest.mark.parametrize("day", ["2013-03-09", "2013-11-02"])
def test_flights_through_the_night_of_a_switch_have_their_real_length(scheduled: pd.DataFrame, day: str) -> None:
    evening = on_local_day(scheduled, day)
    evening = evening[evening["departure_minute"] > 20 * 60]
    usual = scheduled.groupby(["origin", "dest"])["scheduled_minutes"].transform("median")[evening.index]
    assert len(evening) > 40
    assert (evening["scheduled_minutes"] - usual).abs().max() < 59


@pytest.mark.parametrize("origin", ["EWR", "JFK", "LGA"])
def test_both_one_o_clock_readings_of_3_november_are_used_each_in_its_own_hour(
    raw: flights.Raw, scheduled: pd.DataFrame, known: flights.Events, origin: str
) -> None:
    local = raw.weather[
        (raw.weather["origin"] == origin)
        & (raw.weather["month"] == 11)
        & (raw.weather["day"] == 3)
        & (raw.weather["hour"] == 1)
    ]
    first, second = local["temp"]
    assert first != second
    flight = scheduled[scheduled["origin"] == origin].head(1)
    assert flights.features_at(known, flight, utc("2013-11-03 06:30"))["temp"].item() == first
    assert flights.features_at(known, flight, utc("2013-11-03 07:30"))["temp"].item() == second


@pytest.mark.parametrize("dest", ["BQN", "PSE", "SJU", "STT"])
def test_destinations_without_a_zone_in_the_airports_file_are_on_puerto_rican_time(
    raw: flights.Raw, scheduled: pd.DataFrame, dest: str
) -> None:
    assert dest not in set(raw.airports["faa"])
    there = scheduled[scheduled["dest"] == dest]
    arrival = there["scheduled_arrival"].dt.tz_convert("America/Puerto_Rico")
    timetable = raw.flights.loc[there.index, "sched_arr_time"]
    assert (arrival.dt.hour * 100 + arrival.dt.minute == timetable % 2400).all()
    assert there["scheduled_minutes"].between(200, 280).all()


def test_every_destination_has_a_zone_and_every_flight_arrives_after_it_departs(scheduled: pd.DataFrame) -> None:
    assert scheduled.notna().all(axis=None)
    assert scheduled["scheduled_minutes"].between(50, 700).all()


# ---- when the outcome is known


def test_the_label_time_is_the_arrival_on_the_destinations_clock(raw: flights.Raw, scheduled: pd.DataFrame) -> None:
    zones = scheduled["dest"].map(raw.airports.set_index("faa")["tzone"].to_dict() | flights.MISSING_ZONES)
    known = flights.outcomes(raw, scheduled)["label_time"].dropna()
    differing = 0
    for zone, times in known.groupby(zones):
        local, clock = times.dt.tz_convert(zone), raw.flights.loc[times.index, "arr_time"] % 2400
        differing += int((local.dt.hour * 100 + local.dt.minute != clock).sum())
    assert len(known) == 327_346
    assert differing <= 21


def test_no_label_is_known_before_the_flight_could_have_landed(raw: flights.Raw, scheduled: pd.DataFrame) -> None:
    known = flights.outcomes(raw, scheduled)["label_time"].dropna()
    in_the_air = pd.to_timedelta(raw.flights.loc[known.index, "air_time"], unit="min")
    assert (known >= departure_times(raw.flights)[known.index] + in_the_air).all()


def test_an_arrival_that_the_timetable_puts_before_the_landing_counts_from_the_landing(raw: flights.Raw) -> None:
    one = flights.Raw(
        raw.flights.head(1).assign(arr_delay=-200.0, dep_delay=2.0, air_time=227.0), raw.weather, raw.airports
    )
    timetable = flights.schedule(one)
    landed = timetable["scheduled_departure"] + (2 + 227) * MINUTE
    assert flights.outcomes(one, timetable)["label_time"].item() == landed.item()


def test_the_last_label_is_known_32_7_hours_after_the_scheduled_departure(rows: pd.DataFrame) -> None:
    from_decision = (rows["label_time"] - rows["decision_time"]).max() / HOUR
    assert from_decision - flights.DECISION_LEAD / HOUR == pytest.approx(32.7)
    assert problem.GATE["maturity_hours"] > from_decision


@pytest.mark.slow
@pytest.mark.parametrize(
    "until", [at_midnight("2013-01-02"), at_midnight("2013-03-11"), utc("2013-07-08 17:23"), at_midnight("2013-12-31")]
)
def test_load_shows_the_world_as_it_was(rows: pd.DataFrame, cache: Path, until: pd.Timestamp) -> None:
    then = problem.load(until, cache=cache)
    later = rows[rows["decision_time"] < until].reset_index(drop=True)
    assert 0 < len(then) == len(later)
    assert (then["decision_time"] < until).all()
    assert not (then["label_time"] >= until).any()
    assert then["late"].isna().equals(then["label_time"].isna())
    open_ = later["label_time"] >= until
    assert open_.any()
    assert_frame_equal(then[~open_], later[~open_], check_exact=True)
    assert_frame_equal(
        then.drop(columns=["late", "label_time"]), later.drop(columns=["late", "label_time"]), check_exact=True
    )


def test_a_label_known_at_this_very_moment_is_not_known_before_it(rows: pd.DataFrame, cache: Path) -> None:
    row = rows[rows["label_time"].notna()].iloc[100_000]
    at, after = (
        problem.load(row["label_time"] + wait, cache=cache).set_index("flight_id")
        for wait in (pd.Timedelta(0), pd.Timedelta("1us"))
    )
    assert np.isnan(at.loc[row["flight_id"], "late"])
    assert after.loc[row["flight_id"], "late"] == row["late"]
    assert row["flight_id"] not in set(problem.load(row["decision_time"], cache=cache)["flight_id"])


@pytest.mark.slow
def test_past_the_maturity_cut_off_no_label_is_open_while_those_of_the_last_day_are_open_because_they_are_late(
    rows: pd.DataFrame,
) -> None:
    arrived = rows[rows["late"].notna()]
    still_open, closed = [], []
    for midnight in pd.date_range("2013-01-05", "2013-12-31", freq="D", tz=NEW_YORK):
        mature = arrived["decision_time"] < midnight - problem.GATE["maturity_hours"] * HOUR
        assert not (arrived["label_time"][mature] >= midnight).any()
        departures = midnight - flights.DECISION_LEAD
        last_day = arrived[arrived["decision_time"].between(departures - 24 * HOUR, departures, inclusive="left")]
        is_open = last_day["label_time"] >= midnight
        still_open.append(last_day["late"][is_open])
        closed.append(last_day["late"][~is_open])
    late_open, late_closed = pd.concat(still_open), pd.concat(closed)
    assert len(late_open) / (len(late_open) + len(late_closed)) == pytest.approx(0.08, abs=0.01)
    assert late_open.mean() == pytest.approx(0.52, abs=0.01)
    assert late_closed.mean() == pytest.approx(0.22, abs=0.01)


# ---- impossible readings


def test_the_wind_of_1048_mph_becomes_missing_and_is_counted(rows: pd.DataFrame) -> None:
    weather = flights.read().weather
    glitch = weather["wind_speed"] > 1000
    assert weather.loc[glitch, ["origin", "month", "day"]].to_numpy().tolist() == [["EWR", 2, 12]]
    cleaned, found = flights.without_glitches(weather)
    assert list(found) == ["wind_speed"]
    assert rows.attrs["glitches"] == {"wind_speed": 1}
    assert cleaned.loc[glitch, "wind_speed"].isna().all()
    assert_frame_equal(cleaned[~glitch], weather[~glitch])
    hour = weather.loc[glitch, "time_hour"].item()
    affected = rows[
        (rows["origin"] == "EWR") & rows["decision_time"].between(hour + HOUR, hour + 2 * HOUR, inclusive="left")
    ]
    assert len(affected) > 0
    assert affected["wind_speed"].isna().all()
    assert affected["temp"].notna().all()


def test_a_training_does_not_report_a_reading_that_was_still_to_come(cache: Path) -> None:
    assert problem.load(utc("2013-02-01"), cache=cache).attrs["glitches"] == {}
    assert problem.load(utc("2013-02-14"), cache=cache).attrs["glitches"] == {"wind_speed": 1}


def test_impossible_readings_everywhere_are_left_for_validation_to_stop(raw: flights.Raw) -> None:
    in_wrong_unit = raw.weather.assign(temp=raw.weather["temp"] * 1.8 + 32)
    cleaned, counts = flights.without_glitches(in_wrong_unit)
    assert "temp" not in counts
    assert_frame_equal(cleaned, in_wrong_unit)
    assert (cleaned["temp"] > flights.PLAUSIBLE["temp"][1]).sum() > flights.GLITCHES


def test_a_fault_in_the_raw_weather_reaches_the_rows(small_source: Path) -> None:
    weather = pd.read_csv(small_source / "weather.csv")
    weather.assign(temp=weather["temp"] * 1.8 + 132).to_csv(small_source / "weather.csv", index=False)
    rows = flights.prepare(small_source)
    assert rows.attrs["glitches"] == {}
    assert (rows["temp"].dropna() > 130).mean() > 0.9


def test_the_plausible_range_of_a_reading_is_that_of_the_record() -> None:
    bounds = {column.name: (column.low, column.high) for column in schema.columns()}
    assert {name: bounds[name] for name in READINGS} == flights.PLAUSIBLE
    assert bounds["recent_delay"] == flights.DELAY_CLIP


# ---- the cache and the raw files


def test_the_second_load_reads_the_cache_and_equals_the_first(small_source: Path, tmp_path: Path) -> None:
    kept, end = tmp_path / "cache", utc("2014-01-01")
    weather = pd.read_csv(small_source / "weather.csv")
    weather.loc[5, "wind_speed"] = 1048.0
    weather.to_csv(small_source / "weather.csv", index=False)
    first = problem.load(end, small_source, kept)
    (file,) = kept.iterdir()
    second = problem.load(end, small_source, kept)
    assert_frame_equal(first, second, check_exact=True)
    assert_frame_equal(first, problem.load(end, small_source), check_exact=True)
    assert first.attrs == second.attrs == {"glitches": {"wind_speed": 1}}

    pd.read_parquet(file).head(7).to_parquet(file)  # were the file not read, this would not be seen
    assert len(problem.load(end, small_source, kept)) == 7


@pytest.mark.evidence("Monitor 1")
@pytest.mark.parametrize("name", flights.SOURCE_FILES)
def test_a_changed_raw_file_has_another_fingerprint_and_is_prepared_anew(
    small_source: Path, tmp_path: Path, name: str
) -> None:
    before = problem.fingerprint(small_source)
    problem.load(utc("2014-01-01"), small_source, tmp_path / "cache")
    assert problem.fingerprint(small_source) == before
    content = (small_source / name).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            table = archive.read("flights.csv")
        with zipfile.ZipFile(small_source / name, "w") as archive:
            archive.writestr("flights.csv", table.rsplit(b"\n", 2)[0])
    else:
        (small_source / name).write_bytes(content.rstrip(b"\n").rsplit(b"\n", 1)[0])
    assert problem.fingerprint(small_source) != before
    problem.load(utc("2014-01-01"), small_source, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def drop_a_column(file: Path) -> None:
    pd.read_csv(file).drop(columns=pd.read_csv(file).columns[-1]).to_csv(file, index=False)


def delete(file: Path) -> None:
    file.unlink()


def write_a_word(file: Path) -> None:
    table = pd.read_csv(file).astype(object)
    name = next(name for name in table.columns if name in flights.COLUMNS[file.name] - flights.TEXTS)
    table.loc[3, name] = "abc"
    table.to_csv(file, index=False)


def write_a_word_for_a_time(file: Path) -> None:
    table = pd.read_csv(file)
    table.loc[3, "time_hour"] = "abc"
    table.to_csv(file, index=False)


def flip_bytes(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.evidence("the data are broken")
@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (cut_in_half, "flights.csv.zip"),
        (cut_in_half, "weather.csv"),
        (drop_a_column, "weather.csv"),
        (drop_a_column, "airports.csv"),
        (delete, "weather.csv"),
        (delete, "flights.csv.zip"),
        (write_a_word, "flights.csv.zip"),
        (write_a_word, "weather.csv"),
        (write_a_word_for_a_time, "flights.csv.zip"),
        (write_a_word_for_a_time, "weather.csv"),
        (flip_bytes, "flights.csv.zip"),
        (empty, "flights.csv.zip"),
        (empty, "airports.csv"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_damaged_raw_file_stops_with_an_error_that_names_it(
    small_source: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(small_source / name)
    settings = Settings(home=small_source.parent / "home", source=small_source)
    with pytest.raises(DataCheckFailed) as stopped:
        source.load(settings)
    assert name in str(stopped.value)
    assert "\n" not in str(stopped.value)
    if damage is not delete:
        assert source.fingerprint(settings) == problem.fingerprint(small_source)


@pytest.mark.parametrize("error", [TypeError("'<' not supported"), KeyError("tzone"), ZeroDivisionError("x\ny")])
def test_whatever_the_problems_own_code_raises_about_its_data_is_one_line(
    home: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(problem, "load", fails)
    with pytest.raises(DataCheckFailed, match=f"cannot be loaded: {type(error).__name__}: ") as stopped:
        source.load(home)
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize(
    ("error", "is_bad_data"),
    [
        (MemoryError(), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (PermissionError(errno.EACCES, "Permission denied", "cache"), False),
        (PermissionError(errno.EACCES, "Permission denied", "raw"), True),
    ],
    ids=["memory", "a full disk", "a cache that cannot be written", "a raw file that may not be read"],
)
def test_what_fails_beside_the_data_is_not_called_bad_data(
    home: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception, is_bad_data: bool
) -> None:
    if isinstance(error, PermissionError):
        error.filename = str(home.home / error.filename / "flights")

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(problem, "load", fails)
    with pytest.raises(DataCheckFailed if is_bad_data else type(error)):
        source.load(home)


def test_a_cache_that_cannot_be_made_is_not_called_bad_data(small_source: Path) -> None:
    settings = Settings(home=small_source.parent / "home", source=small_source)
    settings.home.mkdir()
    (settings.home / "cache").write_text("no folder")
    with pytest.raises(FileExistsError):
        source.load(settings)


def test_records_of_the_year_are_json_ready(rows: pd.DataFrame) -> None:
    record = schema.records(rows[rows["wind_gust"].isna()].head(1))[0]
    assert record["wind_gust"] is None
    assert {type(value) for value in record.values()} <= {str, float, type(None)}
