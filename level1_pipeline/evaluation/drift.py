"""Did the inputs move?  One decision about all of them, on the level of days: the drift test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.day_mean import DRIFT_CORRELATION, inflation

PERMUTATIONS = 999
DRIFT_ALPHA = 0.003  # of a false alarm when nothing moved
DRIFT_MIN_DAYS, DRIFT_MIN_ROWS = 3, 200
COMMON_SHARE, RARE = 0.05, "(rare)"  # the share from which a category is watched
DRIFT_MIN_EFFECT = 0.5  # standard deviations between days; smaller shifts are not worth a word


@dataclass(frozen=True)
class DriftTest:
    """Whether current days differ from reference days: `moved`, `steady` or `inconclusive`."""

    verdict: str
    p_value: float | None
    columns: dict[str, float]  # effect size (standard deviations between days), largest first
    reason: str


def day_summaries(rows: pd.DataFrame, like: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per local day: rows, and mean, spread and share of missing values of each input.

    Of a text input it holds the shares of its common values, or of those that the summaries `like` hold.

    A day is the unit of comparison, because the flights of one day share their weather.
    """
    days = rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    numbers = [column.name for column in schema.columns() if not column.text]
    by_day = rows[numbers].groupby(days)
    rows_a_day = by_day.size()
    parts = {"rows": rows_a_day.to_frame("rows"), "mean": by_day.mean(), "std": by_day.std()}
    parts["missing"] = 1 - by_day.count().div(rows_a_day, axis=0)
    for name in (column.name for column in schema.columns() if column.text):
        common = list(rows[name].value_counts(normalize=True).loc[lambda share: share >= COMMON_SHARE].index)
        if like is not None:
            common = [column.removesuffix(f"|{name}") for column in like if column.endswith(f"|{name}")]
        counts = (
            rows[name].groupby([days, rows[name].where(rows[name].isin(common), RARE)]).size().unstack(fill_value=0)
        )
        parts[name] = counts.reindex(columns=common, fill_value=0).div(rows_a_day, axis=0)
    flat = [part.set_axis([f"{name}|{kind}" for name in part.columns], axis=1) for kind, part in parts.items()]
    return pd.concat(flat, axis=1).rename_axis("day")


def drift_test(reference: pd.DataFrame, current: pd.DataFrame, seed: int = 0) -> DriftTest:
    """One decision for the whole data set: max-T over day summaries, with permuted days.

    The statistic is the largest studentised difference between the days of `current` and of
    `reference` (Westfall and Young, 1993); its distribution without a shift comes from permuting
    days. Permuted days no longer follow each other, so their differences are stretched by what consecutive days add.
    Both arguments are results of `day_summaries`.
    """
    if min(len(reference), len(current)) < DRIFT_MIN_DAYS or current["rows|rows"].sum() < DRIFT_MIN_ROWS:
        need = f"at least {DRIFT_MIN_DAYS} days on each side and {DRIFT_MIN_ROWS} rows are needed"
        return DriftTest("inconclusive", None, {}, f"{len(current)} days against {len(reference)}: {need}")
    both = pd.concat([reference, current], join="inner").drop(columns="rows|rows")
    both = both.fillna(both.mean()).dropna(axis=1)
    both = both.loc[:, both.std() > 0]
    table, is_current = both.to_numpy(), np.arange(len(both)) >= len(reference)
    shuffle = np.random.default_rng(seed)
    observed = _studentised(table, is_current[None, :])[0]
    permuted = _studentised(table, shuffle.permuted(np.tile(is_current, (PERMUTATIONS, 1)), axis=1)).max(axis=1)
    permuted *= _stretch(reference.index.to_numpy(), current.index.to_numpy())
    p_value = float((1 + (permuted >= observed.max()).sum()) / (1 + PERMUTATIONS))
    effect = np.abs(table[is_current].mean(0) - table[~is_current].mean(0)) / table.std(0)
    ranked = pd.Series(effect, both.columns).sort_values(ascending=False)
    moved = p_value <= DRIFT_ALPHA and effect[observed.argmax()] >= DRIFT_MIN_EFFECT
    message = f"largest difference {both.columns[observed.argmax()]}, p = {p_value:.3f} over {len(both)} days"
    return DriftTest(
        "moved" if moved else "steady", p_value, {str(k): float(v) for k, v in ranked.head(10).items()}, message
    )


def _stretch(reference: np.ndarray, current: np.ndarray) -> float:
    """How many times as large the error of a difference of means is as that of independent days."""
    n, m = len(current), len(reference)
    return float(
        np.sqrt(
            (inflation(current, DRIFT_CORRELATION) / n + inflation(reference, DRIFT_CORRELATION) / m) / (1 / n + 1 / m)
        )
    )


def _studentised(table: np.ndarray, current: np.ndarray) -> np.ndarray:
    """|difference of means| / its standard error; `current` is (k, days), the result (k, columns)."""
    n = current.sum(axis=1, keepdims=True)
    m = current.shape[1] - n
    total, squares = table.sum(0), (table**2).sum(0)
    mean_current = current @ table / n
    mean_rest = (total - current @ table) / m
    variance = (squares - n * mean_current**2 - m * mean_rest**2) / (n + m - 2)
    return np.abs(mean_current - mean_rest) / np.sqrt(variance.clip(1e-18) * (1 / n + 1 / m))
