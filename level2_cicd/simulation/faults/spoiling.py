"""How each fault spoils rows: pure functions of rows and of the span of the fault, derived from the problem's schema.

A row is in the span by its EVENT_TIME. What is drawn at random is drawn by the row's ID, so that every load of the
same rows is spoilt alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.schema.task import task

HOUR = pd.Timedelta("1h")
NEW_SHARE = 0.3  # of the entities of the largest slice value that get the new value
CHANGED_SHARE = 0.2  # of the outcomes that are others after a concept change
DRIFT_DEVIATIONS = 2.0  # how far a sensor has drifted in the end, in standard deviations of its column
MOSTLY = 0.5  # of the values
LETTERS = "ZQXJ9876543210"  # that may make a value nobody has seen


def readings() -> list[str]:
    """The inputs that look like those of a sensor: numbers that may be missing."""
    return [column.name for column in schema.columns() if not column.text and column.nullable]


def open_slices() -> list[str]:
    """The slices whose values are no fixed list: there a new value may appear."""
    texts = {column.name for column in schema.columns() if column.text and column.pattern}
    return [name for name in problem.SLICES if name in texts]


def in_span(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.Series:
    """Which rows lie in the span."""
    return (rows[problem.EVENT_TIME] >= start) & (rows[problem.EVENT_TIME] < end)


def _before(rows: pd.DataFrame, start: pd.Timestamp) -> pd.DataFrame:
    return rows[rows[problem.EVENT_TIME] < start]


def _largest(rows: pd.DataFrame, start: pd.Timestamp, column: str) -> str:
    """The most frequent value of a column before the fault."""
    return str(_before(rows, start)[column].value_counts().idxmax())


def _drawn(values: pd.Series, share: float) -> np.ndarray:
    """A share of different values, always the same ones."""
    return pd.util.hash_array(values.to_numpy(object)) % 1000 < 1000 * share


def _within_bounds(column: str, values: pd.Series) -> pd.Series:
    rule = next(each for each in schema.columns() if each.name == column)
    whole = rule.kind is schema.Kind.WHOLE
    return (values.round() if whole else values).clip(rule.low, rule.high)


def another_unit(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp, column: str = "") -> pd.DataFrame:
    """A number in another unit: degrees Fahrenheit sent in Celsius, or, where that would be out of the Record's bounds
    mostly, centimetres sent in inches. Stays within the bounds."""
    column = column or readings()[0]
    celsius, inches = (rows[column] - 32) / 1.8, rows[column] / 2.54
    clipped = (_within_bounds(column, celsius) != celsius)[rows[column].notna()]
    wrong = _within_bounds(column, inches if clipped.mean() > MOSTLY else celsius)
    return rows.assign(**{column: rows[column].where(~in_span(rows, start, end), wrong)})


def sensor_stuck(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """A sensor repeats its first reading, in each value of the first slice."""
    column, place, hit = readings()[0], problem.SLICES[0], in_span(rows, start, end)
    first = rows[hit].sort_values(problem.EVENT_TIME, kind="stable").groupby(place)[column].first()
    return rows.assign(**{column: rows[column].where(~hit, rows[place].map(first))})


def feed_missing(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """All readings of the largest value of the first slice are missing."""
    place = problem.SLICES[0]
    hit = in_span(rows, start, end) & (rows[place] == _largest(rows, start, place))
    return rows.assign(**{column: rows[column].mask(hit) for column in readings()})


def _never_seen(values: pd.Series, like: str, column: str) -> str:
    """A value of the same form that no row has."""
    rule, seen = next(each for each in schema.columns() if each.name == column), set(values)
    return next(value for value in _variants(like) if value not in seen and re.search(rule.pattern or "", value))


def _variants(like: str) -> Iterator[str]:
    for place in reversed(range(len(like))):
        for letter in LETTERS:
            yield like[:place] + letter + like[place + 1 :]


def new_value(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Some entities of the largest value of an open slice have a value that nobody has seen."""
    column = open_slices()[-1]
    largest = _largest(rows, start, column)
    hit = in_span(rows, start, end) & (rows[column] == largest) & _drawn(rows[problem.ENTITY], NEW_SHARE)
    return rows.assign(**{column: rows[column].mask(hit, _never_seen(rows[column], largest, column))})


def hour_behind(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """The readings are those of an hour ago, because a clock is an hour behind."""
    place, columns, hit, result = problem.SLICES[0], readings(), in_span(rows, start, end), rows.copy()
    past = rows[[problem.EVENT_TIME, place, *columns]].sort_values(problem.EVENT_TIME, kind="stable")
    late = pd.DataFrame({problem.EVENT_TIME: rows[problem.EVENT_TIME] - HOUR, place: rows[place]})[hit]
    late = late.sort_values(problem.EVENT_TIME, kind="stable")
    result.loc[late.index, columns] = pd.merge_asof(late, past, on=problem.EVENT_TIME, by=place)[columns].to_numpy()
    return result


def labels_flipped(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """The labels of the largest value of the last slice are the wrong way round."""
    place, label = problem.SLICES[-1], rows[problem.TARGET]
    hit = in_span(rows, start, end) & (rows[place] == _largest(rows, start, place))
    return rows.assign(**{problem.TARGET: label.where(~hit, 1 - label)})


def labels_late(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """No label becomes known in the span; all of them come at its end."""
    time = rows[problem.LABEL_TIME]
    return rows.assign(**{problem.LABEL_TIME: time.mask((time >= start) & (time < end), end)})


def concept_change(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """The same inputs have other outcomes: some 0 are 1, as places of classes, too (of a regression: a standard deviation more)."""
    label, hit = rows[problem.TARGET], in_span(rows, start, end) & _drawn(rows[problem.ID], CHANGED_SHARE)
    changed = label.where(label != 0, 1) if task().has_classes else label + _before(rows, start)[label.name].std()
    return rows.assign(**{problem.TARGET: label.where(~hit, changed)})


def sensor_drifts(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """A sensor shows more and more too much, a little every day."""
    column, hit = readings()[0], in_span(rows, start, end)
    grown = (rows[problem.EVENT_TIME] - start) / (end - start) * DRIFT_DEVIATIONS * _before(rows, start)[column].std()
    return rows.assign(**{column: rows[column].where(~hit, _within_bounds(column, rows[column] + grown))})


def inputs_of_others(rows: pd.DataFrame) -> pd.DataFrame:
    """What a bad release makes of training rows: each row has the inputs of the row a day's traffic before it."""
    days = max(1, rows[problem.EVENT_TIME].dt.date.nunique())
    shift, names = max(1, len(rows) // days), schema.names()
    moved = {name: np.roll(rows[name].to_numpy(), shift) for name in names}
    return rows.assign(**{name: pd.Series(values, rows.index, rows[name].dtype) for name, values in moved.items()})


def touched(rows: pd.DataFrame, spoilt: pd.DataFrame) -> np.ndarray:
    """Which rows have another input, another label or another label time; shape (n,)."""
    names = [*schema.names(), problem.TARGET, problem.LABEL_TIME]
    same = [(rows[name] == spoilt[name]) | (rows[name].isna() & spoilt[name].isna()) for name in names]
    return ~np.logical_and.reduce([column.to_numpy() for column in same])
