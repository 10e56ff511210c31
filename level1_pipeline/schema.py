"""The columns of the problem's Record as plain data, for everything that is derived from it.

Rows travel as a pandas table where scikit-learn, checks and statistics want one, and as `Columns`, plain arrays, where
a whole file is scored: there pandas would cost more than the trees' own look at the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from level1_pipeline import problem, schema

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
from functools import cache

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as the table that the pipeline was fitted on: the same columns, order and types."""
    import pandas as pd

    return pd.DataFrame(records, columns=schema.names()).astype(schema.dtypes())


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON-ready records: only the Record's fields, None for what is missing."""
    inputs = rows[schema.names()].astype(object)
    return inputs.where(inputs.notna(), None).to_dict("records")


@dataclass(frozen=True)
class Column:
    """One input of the model: its type, whether it may be missing, and its bounds."""

    name: str
    text: bool
    nullable: bool
    low: float | None = None
    high: float | None = None
    pattern: str | None = None
    allowed: tuple[Any, ...] | None = None


@cache
def columns() -> tuple[Column, ...]:
    """The columns in the order of the Record, which is the order in which the model takes them."""
    return tuple(_column(name, rule) for name, rule in problem.Record.model_json_schema()["properties"].items())


def names() -> list[str]:
    """The names of the model's inputs."""
    return [column.name for column in columns()]


def dtypes() -> dict[str, str]:
    """The pandas type of each input, on purpose the same for every table that a model sees."""
    return {column.name: "str" if column.text else "float64" for column in columns()}


@dataclass(frozen=True)
class Texts:
    """A column of texts with each different one once, so that what is dear is done once for each."""

    places: np.ndarray  # of each row's text among the different ones; -1, the last, is a missing one
    different: list[str | None]  # ends with None

    def __len__(self) -> int:
        return len(self.places)

    def take(self, rows: np.ndarray) -> Texts:
        """Some of the rows."""
        return Texts(self.places[rows], self.different)

    def tolist(self) -> list[str | None]:
        """The text of each row."""
        return [self.different[place] for place in self.places.tolist()]


Columns = dict[str, "np.ndarray | Texts"]  # the inputs by name: float64 (NaN is missing), or texts


def from_frame(rows: pd.DataFrame) -> Columns:
    """The inputs of a table, which may have more columns."""
    return {
        column.name: _texts(rows[column.name]) if column.text else rows[column.name].to_numpy("float64")
        for column in columns()
    }


def to_frame(inputs: Columns) -> pd.DataFrame:
    """The table that scikit-learn takes: the columns in their order and types."""
    import pandas as pd

    types = dtypes()
    return pd.DataFrame({name: pd.Series(inputs[name].tolist(), dtype=types[name]) for name in names()})


def take(inputs: Columns, rows: np.ndarray) -> Columns:
    """Some of the rows, by their places."""
    return {name: values.take(rows) for name, values in inputs.items()}


def _texts(values: pd.Series) -> Texts:
    import pandas as pd

    places, different = pd.factorize(values)
    return Texts(places, [*different, None])


def _column(name: str, rule: dict[str, Any]) -> Column:
    choices = rule.get("anyOf", [rule])
    value = next(choice for choice in choices if choice.get("type") != "null")
    allowed = tuple(value["enum"]) if "enum" in value else (value["const"],) if "const" in value else None
    return Column(
        name=name,
        text=value.get("type") == "string",
        nullable=len(choices) > 1,
        low=value.get("minimum", value.get("exclusiveMinimum")),
        high=value.get("maximum", value.get("exclusiveMaximum")),
        pattern=value.get("pattern"),
        allowed=allowed,
    )
