"""Sums by local day, and by day and slice, that grow chunk by chunk and give exact summaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.drift import COMMON_SHARE

SCORE = "score"  # watched beside the inputs: the predictions
ALL = ""  # the slice that holds every row


class Aggregates:
    """Partial sums of the numeric inputs and the score, and counts of the values of the text inputs."""

    def __init__(self) -> None:
        self.numbers: pd.DataFrame | None = None  # index: slice, day, column
        self.texts: pd.Series | None = None  # index: slice, day, column, value
        self.rows: pd.Series | None = None  # index: slice, day

    def add(self, chunk: pd.DataFrame) -> None:
        """Take rows in: the Record's columns, `score`, `day`."""
        if chunk.empty:
            return
        for name in [ALL, *(slice_ for slice_ in problem.SLICES if slice_ in chunk)]:
            part = f"{name}=" + chunk[name].astype(str) if name else pd.Series(ALL, chunk.index)
            keys = [part.rename("slice"), chunk["day"].rename("day")]
            self.rows = _plus(self.rows, chunk.groupby(keys).size().astype("float64"))
            self.numbers = _widen(self.numbers, _numbers(chunk, keys))
            if not name:
                self.texts = _plus(self.texts, _texts(chunk, keys))

    def day_summaries(self, like: pd.DataFrame | None = None) -> pd.DataFrame:
        """What `evaluation.drift.day_summaries` gives for the same rows, and `score|mean`, `score|std`."""
        if self.rows is None or self.numbers is None:
            return pd.DataFrame(columns=["rows|rows"], dtype="float64").rename_axis("day")
        rows = self.rows.xs(ALL, level="slice")
        table = {"rows|rows": rows}
        sums = self.numbers.xs(ALL, level="slice")
        for name in [*numeric(), SCORE]:
            by_day = summarise(sums.xs(name, level="column"))
            table[f"{name}|mean"], table[f"{name}|std"] = by_day["mean"], by_day["std"]
            if name != SCORE:
                table[f"{name}|missing"] = 1 - by_day["count"] / rows
        if self.texts is not None:
            table |= self._shares(rows, like)
        return pd.DataFrame(table).rename_axis("day").sort_index()

    def _shares(self, rows: pd.Series, like: pd.DataFrame | None) -> dict[str, pd.Series]:
        assert self.texts is not None
        shares: dict[str, pd.Series] = {}
        for name in (column.name for column in schema.columns() if column.text):
            counts = self.texts.xs(ALL, level="slice").xs(name, level="column").unstack(fill_value=0.0)
            total = counts.sum()
            common = list(total.index[total >= COMMON_SHARE * total.sum()])
            if like is not None:
                common = [column.removesuffix(f"|{name}") for column in like if column.endswith(f"|{name}")]
            counts = counts.reindex(columns=common, fill_value=0.0).div(rows, axis=0)
            shares |= {f"{value}|{name}": counts[value] for value in common}
        return shares

    def by_slice(self) -> pd.DataFrame:
        """One line for each slice value (or ALL), day and column: rows, count, mean, std, low, high, missing."""
        if self.numbers is None or self.rows is None:
            return pd.DataFrame(columns=["rows", "count", "mean", "std", "low", "high", "missing"])
        table = summarise(self.numbers).join(self.rows.rename("rows"))
        return table.assign(missing=1 - table["count"] / table["rows"])


def tally(rows: pd.DataFrame) -> pd.DataFrame:
    """How many rows there are, and how many of them are matured, open or have a label in quarantine, by slice (ALL, `column=value`) and day."""
    states = {"matured": rows[problem.TARGET].notna(), "open": rows["open"], "hidden": rows["label_hidden"]}
    flags = pd.DataFrame({"predictions": 1, **states}).astype(int)
    parts = []
    for name in [ALL, *(slice_ for slice_ in problem.SLICES if slice_ in rows)]:
        part = f"{name}=" + rows[name].astype(str) if name else pd.Series(ALL, rows.index)
        parts.append(flags.groupby([part.rename("slice"), rows["day"].rename("day")]).sum())
    return pd.concat(parts)


def plus(old: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    """The sum of two tables of counts, whatever lines they have."""
    return new if old is None else old.add(new, fill_value=0).astype(int)


def numeric() -> list[str]:
    """The inputs that are numbers."""
    return [column.name for column in schema.columns() if not column.text]


def summarise(sums: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (of a sample) from count, sum and sum of squares."""
    n = sums["count"].where(sums["count"] > 0)
    mean = sums["sum"] / n
    variance = (sums["squares"] - n * mean**2) / (n - 1).where(n > 1)
    return sums.assign(mean=mean, std=np.sqrt(variance.clip(lower=0)))


def _numbers(chunk: pd.DataFrame, keys: list[Any]) -> pd.DataFrame:
    values = chunk[[*numeric(), SCORE]]
    grouped, squares = values.groupby(keys), (values**2).groupby(keys)
    parts = {
        "count": grouped.count().astype("float64"),
        "sum": grouped.sum(),
        "squares": squares.sum(),
        "low": grouped.min(),
        "high": grouped.max(),
    }
    long = {kind: part.rename_axis(columns="column").stack() for kind, part in parts.items()}  # noqa: PD013
    return pd.DataFrame(long)


def _texts(chunk: pd.DataFrame, keys: list[Any]) -> pd.Series:
    names = [column.name for column in schema.columns() if column.text]
    parts = {name: chunk.groupby([*keys, chunk[name].rename("value")]).size() for name in names}
    counts = pd.concat(parts, names=["column"]) if parts else pd.Series(dtype="float64")
    return counts.astype("float64").reorder_levels(["slice", "day", "column", "value"]) if parts else counts


def _plus(old: pd.Series | None, new: pd.Series) -> pd.Series:
    return new if old is None else old.add(new, fill_value=0)


def _widen(old: pd.DataFrame | None, new: pd.DataFrame) -> pd.DataFrame:
    if old is None:
        return new
    both = pd.concat([old, new]).groupby(level=["slice", "day", "column"])
    total, low, high = both[["count", "sum", "squares"]].sum(), both["low"].min(), both["high"].max()
    return total.assign(low=low, high=high)
