"""Is this data fit to train on?  Two questions with two different answers.

*Schema skew* (a column, type, bound or key is wrong) stops the run: a Great Expectations suite that
is derived from the Record. *Value skew* (the values moved away from those that the champion was
trained on) is a fact of life and a reason to retrain: it is reported and stops nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

# A column may be missing often, but one that is always missing has lost its source.
ALWAYS_MISSING = 0.01
PERMUTATIONS = 999
ALPHA = 0.003  # of a false alarm when nothing moved
MIN_DAYS, MIN_ROWS = 3, 200
COMMON, RARE = 0.05, "(rare)"  # the share from which a category is watched
MIN_EFFECT = 0.5  # standard deviations between days; smaller shifts are not worth a word


class DataCheckFailed(RuntimeError):
    """The data breaks the schema. The message names column, rule, count, examples and what to do."""


@dataclass(frozen=True)
class Finding:
    """One broken expectation: in `count` rows of `part`, `column` violates `rule`."""

    part: str
    column: str
    rule: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = f", for example {', '.join(self.examples)}" if self.examples else ""
        return f"{self.column}: {self.rule} ({self.count:,} rows of {self.part}{shown})"


@dataclass(frozen=True)
class ValueSkew:
    """Whether current days differ from reference days: `moved`, `steady` or `inconclusive`."""

    verdict: str
    p_value: float | None
    columns: dict[str, float]  # effect size (standard deviations between days), largest first
    reason: str


def key_columns() -> list[str]:
    """The columns of a row that are not inputs of the model."""
    return [problem.ID, problem.ENTITY, problem.EVENT_TIME, problem.LABEL_TIME, problem.TARGET]


def expectations() -> list[Expectation]:
    """The suite: every bound of the Record, the keys, and the outcome."""
    import great_expectations.expectations as gxe

    suite = [
        gxe.ExpectTableColumnsToMatchSet(column_set=[*key_columns(), *schema.names()]),
        gxe.ExpectColumnValuesToBeUnique(column=problem.ID),
        *(gxe.ExpectColumnValuesToNotBeNull(column=key) for key in (problem.ID, problem.ENTITY, problem.EVENT_TIME)),
    ]
    if problem.TASK == "classification":
        suite.append(gxe.ExpectColumnValuesToBeInSet(column=problem.TARGET, value_set=[0, 1]))
    for column in schema.columns():
        suite.append(gxe.ExpectColumnValuesToBeOfType(column=column.name, type_="str" if column.text else "float64"))
        suite.append(
            gxe.ExpectColumnValuesToNotBeNull(column=column.name, mostly=ALWAYS_MISSING if column.nullable else 1)
        )
        if column.low is not None or column.high is not None:
            suite.append(
                gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=column.low, max_value=column.high)
            )
        if column.pattern:
            suite.append(gxe.ExpectColumnValuesToMatchRegex(column=column.name, regex=column.pattern))
        if column.allowed:
            suite.append(gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=list(column.allowed)))
    return suite


def findings(rows: pd.DataFrame, part: str = "all") -> tuple[list[Finding], int]:
    """Broken expectations in `rows`, and how many were checked."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # This module announces every temporary folder, and sets its own level to do so.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": rows})
    suite = gx.ExpectationSuite(name=problem.NAME, expectations=expectations())
    results = batch.validate(suite, result_format={"result_format": "SUMMARY", "partial_unexpected_count": 3}).results
    missing = [name for name in (*key_columns(), *schema.names()) if name not in rows.columns]
    # What was expected of a missing column comes back as an error, not as a result: say it once.
    broken = [
        _finding(r, part, len(rows))
        for r in results
        if not r.success and r.expectation_config.kwargs.get("column") not in missing
    ]
    return broken, len(results)


