"""Data checks: schema skew stops with a message that a person can act on; value skew is told and stops nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.errors import DataCheckFailed
from level1_pipeline.evaluation import data_checks
from level1_pipeline.evaluation.data_checks import Finding
from level1_pipeline.evaluation.drift import DRIFT_ALPHA, day_summaries, drift_test

pytestmark = pytest.mark.integration

COLUMNS = schema.columns()
STEP = 5  # the first column is damaged in 5 rows, the second in 6, …: each count belongs to one column


class Damage(NamedTuple):
    """What goes wrong in a column, in which columns it can go wrong, and which rule has to notice."""

    applies: Callable[[schema.Column], bool]
    value: Callable[[schema.Column], Any]
    rule: str


DAMAGES = {
    "too low": Damage(lambda c: c.low is not None, lambda c: c.low - 1, "between"),  # type: ignore[operator]
    "too high": Damage(lambda c: c.high is not None, lambda c: c.high + 1, "between"),  # type: ignore[operator]
    "infinite": Damage(lambda c: c.high is not None, lambda c: np.inf, "between"),
    "null where forbidden": Damage(lambda c: not c.nullable, lambda c: None, "not be null"),
    "another category": Damage(lambda c: c.allowed is not None, lambda c: "no such category", "in set"),
    "against the pattern": Damage(lambda c: c.pattern is not None, lambda c: "no such pattern", "match regex"),
}
CASES = [(name, column) for name, damage in DAMAGES.items() for column in COLUMNS if damage.applies(column)]


@pytest.fixture(scope="module")
def sample(rows: pd.DataFrame) -> pd.DataFrame:
    """2,000 good rows from the whole period."""
    return rows.iloc[:: max(1, len(rows) // 2000)].head(2000).reset_index(drop=True)


@pytest.fixture(scope="module")
def findings(sample: pd.DataFrame) -> Callable[[str], dict[str, Finding]]:
    """The findings of one kind of damage, planted in all columns that can have it, each in other rows."""
    seen_before: dict[str, dict[str, Finding]] = {}

    def once(kind: str) -> dict[str, Finding]:
        if kind not in seen_before:
            damaged, damage = sample.copy(), DAMAGES[kind]
            for position, column in enumerate(COLUMNS):
                if damage.applies(column):
                    index = sample.index[position * 50 : position * 50 + STEP + position]
                    damaged.loc[index, column.name] = damage.value(column)
            broken, _ = data_checks.findings(damaged)
            assert len({f.column for f in broken}) == len(broken), f"one finding a column: {broken}"
            seen_before[kind] = {f.column: f for f in broken}
        return seen_before[kind]

    return once


def message(broken: list[Finding]) -> str:
    with pytest.raises(DataCheckFailed) as stopped:
        data_checks.stop(broken)
    return str(stopped.value)


def only(rows: pd.DataFrame) -> Finding:
    broken, _ = data_checks.findings(rows)
    assert len(broken) == 1, broken
    return broken[0]


# ---- schema skew


@pytest.mark.slow
def test_good_rows_pass_and_every_bound_of_the_record_was_checked(sample: pd.DataFrame) -> None:
    broken, checked = data_checks.check(sample, sample.tail(300))
    assert broken == []
    data_checks.stop(broken)  # does not raise
    bounds = sum(
        2 + (c.low is not None or c.high is not None) + (c.pattern is not None) + (c.allowed is not None)
        for c in COLUMNS
    )
    assert checked >= 2 * (bounds + 3)


@pytest.mark.evidence("Data 1", "Level 1: bad data stop")
@pytest.mark.parametrize(("kind", "column"), CASES, ids=[f"{kind}: {column.name}" for kind, column in CASES])
def test_a_damaged_value_is_found_with_its_column_rule_count_and_three_examples(
    kind: str, column: schema.Column, findings: Callable[[str], dict[str, Finding]]
) -> None:
    finding = findings(kind)[column.name]
    assert DAMAGES[kind].rule in finding.rule
    assert finding.count == STEP + COLUMNS.index(column)
    assert len(finding.examples) == 3
    if kind != "null where forbidden":
        assert all(str(DAMAGES[kind].value(column)) in example for example in finding.examples)
    text = message([finding])
    for part in (column.name, DAMAGES[kind].rule, f"{finding.count:,} rows", finding.examples[0]):
        assert part in text
    assert "Nothing was trained" in text
    assert "problem.py" in text


@pytest.mark.parametrize("kind", DAMAGES)
def test_only_the_damaged_columns_are_named(kind: str, findings: Callable[[str], dict[str, Finding]]) -> None:
    assert set(findings(kind)) == {column.name for column in COLUMNS if DAMAGES[kind].applies(column)}


def test_a_column_of_another_type_is_found(sample: pd.DataFrame) -> None:
    changed = sample.copy()
    for column in COLUMNS:
        changed[column.name] = np.arange(len(sample)) if column.text else sample[column.name].astype(str)
    broken, _ = data_checks.findings(changed)
    types = {f.column: f for f in broken if "of type" in f.rule}
    assert set(types) == set(schema.names())
    for column in COLUMNS:
        assert types[column.name].examples == (("int64",) if column.text else ("str",))
        assert ("'str'" if column.text else "'float64'") in types[column.name].rule
        assert types[column.name].count == len(sample)


def test_values_may_be_missing_where_the_record_says_so_but_not_all_of_them(sample: pd.DataFrame) -> None:
    nullable = [column.name for column in COLUMNS if column.nullable]
    if not nullable:
        pytest.skip("no column of this problem may be missing")
    often = sample.copy()
    often.loc[often.index[: len(often) * 9 // 10], nullable] = np.nan
    assert data_checks.findings(often)[0] == []
    broken, _ = data_checks.findings(sample.assign(**dict.fromkeys(nullable, np.nan)))
    assert {f.column for f in broken} == set(nullable)
    assert all("not be null" in f.rule and f.count == len(sample) for f in broken)


def test_a_missing_column_is_named_once(sample: pd.DataFrame) -> None:
    gone = schema.names()[0]
    finding = only(sample.drop(columns=gone))
    assert f"missing {gone}" in finding.rule
    assert gone in message([finding])


def test_an_unexpected_column_is_named(sample: pd.DataFrame) -> None:
    assert "unexpected arrived_from_nowhere" in only(sample.assign(arrived_from_nowhere=1.0)).rule


def test_duplicated_ids_are_named_and_counted(sample: pd.DataFrame) -> None:
    finding = only(pd.concat([sample, sample.head(3)], ignore_index=True))
    assert (finding.column, finding.count) == (problem.ID, 6)
    assert "unique" in finding.rule
    assert set(finding.examples) <= set(sample[problem.ID].head(3))


@pytest.mark.parametrize("key", [problem.ID, problem.ENTITY, problem.EVENT_TIME])
def test_a_row_without_its_key_is_found(key: str, sample: pd.DataFrame) -> None:
    finding = only(sample.assign(**{key: sample[key].where(sample.index >= 4)}))
    assert (finding.column, finding.count) == (key, 4)


@pytest.mark.skipif(problem.TASK != "classification", reason="every number is an outcome of a regression")
def test_an_outcome_that_is_no_outcome_is_found_and_an_open_one_is_not(sample: pd.DataFrame) -> None:
    finding = only(sample.assign(**{problem.TARGET: sample[problem.TARGET].where(sample.index >= 4, 2.0)}))
    assert (finding.column, finding.count) == (problem.TARGET, 4)
    assert data_checks.findings(sample.assign(**{problem.TARGET: np.nan}))[0] == []


@pytest.mark.evidence("the data are broken", "Level 1: bad data stop")
def test_no_rows_at_all_stop_the_run(sample: pd.DataFrame) -> None:
    broken, _ = data_checks.check(sample.head(0), sample.head(0))
    assert "there must be rows" in message(broken)


def test_a_fault_that_is_only_in_the_newest_days_is_found(sample: pd.DataFrame) -> None:
    """A source that died a week ago: over all rows the column is still full enough."""
    column = next((c.name for c in COLUMNS if c.nullable), None)
    if column is None:
        pytest.skip("no column of this problem may be missing")
    newest = sample.tail(300).index
    damaged = sample.copy()
    damaged.loc[newest, column] = np.nan
    assert data_checks.findings(damaged)[0] == []
    broken, _ = data_checks.check(damaged, damaged.loc[newest])
    assert [(f.part, f.column, f.count) for f in broken] == [("the newest days", column, 300)]
    assert "300 rows of the newest days" in message(broken)


def test_a_fault_in_all_rows_is_told_once_and_not_again_for_the_newest_days(sample: pd.DataFrame) -> None:
    damaged = sample.assign(**{problem.EVENT_TIME: sample[problem.EVENT_TIME].where(sample.index % 2 == 0)})
    broken, _ = data_checks.check(damaged, damaged.tail(300))
    assert [(f.part, f.column) for f in broken] == [("all", problem.EVENT_TIME)]


# ---- value skew


@pytest.fixture(scope="module")
def summaries(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a day of the whole period."""
    return day_summaries(rows)


