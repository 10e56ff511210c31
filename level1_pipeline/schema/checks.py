"""Is this row within the Record?  The answer of pydantic, for many rows at once."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import annotated_types
import numpy as np
from pydantic import BaseModel, ValidationError, create_model

from level1_pipeline import problem
from level1_pipeline.schema.record import Column, columns, names
from level1_pipeline.schema.tables import Columns, Texts, texts
from level1_pipeline.schema.values import as_given

if TYPE_CHECKING:
    import pandas as pd

BOUNDS = {
    annotated_types.Ge: (operator.ge, "ge"),
    annotated_types.Gt: (operator.gt, "gt"),
    annotated_types.Le: (operator.le, "le"),
    annotated_types.Lt: (operator.lt, "lt"),
}


@dataclass(frozen=True)
class Violation:
    """One rule of the Record, in pydantic's words, and the rows that break it."""

    column: str  # "record" for a rule about several fields
    rule: str
    rows: np.ndarray  # their places, ascending

    def __str__(self) -> str:
        return f"{self.column}: {self.rule}"


def violations(rows: pd.DataFrame | Columns) -> list[Violation]:
    """What the Record says against rows, in the order of its fields; empty if all of them are within it.

    The Record is the only rule: what comes out is what pydantic says about each row. Ordinary bounds of numbers are
    compared all at once, any other field asks pydantic about each different value, and a Record with validators of its
    own is asked row by row. NaN means missing.

    Args:
        rows: a table, which may have more columns, or the inputs as arrays. An array of objects is taken as it is, so
            that a text in a column of numbers is refused in its own row only.
    """
    if _has_validators():
        return _grouped(_row_objections(rows))
    height = len(rows[next(iter(rows))]) if len(rows) else 0
    return [
        violation
        for name in names()
        for violation in (
            column_violations(name, rows[name])
            if name in rows
            else [Violation(name, "Field required", np.arange(height))]
        )
    ]


def column_violations(name: str, values: pd.Series | np.ndarray | Texts) -> list[Violation]:
    """What the Record says against values of one field, whatever stands in the others."""
    values = _plain(values)
    doubtful = _doubtful(name, values)
    different, places = _distinct(values.take(doubtful))
    rules = np.array([_objection(name, value) for value in different], object)
    rows = {rule: doubtful[(rules == rule)[places]] for rule in dict.fromkeys(rules) if rule}
    return [Violation(name, rule, rows[rule]) for rule in rows if len(rows[rule])]


def _doubtful(name: str, values: np.ndarray | Texts) -> np.ndarray:
    """The places of the rows that pydantic must be asked about: all, but numbers that lie within ordinary bounds."""
    field = problem.Record.model_fields[name]
    ordinary = field.annotation in (float, float | None) and {type(rule) for rule in field.metadata} <= set(BOUNDS)
    if not ordinary or isinstance(values, Texts) or values.dtype.kind != "f":
        return np.arange(len(values))
    good = np.isfinite(values)
    for bound in field.metadata:
        compare, attribute = BOUNDS[type(bound)]
        good &= compare(values, getattr(bound, attribute))
    return np.flatnonzero(~(good | np.isnan(values)) if field.annotation is not float else ~good)


def reasons(broken: Iterable[Violation]) -> dict[int, str]:
    """By the place of each row that breaks a rule: everything that was said against it."""
    lines: dict[int, list[str]] = {}
    for violation in broken:
        for place in violation.rows.tolist():
            lines.setdefault(place, []).append(str(violation))
    return {place: "; ".join(lines[place]) for place in sorted(lines)}


def _row_objections(rows: pd.DataFrame | Columns) -> Iterator[tuple[str, str, int]]:
    given = {
        name: [_as_given(name, value) for value in _plain(rows[name]).tolist()] for name in names() if name in rows
    }
    for place, values in enumerate(zip(*given.values(), strict=True)):
        record = dict(zip(given, values, strict=True))
        try:
            problem.Record.model_validate(record)
        except ValidationError as error:
            for detail in error.errors():
                column = detail["loc"][0] if detail["loc"] else "record"
                yield column if column in given else "record", detail["msg"], place


def _grouped(objections: Iterable[tuple[str, str, int]]) -> list[Violation]:
    rows: dict[tuple[str, str], list[int]] = {}
    for column, rule, place in objections:
        rows.setdefault((column, rule), []).append(place)
    order = [*names(), "record"]
    ranked = sorted(rows, key=lambda pair: order.index(pair[0]))
    return [Violation(column, rule, np.unique(rows[column, rule])) for column, rule in ranked]


def _objection(name: str, value: Any) -> str:
    """What pydantic says against a value of one field; empty if nothing."""
    try:
        _alone(name).model_validate({name: _as_given(name, value)})
    except ValidationError as error:
        return "; ".join(detail["msg"] for detail in error.errors())
    return ""


@cache
def _alone(name: str) -> type[BaseModel]:
    """A model of one field of the Record."""
    field = problem.Record.model_fields[name]
    fields: Any = {name: (field.annotation, field)}
    return create_model("OneField", __config__=problem.Record.model_config, **fields)


def _as_given(name: str, value: Any) -> Any:
    """A value as the API would get it: None for what is missing, a whole number where the Record wants one."""
    return as_given(_column(name), value)


@cache
def _column(name: str) -> Column:
    return next(column for column in columns() if column.name == name)


def _has_validators() -> bool:
    decorators = problem.Record.__pydantic_decorators__
    kinds = ("validators", "field_validators", "root_validators", "model_validators")
    return any(getattr(decorators, kind) for kind in kinds)


def _plain(values: pd.Series | np.ndarray | Texts) -> np.ndarray | Texts:
    """Numbers as float64, texts as Texts, anything else as an array of objects."""
    if isinstance(values, np.ndarray | Texts):
        return values
    if values.dtype.kind in "fiu":
        return values.to_numpy("float64", na_value=np.nan)
    if values.dtype == "str":
        return texts(values)
    return values.astype(object).where(values.notna(), None).to_numpy()


def _distinct(values: np.ndarray | Texts) -> tuple[list[Any], np.ndarray]:
    """Each different value once, and for each row the place of its value among them."""
    if isinstance(values, Texts):
        return values.different, values.places
    if values.dtype.kind == "f":
        different, places = np.unique(values, return_inverse=True)
        return different.tolist(), places
    by_text: dict[tuple[type, str], Any] = {}  # not by value: True equals 1
    keys = [(type(value), repr(value)) for value in values.tolist()]
    for key, value in zip(keys, values.tolist(), strict=True):
        by_text.setdefault(key, value)
    numbers = {key: number for number, key in enumerate(by_text)}
    return list(by_text.values()), np.array([numbers[key] for key in keys], np.intp)
