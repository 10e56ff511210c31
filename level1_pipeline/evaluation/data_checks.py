"""Is this data fit to train on?  Two questions with two different answers.

*Schema skew* (a column, type, bound or key is wrong) stops the run: a Great Expectations suite that
is derived from the Record. *Value skew* (the values moved away from those that the champion was
trained on) is a fact of life and a reason to retrain: it is reported and stops nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.errors import DataCheckFailed
from level1_pipeline.evaluation.labels.label_times import wrong_times
from level1_pipeline.schema.task import task

if TYPE_CHECKING:
    from great_expectations.expectations.expectation import Expectation

# Of the values that must be there in a column that may be missing: one that is always missing has lost its source.
MIN_PRESENT_SHARE = 0.01
NEWEST_MIN_ROWS = 200  # in the newest days, below which they are not checked by themselves


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


def key_columns() -> list[str]:
    """The columns of a row that are not inputs of the model."""
    return [problem.ID, problem.ENTITY, problem.EVENT_TIME, problem.LABEL_TIME, problem.TARGET]


def expectations() -> list[Expectation]:
    """The suite: every bound of the Record, the keys, and the outcome."""
    import great_expectations.expectations as gxe

    never_missing = dict.fromkeys((problem.ID, problem.ENTITY, problem.EVENT_TIME))  # ID may be the entity, too
    suite = [
        gxe.ExpectTableColumnsToMatchSet(column_set=[*key_columns(), *schema.names()]),
        gxe.ExpectColumnValuesToBeUnique(column=problem.ID),
        *(gxe.ExpectColumnValuesToNotBeNull(column=key) for key in never_missing),
    ]
    if labels := task().labels:
        suite.append(gxe.ExpectColumnValuesToBeInSet(column=problem.TARGET, value_set=list(labels)))
    for column in schema.columns():
        suite.append(gxe.ExpectColumnValuesToBeOfType(column=column.name, type_="str" if column.text else "float64"))
        suite.append(
            gxe.ExpectColumnValuesToNotBeNull(column=column.name, mostly=MIN_PRESENT_SHARE if column.nullable else 1)
        )
        if column.kind is schema.Kind.NUMBER and (column.low is not None or column.high is not None):
            suite.append(
                gxe.ExpectColumnValuesToBeBetween(
                    column=column.name,
                    min_value=column.low,
                    max_value=column.high,
                    strict_min=column.low_excluded,
                    strict_max=column.high_excluded,
                )
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
    own, rules = _of_kinds(rows, part)
    return broken + own + _of_label_times(rows, part), len(results) + rules + 1


def _of_kinds(rows: pd.DataFrame, part: str) -> tuple[list[Finding], int]:
    """What Great Expectations has no rule for in a column of numbers: whole numbers, truth values and dates."""
    numbers = (schema.Kind.TEXT, schema.Kind.NUMBER)
    names = [column.name for column in schema.columns() if column.kind not in numbers and column.name in rows]
    names = [name for name in names if rows[name].dtype == "float64"]  # else its type is broken, which is said already
    broken = [
        Finding(part, name, violation.rule, len(violation.rows), tuple(map(str, rows[name].iloc[violation.rows[:3]])))
        for name in names
        for violation in schema.column_violations(name, rows[name])
        if rows[name].iloc[violation.rows].notna().all()  # a missing value is broken, too, and said already
    ]
    return broken, len(names)


def _of_label_times(rows: pd.DataFrame, part: str) -> list[Finding]:
    """Labels without a time, or with one before the decision, named by the ids of their rows."""
    times = [rows[key].dtype for key in (problem.EVENT_TIME, problem.LABEL_TIME) if key in rows]
    aware = [dtype for dtype in times if isinstance(dtype, pd.DatetimeTZDtype)]
    if len(aware) < 2 or not {problem.ID, problem.TARGET} <= {*rows.columns}:
        return []  # which is said already
    return [Finding(part, problem.LABEL_TIME, wrong.rule, len(wrong.ids), wrong.ids[:3]) for wrong in wrong_times(rows)]


def _finding(result: Any, part: str, rows: int) -> Finding:
    rule, wanted, seen = result.expectation_config.type, result.expectation_config.kwargs, result.result
    rule = rule.removeprefix("expect_column_").removeprefix("expect_").replace("_", " ")
    if "mismatched" in (seen.get("details") or {}):
        changes = [f"{kind} {', '.join(names)}" for kind, names in seen["details"]["mismatched"].items()]
        return Finding(part, "(columns)", f"columns {'; '.join(changes)}", rows, ())
    limits = {
        key: value
        for key, value in wanted.items()
        if key not in ("column", "batch_id", "mostly") and value is not None and value is not False
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
    again, checked_again = findings(newest, "the newest days") if len(newest) >= NEWEST_MIN_ROWS else ([], 0)
    reported = {(finding.column, finding.rule) for finding in broken}
    return broken + [f for f in again if (f.column, f.rule) not in reported], checked + checked_again


def stop(broken: list[Finding]) -> None:
    """Raise when something is broken.

    Raises:
        DataCheckFailed: with every finding, and what to do.
    """
    if broken:
        lines = "\n  ".join(map(str, broken))
        advice = "Nothing was trained. Mend the source, or, if the world really changed, the bounds in level1_pipeline/problem.py."
        raise DataCheckFailed(f"the data breaks {len(broken)} rule(s) of the Record:\n  {lines}\n{advice}")