def _finding(result: Any, part: str, rows: int) -> Finding:
    rule, wanted, seen = result.expectation_config.type, result.expectation_config.kwargs, result.result
    rule = rule.removeprefix("expect_column_").removeprefix("expect_").replace("_", " ")
    if "mismatched" in (seen.get("details") or {}):
        changes = [f"{kind} {', '.join(names)}" for kind, names in seen["details"]["mismatched"].items()]
        return Finding(part, "(columns)", f"columns {'; '.join(changes)}", rows, ())
    limits = {
        key: value for key, value in wanted.items() if key not in ("column", "batch_id", "mostly") and value is not None
    }
    rule += f" {limits}" if limits else ""
    examples = seen.get("partial_unexpected_list") or [seen[key] for key in ("observed_value",) if key in seen]
    return Finding(
        part, wanted.get("column", "?"), rule, seen.get("unexpected_count", rows), tuple(map(str, examples[:3]))
    )


def check(rows: pd.DataFrame, newest: pd.DataFrame) -> tuple[list[Finding], int]:
    """Check all rows, and the newest days once more by themselves: a fault that began a week ago
    disappears in the average of a year."""
    if rows.empty:
        return [Finding("all", problem.ID, "there must be rows", 0, ())], 1
    broken, checked = findings(rows)
    again, checked_again = findings(newest, "the newest days") if len(newest) >= MIN_ROWS else ([], 0)
    known = {(finding.column, finding.rule) for finding in broken}
    return broken + [f for f in again if (f.column, f.rule) not in known], checked + checked_again


def stop(broken: list[Finding]) -> None:
    """Raise when something is broken.

    Raises:
        DataCheckFailed: with every finding, and what to do.
    """
    if broken:
        lines = "\n  ".join(map(str, broken))
        advice = "Nothing was trained. Mend the source, or, if the world really changed, the bounds in level1_pipeline/problem.py."
        raise DataCheckFailed(f"the data breaks {len(broken)} rule(s) of the Record:\n  {lines}\n{advice}")


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
        common = list(rows[name].value_counts(normalize=True).loc[lambda share: share >= COMMON].index)
        if like is not None:
            common = [column.removesuffix(f"|{name}") for column in like if column.endswith(f"|{name}")]
        counts = (
            rows[name].groupby([days, rows[name].where(rows[name].isin(common), RARE)]).size().unstack(fill_value=0)
        )
        parts[name] = counts.reindex(columns=common, fill_value=0).div(rows_a_day, axis=0)
    flat = [part.set_axis([f"{name}|{kind}" for name in part.columns], axis=1) for kind, part in parts.items()]
    return pd.concat(flat, axis=1).rename_axis("day")


def value_skew(reference: pd.DataFrame, current: pd.DataFrame, seed: int = 0) -> ValueSkew:
    """One decision for the whole data set: max-T over day summaries, with permuted days.

    The statistic is the largest studentised difference between the days of `current` and of
    `reference` (Westfall and Young, 1993); its distribution without a shift comes from permuting
    days. Both arguments are results of `day_summaries`.
    """
    if min(len(reference), len(current)) < MIN_DAYS or current["rows|rows"].sum() < MIN_ROWS:
        need = f"at least {MIN_DAYS} days on each side and {MIN_ROWS} rows are needed"
        return ValueSkew("inconclusive", None, {}, f"{len(current)} days against {len(reference)}: {need}")
    both = pd.concat([reference, current], join="inner").drop(columns="rows|rows")
    both = both.fillna(both.mean()).dropna(axis=1)
    both = both.loc[:, both.std() > 0]
    table, is_current = both.to_numpy(), np.arange(len(both)) >= len(reference)
    shuffle = np.random.default_rng(seed)
    observed = _studentised(table, is_current[None, :])[0]
    permuted = _studentised(table, shuffle.permuted(np.tile(is_current, (PERMUTATIONS, 1)), axis=1)).max(axis=1)
    p_value = float((1 + (permuted >= observed.max()).sum()) / (1 + PERMUTATIONS))
    effect = np.abs(table[is_current].mean(0) - table[~is_current].mean(0)) / table.std(0)
    ranked = pd.Series(effect, both.columns).sort_values(ascending=False)
    moved = p_value <= ALPHA and effect[observed.argmax()] >= MIN_EFFECT
    words = f"largest difference {both.columns[observed.argmax()]}, p = {p_value:.3f} over {len(both)} days"
    return ValueSkew(
        "moved" if moved else "steady", p_value, {str(k): float(v) for k, v in ranked.head(10).items()}, words
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
