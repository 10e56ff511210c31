"""Rows as a table, as records, and as plain arrays.

A pandas table is for scikit-learn, checks and statistics. `Columns` are for scoring a whole file: there pandas would
cost more than the trees' own look at the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from level1_pipeline.schema.record import Column, Kind, columns, dtypes, names
from level1_pipeline.schema.values import as_given, as_json, model_records

if TYPE_CHECKING:
    import pandas as pd


def frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Records as the table that the pipeline was fitted on: the same columns, order and types."""
    import pandas as pd

    return pd.DataFrame(model_records(records), columns=names()).astype(dtypes())


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON-ready records: only the Record's fields, None for what is missing."""
    # Column by column, because the table operations of pandas take milliseconds, also for two rows.
    values = [_json_ready(column, rows[column.name]) for column in columns()]
    return [dict(zip(names(), row, strict=True)) for row in zip(*values, strict=True)]


def _json_ready(column: Column, given: pd.Series) -> list[Any]:
    values = [None if missing else value for value, missing in zip(given.tolist(), given.isna().tolist(), strict=True)]
    if column.kind in (Kind.TEXT, Kind.NUMBER):
        return values
    return [as_json(as_given(column, value)) for value in values]


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


Columns = dict[str, np.ndarray | Texts]  # the inputs by name: float64 (NaN is missing), or texts


def from_frame(rows: pd.DataFrame) -> Columns:
    """The inputs of a table, which may have more columns."""
    return {
        column.name: texts(rows[column.name]) if column.text else rows[column.name].to_numpy("float64")
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


def texts(values: pd.Series) -> Texts:
    """A column of a table; a missing text has the last place."""
    import pandas as pd

    places, different = pd.factorize(values)
    return Texts(places, [*different, None])
