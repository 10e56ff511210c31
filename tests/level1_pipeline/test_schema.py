"""`schema.violations` says of many rows at once what pydantic says of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from level1_pipeline import problem, schema
from level1_pipeline.schema import checks
from level1_pipeline.schema import values as schema_values


def values_of(column: schema.Column) -> st.SearchStrategy[Any]:
    """Good values, values at the bounds and just beyond, missing ones, and infinities."""
    if column.text:
        typical = st.from_regex(column.pattern) if column.pattern else st.nothing()
        near = [*(column.allowed or ()), "AA", "AAA", "A", "aa", "AA\n", "", " AA"]
        return st.none() | typical | st.sampled_from(near) | st.text(max_size=3)
    ends = [end for end in (column.low, column.high) if end is not None]
    near = [float(np.nextafter(end, side)) for end in ends for side in (-np.inf, end, np.inf)]
    return (
        st.none()
        | st.floats(column.low, column.high)
        | st.sampled_from([*near, 0.0, -1.0, float("inf"), -float("inf")])
        | st.floats(allow_nan=False)
    )


RECORDS = st.lists(
    st.fixed_dictionaries({column.name: values_of(column) for column in schema.columns()}), min_size=1, max_size=6
)
STRANGE = st.sampled_from(["12", "", True, 1, [1.0], b"x"])  # a value of another type, in a table of objects


def said_by_pydantic(record: dict[str, Any]) -> str:
    try:
        problem.Record.model_validate(record)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
    return ""


def said_of_all(rows: pd.DataFrame | schema.Columns, height: int) -> list[str]:
    reasons = schema.reasons(schema.violations(rows))
    return [reasons.get(place, "") for place in range(height)]


@examples(max_examples=50, deadline=None)
@given(records=RECORDS)
def test_many_rows_are_judged_as_pydantic_judges_each(records: list[dict[str, Any]]) -> None:
    expected = [said_by_pydantic(record) for record in records]
    table = schema.frame(records)
    assert said_of_all(table, len(records)) == expected
    assert said_of_all(schema.from_frame(table), len(records)) == expected


@examples(max_examples=50, deadline=None)
@given(records=RECORDS, spoiled=st.dictionaries(st.sampled_from(schema.names()), STRANGE, min_size=1, max_size=3))
def test_values_of_another_type_spoil_their_own_row_only(
    records: list[dict[str, Any]], spoiled: dict[str, Any]
) -> None:
    records = [records[0] | spoiled, *records]
    table = pd.DataFrame({name: pd.Series([row[name] for row in records], dtype=object) for name in schema.names()})
    assert said_of_all(table, len(records)) == [said_by_pydantic(record) for record in records]


def test_each_violation_names_its_column_its_rule_and_its_rows(rows: pd.DataFrame) -> None:
    column = next(column for column in schema.columns() if column.high is not None and not column.nullable)
    some = rows.head(100).reset_index(drop=True)
    assert schema.violations(some) == []
    some.loc[[3, 5], column.name] = column.high + 1  # type: ignore[operator]
    some.loc[[7], column.name] = np.nan
    places = {violation.rule: violation.rows.tolist() for violation in schema.violations(some)}
    assert sorted(places.values()) == [[3, 5], [7]]
    assert schema.violations(some.drop(columns=column.name))[0].rows.tolist() == list(range(100))


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Puts another Record into the problem, with rules that few have."""

    def change(validators: Any = None, **fields: Any) -> None:
        config = problem.Record.model_config
        made = create_model("Record", __config__=config, __validators__=validators, **fields)
        monkeypatch.setattr(problem, "Record", made)
        forget()

    def forget() -> None:
        for cached in (schema.columns, checks._alone, checks._column, schema_values._dates):
            cached.cache_clear()

    yield change
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize(
    ("field", "values", "refused"),
    [
        ((int, Field(ge=1)), [1.0, 2.5, 0.0, np.nan], [1, 2, 3]),
        ((float | None, Field(multiple_of=0.5)), [1.0, 1.25, np.nan], [1]),
        ((float, Field(gt=1, lt=2)), [1.0, 1.5, 2.0], [0, 2]),
        ((str, Field(min_length=2)), ["ab", "a", None], [1, 2]),
        ((str, Field(pattern="^a")), ["ab", "ba", "a\n"], [1]),
        ((Literal["a", "b"] | None, ...), ["a", "c", None], [1]),
    ],
    ids=["whole numbers", "multiples", "open bounds", "length", "pattern", "choices"],
)
def test_rules_of_any_kind_are_the_records(record: Any, field: Any, values: list[Any], refused: list[int]) -> None:
    record(field=field)
    table = pd.DataFrame({"field": values}).astype(schema.dtypes())
    for rows in (table, schema.from_frame(table)):
        assert sorted(schema.reasons(schema.violations(rows))) == refused


def test_open_bounds_are_known_to_be_open(record: Any) -> None:
    record(field=(float, Field(gt=1, le=2)))
    (column,) = schema.columns()
    assert (column.low_excluded, column.high_excluded) == (True, False)


def test_a_validator_of_the_cloners_own_counts_for_each_row(record: Any) -> None:
    def even(value: float) -> float:
        if value % 2:
            raise ValueError("must be even")
        return value

    def rising(made: Any) -> Any:
        if made.first > made.second:
            raise ValueError("must rise")
        return made

    checks = {"even": field_validator("first")(even), "rising": model_validator(mode="after")(rising)}
    record(checks, first=(float, ...), second=(float, ...))
    table = pd.DataFrame({"first": [2.0, 3.0, 4.0, np.inf], "second": [3.0, 4.0, 3.0, 1.0]})
    for rows in (table, schema.from_frame(table)):
        reasons = schema.reasons(schema.violations(rows))
        assert list(reasons) == [1, 2, 3]
        assert "first: Value error, must be even" in reasons[1]
        assert "record: Value error, must rise" in reasons[2]
