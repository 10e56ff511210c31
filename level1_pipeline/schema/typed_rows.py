"""What `load` gives, in the types that everything behind it takes: the same value in another type is no other value."""

from __future__ import annotations

from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING

from level1_pipeline import problem
from level1_pipeline.schema.record import Column, Kind, columns
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.values import as_number

if TYPE_CHECKING:
    import pandas as pd


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `load` in the types of the model: inputs as numbers or texts, the label as a number (a class as its place in
    CLASSES), ids as texts.

    A column that holds anything else stays as it is, so that the data checks can name it.
    """
    changed: dict[str, pd.Series] = {}
    for column in columns():
        if column.name in rows:
            changed[column.name] = _input(column, rows[column.name])
    if problem.TARGET in rows:
        changed[problem.TARGET] = _labels(rows[problem.TARGET])
    for name in (problem.ID, problem.ENTITY):
        if name in rows and rows[name].dtype.kind in "iu":
            changed[name] = rows[name].astype("str")
    changed = {name: values for name, values in changed.items() if values is not rows[name]}
    return rows.assign(**changed) if changed else rows


def _input(column: Column, values: pd.Series) -> pd.Series:
    if column.kind is Kind.DATE:
        return _days(values)
    if column.text:
        return values.astype("str") if values.dtype == "category" else values
    return _numbers(values, truth=column.kind is Kind.TRUTH)


def _labels(values: pd.Series) -> pd.Series:
    """Numbers; a class becomes its place in CLASSES, because everything behind adds labels up."""
    if not (named := classes()):
        return _numbers(values)
    places = values.astype(object).map({name: float(place) for place, name in enumerate(named)})
    unknown = places.isna() & values.notna()
    return values.astype(object) if unknown.any() else places.astype("float64")  # a number would pass for a place


def _numbers(values: pd.Series, truth: bool = True) -> pd.Series:
    """Numbers, and truth values if they are wanted, as float64; a missing one is NaN."""
    kind = values.dtype.kind
    if str(values.dtype) != "float64" and (kind in "iuf" or (kind == "b" and truth)):
        return values.astype("float64")
    if values.dtype == object and all(_is_number(value, truth) for value in values.dropna()):
        return values.where(values.notna(), None).astype("float64")
    return values


def _is_number(value: object, truth: bool) -> bool:
    """Whether a Python object is one, as a database driver gives them."""
    return isinstance(value, Real | Decimal) and (truth or not isinstance(value, bool))


def _days(values: pd.Series) -> pd.Series:
    """Dates as the model takes them."""
    try:
        if values.dtype.kind == "M" and (values.isna() | (values == values.dt.normalize())).all():
            return (values.dt.tz_localize(None) - _epoch()).dt.days.astype("float64")
        if values.dtype == object or values.dtype == "str":
            return values.astype(object).where(values.notna(), None).map(as_number).astype("float64")
    except (TypeError, ValueError):
        pass  # something else than dates
    return values


def _epoch() -> pd.Timestamp:
    import pandas as pd

    return pd.Timestamp(0)