def windows(summaries: pd.DataFrame, count: int) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """28 reference days and 7 others from the same 90 days, drawn at random: nothing moved between them."""
    if len(summaries) <= 90:
        pytest.skip(f"{problem.NAME} has {len(summaries)} days, too few to draw from")
    draw, pairs = np.random.default_rng(0), []
    for _ in range(count):
        start = draw.integers(0, len(summaries) - 90)
        days = start + draw.permutation(90)[:35]
        pairs.append((summaries.iloc[np.sort(days[:28])], summaries.iloc[np.sort(days[28:])]))
    return pairs


@pytest.mark.slow
def test_days_of_the_same_quarter_are_hardly_ever_called_moved(summaries: pd.DataFrame) -> None:
    verdicts = [drift_test(*pair).verdict for pair in windows(summaries, 100)]
    assert set(verdicts) <= {"steady", "moved"}
    assert verdicts.count("moved") <= 2


def test_the_same_data_give_the_same_verdict_and_p_value(summaries: pd.DataFrame) -> None:
    pair = windows(summaries, 1)[0]
    assert drift_test(*pair) == drift_test(*pair)


def shifted(rows: pd.DataFrame, column: str, by: float) -> pd.DataFrame:
    bounds = next(c for c in COLUMNS if c.name == column)
    return rows.assign(**{column: (rows[column] + by).clip(bounds.low, bounds.high)})


