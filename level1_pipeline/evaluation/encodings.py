"""The inputs as numbers that a small tree can read: alone, together, and in pairs. For the search for leaks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema

MIN_LEAF = 50  # rows
COMMON_SHARE = 0.01  # of the rows: a text with a column of its own
SUSPICIOUS_PAIRS = 6  # of all pairs


def alone(older: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Numbers as they are, and for a text the mean label of older rows with it, drawn to the mean of all."""
    y, table = older[problem.TARGET], {}
    for column in schema.columns():
        values = rows[column.name]
        if column.text:
            by_text = y.groupby(older[column.name], observed=True).agg(["sum", "count"])
            values = values.map((by_text["sum"] + MIN_LEAF * y.mean()) / (by_text["count"] + MIN_LEAF))
        table[column.name] = values.astype("float64")
    return pd.DataFrame(table)


def codes(older: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Numbers, and for a text its place in the alphabet; standardised, with 0 for what is missing."""
    table = {}
    for column in schema.columns():
        values = [part[column.name] for part in (older, rows)]
        if column.text:
            places = {text: place for place, text in enumerate(sorted(values[0].dropna().unique()))}
            values = [part.map(places) for part in values]
        table[column.name] = _standardised(*(part.astype("float64") for part in values))
    return pd.DataFrame(table)


def together(older: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Standardised numbers, whether each is missing, and a column for each text that is common."""
    table: dict[str, Any] = {}
    for column in schema.columns():
        was, now = older[column.name], rows[column.name]
        if column.text:
            shares = was.value_counts(normalize=True)
            common = shares.index[shares >= COMMON_SHARE]
            places = common.get_indexer(now)
            table |= {f"{column.name}|{text}": (places == place) * 1.0 for place, text in enumerate(common)}
        else:
            table[column.name] = _standardised(was, now)
            table[f"{column.name}|missing"] = now.isna().astype("float64")
    return pd.DataFrame({name: np.asarray(part) for name, part in table.items()})


def _standardised(older: pd.Series, rows: pd.Series) -> pd.Series:
    return ((rows - older.mean()) / (older.std() or 1.0)).fillna(0.0)


def given_others(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """For each number the direction, shape (columns, 1), along which it differs from what all other columns say of it.

    (In the inverse of the covariance, each line is the residual of a linear regression on all others.)
    """
    x = table.to_numpy()
    precision = np.linalg.inv(np.cov(x, rowvar=False) + 1e-6 * np.eye(x.shape[1]))
    numbers = [column.name for column in schema.columns() if not column.text]
    return {name: precision[:, [list(table.columns).index(name)]] for name in numbers}


def suspicious_pairs(table: pd.DataFrame, y: np.ndarray) -> list[tuple[str, str]]:
    """The pairs whose sum (with any weights), product or distance goes with the label most beyond each of the two."""
    x, label = table.to_numpy(), (y - y.mean()) / (y.std() or 1.0)
    alone, between = label @ x / len(y), x.T @ x / len(y)
    gains: dict[tuple[str, str], float] = {}
    for place, name in enumerate(table.columns[1:], 1):
        before, now, r = x[:, :place], x[:, [place]], between[:place, place]
        both = alone[:place] ** 2 + alone[place] ** 2 - 2 * alone[:place] * alone[place] * r
        explained = both / np.maximum(1 - r**2, 1e-6)  # by a linear regression on the two
        for combination in (before * now, np.abs(before - now)):
            centred = combination - combination.mean(axis=0)
            explained = np.maximum(explained, (label @ centred / len(y)) ** 2 / np.maximum(centred.var(axis=0), 1e-9))
        gain = explained - np.maximum(alone[:place], alone[place]) ** 2
        gains |= {(other, name): float(value) for other, value in zip(table.columns, gain, strict=False)}
    return sorted(gains, key=gains.__getitem__, reverse=True)[:SUSPICIOUS_PAIRS]


def combined(table: pd.DataFrame, pair: tuple[str, str], weights: np.ndarray) -> np.ndarray:
    """Two inputs, their product, their distance, and their sum with weights."""
    a, b = (table[name].to_numpy() for name in pair)
    return np.column_stack([a, b, a * b, np.abs(a - b), np.column_stack([a, b]) @ weights])
