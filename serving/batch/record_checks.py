"""Which rows of a table the problem's Record would refuse, found column by column, and its own words why.

The Record stays the only rule: ordinary bounds of numbers are compared all at once, any other field asks pydantic
about each different value, and a Record with validators of its own is asked row by row.
"""

from __future__ import annotations

import operator
from functools import cache, lru_cache
from typing import Any

import annotated_types
import numpy as np
from pydantic import BaseModel, ValidationError, create_model

from level1_pipeline import problem, schema

BOUNDS = {
    annotated_types.Ge: (operator.ge, "ge"),
    annotated_types.Gt: (operator.gt, "gt"),
    annotated_types.Le: (operator.le, "le"),
    annotated_types.Lt: (operator.lt, "lt"),
}


def refused(inputs: schema.Columns) -> np.ndarray:
    """Whether the Record refuses each row; shape (n,). NaN counts as missing."""
    if _has_validators():
        return np.array([bool(reasons(one)) for one in records(inputs)], bool)
    return np.logical_or.reduce([_refused_values(column, inputs[column.name]) for column in schema.columns()])


def reasons(record: dict[str, Any]) -> str:
    """What the Record says against a record; empty if nothing."""
    try:
        problem.Record.model_validate(record)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'record'}: {one['msg']}" for one in error.errors())
    return ""


def records(inputs: schema.Columns) -> list[dict[str, Any]]:
    """Rows as the API would get them: None for what is missing, whole numbers where the Record wants them."""
    columns = {name: [_asked(name, value) for value in inputs[name].tolist()] for name in schema.names()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _has_validators() -> bool:
    found = problem.Record.__pydantic_decorators__
    return any(
        getattr(found, kind) for kind in ("validators", "field_validators", "root_validators", "model_validators")
    )


def _refused_values(column: schema.Column, values: np.ndarray | schema.Texts) -> np.ndarray:
    if isinstance(values, schema.Texts):
        return np.array([_refused_value(column.name, one) for one in values.different])[values.places]
    field = problem.Record.model_fields[column.name]
    if field.annotation in (float, float | None) and {type(rule) for rule in field.metadata} <= set(BOUNDS):
        good = np.isfinite(values)
        for rule in field.metadata:
            compare, name = BOUNDS[type(rule)]
            good &= compare(values, getattr(rule, name))
        return ~(good | np.isnan(values)) if column.nullable else ~good
    different, places = np.unique(values, return_inverse=True)
    return np.array([_refused_value(column.name, one) for one in different.tolist()], bool)[places]


@lru_cache(100_000)
def _refused_value(name: str, value: Any) -> bool:
    try:
        _alone(name).model_validate({name: _asked(name, value)})
    except ValidationError:
        return True
    return False


@cache
def _alone(name: str) -> type[BaseModel]:
    """A model of one field of the Record."""
    field = problem.Record.model_fields[name]
    fields: Any = {name: (field.annotation, field)}
    return create_model("One", __config__=problem.Record.model_config, **fields)


def _asked(name: str, value: Any) -> Any:
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return value
    return int(value) if _whole(name) and float(value).is_integer() else float(value)


@cache
def _whole(name: str) -> bool:
    rule = problem.Record.model_json_schema()["properties"][name]
    kinds = {one.get("type") for one in rule.get("anyOf", [rule])}
    return "integer" in kinds and "number" not in kinds