@pytest.fixture(scope="module")
def month(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every fourth of 60 days against the others: one regime on both sides, and about the holdout's 14 days.

    (With 7 days a shift of one standard deviation of the weather is not seen at DRIFT_ALPHA.)
    """
    start = rows[problem.EVENT_TIME].min() + pd.Timedelta(days=30)
    part = rows[(rows[problem.EVENT_TIME] > start) & (rows[problem.EVENT_TIME] < start + pd.Timedelta(days=60))]
    day = pd.factorize(part[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date)[0]
    return part[day % 4 != 0], part[(day % 4 == 0) & (day > 0)]


@pytest.mark.flights
@pytest.mark.parametrize("column", ["recent_delay", "humid", "visib", "departure_minute", "scheduled_minutes"])
def test_a_planted_shift_of_one_standard_deviation_is_seen_and_named(
    column: str, month: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    reference, current = month
    assert drift_test(*map(day_summaries, month)).verdict == "steady"
    # Down for what is capped at its best value above.
    by = current[column].std() * (-1 if column == "visib" else 1)
    moved = drift_test(*map(day_summaries, (reference, shifted(current, column, by))))
    assert moved.verdict == "moved"
    assert moved.p_value is not None
    assert moved.p_value <= DRIFT_ALPHA
    assert f"{column}|" in moved.reason
    assert any(name.startswith(f"{column}|") for name in list(moved.columns)[:3])


@pytest.mark.flights
def test_celsius_in_the_place_of_fahrenheit_is_seen(month: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    reference, current = month
    celsius = current.assign(temp=(current["temp"] - 32) / 1.8)
    moved = drift_test(*map(day_summaries, (reference, celsius)))
    assert moved.verdict == "moved"
    assert "temp|" in moved.reason


@pytest.mark.flights
def test_another_mix_of_categories_is_seen(month: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    reference, current = month
    one_airport = current[(current["origin"] != "JFK") | (np.arange(len(current)) % 3 == 0)]
    moved = drift_test(*map(day_summaries, (reference, one_airport)))
    assert moved.verdict == "moved"


def test_too_few_days_or_rows_are_inconclusive(summaries: pd.DataFrame) -> None:
    reference, current = windows(summaries, 1)[0]
    few_rows = current.assign(**{"rows|rows": 28})
    cases = {"2 current days": (reference, current.head(2)), "2 reference days": (reference.head(2), current)}
    for name, pair in (cases | {"196 rows": (reference, few_rows)}).items():
        skew = drift_test(*pair)
        assert (skew.verdict, skew.p_value, skew.columns) == ("inconclusive", None, {}), name
        assert "needed" in skew.reason
    enough = current.head(3).assign(**{"rows|rows": 100})
    assert drift_test(reference, enough).verdict != "inconclusive"


@pytest.mark.flights
def test_a_category_that_disappears_has_moved(month: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    name = next(column.name for column in schema.columns() if column.text)
    reference = day_summaries(month[0])
    renamed = month[1].assign(**{name: "Z9"})
    skew = drift_test(reference, day_summaries(renamed, like=reference))
    assert skew.verdict == "moved"
    assert next(iter(skew.columns)).endswith(f"|{name}")


@pytest.mark.flights
@pytest.mark.evidence("Checklist 4", "Checklist 5")
def test_schema_skew_and_value_skew_are_two_distinct_outcomes(month: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """A shift within the bounds is told and stops nothing; a fault beyond them stops, whatever the values."""
    reference, current = (part.iloc[::20] for part in month)
    within = shifted(current, "recent_delay", current["recent_delay"].std())
    assert data_checks.findings(within)[0] == []
    assert drift_test(*map(day_summaries, (month[0], shifted(month[1], "recent_delay", 20)))).verdict == "moved"
    hot = pd.concat([reference, current]).assign(humid=lambda r: r["humid"] * 1.8 + 32)
    assert "humid" in message(data_checks.findings(hot)[0])
