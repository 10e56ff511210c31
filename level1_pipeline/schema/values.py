"""One value of an input in its three forms: as pydantic has it, as JSON has it, and as the number that a model takes.

They differ for truth values, whole numbers and dates. A model takes a truth value as 0 or 1, and a date as the number
of days since 1970-01-01. JSON has the date as text, such as "2024-02-29".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any

from level1_pipeline.schema.record import Column, Kind, columns

EPOCH = date(1970, 1, 1)


def as_number(value: Any) -> Any:
    """A date, or its text, as the model takes it; None stays None.

    Raises:
        ValueError: the text is no date, or it is a time of a day, which would be lost.
    """
    if isinstance(value, datetime):
        if value.time() != time():
            raise ValueError(f"{value} is no date")
        value = value.date()
    given = date.fromisoformat(value) if isinstance(value, str) else value
    return float((given - EPOCH).days) if isinstance(given, date) else given


def as_given(column: Column, value: Any) -> Any:
    """A value of a table as pydantic takes it: None for what is missing, and whole numbers, truth values and dates as such.
    One that is none of the kind stays, so that pydantic can refuse it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, float) or not value.is_integer():
        return value
    if column.kind is Kind.WHOLE:
        return int(value)
    if column.kind is Kind.TRUTH and value in (0.0, 1.0):
        return bool(value)
    if column.kind is Kind.DATE:
        return _date(value)
    return value


def _date(days: float) -> date | float:
    try:
        return EPOCH + timedelta(days=days)
    except OverflowError:
        return days


def as_json(value: Any) -> Any:
    """A value as JSON has it: the text of a date."""
    return value.isoformat() if isinstance(value, date) else value


@cache
def _dates() -> tuple[str, ...]:
    return tuple(column.name for column in columns() if column.kind is Kind.DATE)


def with_dates(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record of JSON with dates in the place of their texts. A text that is no date stays, so that pydantic can refuse it."""
    return {**record, **{name: _parsed(record[name]) for name in _dates() if name in record}}


def _parsed(value: Any) -> Any:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return value


def json_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record of pydantic's values as JSON has it. Without dates it is the same object, because requests come here."""
    dates = _dates()
    return {**record, **{name: as_json(record[name]) for name in dates}} if dates else record


def model_records(records: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Records with numbers in the place of dates. Without dates it is the same object."""
    dates = _dates()
    if not dates:
        return records
    return [{**record, **{name: as_number(record.get(name)) for name in dates}} for record in records]
