"""All questions about problem.py in their order: those that need no data, then those about the rows of `load`."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.errors import DataCheckFailed, ProblemRefused
from level1_pipeline.evaluation.contract import demo_days, measures, names, recipe, record_fields, rows
from level1_pipeline.evaluation.contract.as_of import advice
from level1_pipeline.evaluation.contract.mistake import Mistake
from level1_pipeline.inputs import demo, source
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import date_of, start_of

Question = Callable[..., Iterable[Mistake]]
STATIC: tuple[Question, ...] = (
    names.values,
    names.columns,
    names.parameters,
    record_fields.fields,
    measures.gate,
    measures.evaluate,
    measures.direction,
    measures.costs,
    measures.choose_action,
    demo_days.demo,
    recipe.pipeline,
)
# `load` itself is wrong: nothing that stands behind it could work. Other rows are data faults, which a training finds in
# its step `validate`, with a page and a line in the audit log.
OF_ROWS: tuple[Question, ...] = (rows.decisions, rows.label_times, rows.labels, rows.ids, rows.inputs, rows.entities)


def static() -> list[Mistake]:
    """What is wrong without a look at any row."""
    return [*_asked(names.missing_or_of_another_kind)] or _all(STATIC)


def of_load(table: pd.DataFrame, time: pd.Timestamp) -> list[Mistake]:
    """What is wrong with `load` as a function: types of times, rows and labels from after its `until`, and label times
    of which none is right. A few wrong ones are bad data."""
    keys = {problem.EVENT_TIME, problem.LABEL_TIME, problem.TARGET, problem.ID}
    if (wrong := [*_asked(rows.times, table)]) or not keys <= {*table.columns}:
        return wrong
    return [*_asked(rows.until, table, time), *_asked(rows.label_times_everywhere, table)]


def of_rows(table: pd.DataFrame, time: pd.Timestamp | None = None) -> list[Mistake]:
    """What is wrong with rows, which have the columns that they need.

    Args:
        table: what `load` gave.
        time: of the training that is wanted, if one is.
    """
    wrong = _all(OF_ROWS, table)
    if not wrong and time is not None and _too_few(table, time):
        wrong.append(
            Mistake("load", f"too few rows with a label for a training as of {date_of(time)}; {advice(table, time)}")
        )
    return wrong or [*_asked(recipe.on_few_rows, table)]


def _too_few(table: pd.DataFrame, time: pd.Timestamp) -> bool:
    newest = time - pd.Timedelta(hours=problem.GATE["maturity_hours"])
    pool = table[table[problem.TARGET].notna() & (table[problem.EVENT_TIME] <= newest)]
    newer = int((pool[problem.EVENT_TIME] > newest - pd.Timedelta(days=problem.GATE["holdout_days"])).sum())
    return min(newer, len(pool) - newer) < problem.GATE["min_rows"]


def mistakes(settings: Settings, as_of: pd.Timestamp | None = None) -> list[Mistake]:
    """Everything that is wrong with problem.py, as far as it can be told: a mistake may hide others behind it."""
    if wrong := static():
        return wrong
    try:
        table = source.load(settings, as_of)
    except DataCheckFailed as error:
        return [Mistake("load", f"{error}; mend it, or the raw data")]
    except ProblemRefused as error:
        return [Mistake("load", str(error).partition("load: ")[2])]
    if table.empty:
        return [Mistake("load", f"gives no rows; {advice(table, as_of) if as_of is not None else 'mend it'}")]
    if wrong := _all([rows.columns, rows.times], table):
        return wrong
    time = as_of if as_of is not None else _within(table)
    earlier = table if as_of is not None else source.load(settings, time)
    return _all([rows.until], earlier, time) + of_rows(table, as_of)


def _within(table: pd.DataFrame) -> pd.Timestamp:
    """A time in the midst of the rows, at which `load` has to hide the newer ones."""
    middle: pd.Timestamp = table[problem.EVENT_TIME].sort_values().iloc[len(table) // 2]
    return middle


def time_of(settings: Settings, as_of: str) -> pd.Timestamp:
    """The beginning of a day. That of the demo may follow from the rows of `load`, which nobody has checked yet.

    Raises:
        ProblemRefused: the rows, or the names in problem.py, have no such day.
    """
    try:
        return start_of(demo.day(settings, as_of))
    except Exception as error:  # whatever a problem.py of any content raises
        if wrong := mistakes(settings):
            raise ProblemRefused(told(wrong)) from error
        raise


def refuse(settings: Settings | None = None, as_of: pd.Timestamp | None = None) -> None:
    """What a training asks before anything is started.

    Args:
        settings: of the home, if `load` is to be asked, too.
        as_of: the time of the training.

    Raises:
        ProblemRefused: with a line for each mistake.
    """
    wrong = static()
    if not wrong and settings is not None and as_of is not None:
        try:
            table = source.load(settings, as_of)
            wrong = of_load(table, as_of) or [*_asked(recipe.trusted_types, table)]
        except DataCheckFailed:
            return  # which the training tells, in its step `extract`
    if wrong:
        raise ProblemRefused(told(wrong))


def told(wrong: list[Mistake]) -> str:
    """The mistakes in words: one on the line itself, several on a line each."""
    if len(wrong) == 1:
        return f"problem.py: {wrong[0]}"
    return f"{len(wrong)} mistakes in problem.py:\n  " + "\n  ".join(map(str, wrong))


def _all(questions: Iterable[Question], *about: Any) -> list[Mistake]:
    return [mistake for question in questions for mistake in _asked(question, *about)]


def _asked(question: Question, *about: Any) -> Iterator[Mistake]:
    """The mistakes that a question finds. What is so wrong that the question itself fails is a mistake, too."""
    try:
        yield from list(question(*about))
    except Exception as error:  # whatever a problem.py of any content raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(last.filename)}, line {last.lineno}"
        yield Mistake(
            question.__name__, f"cannot be checked: {type(error).__name__}: {error} ({place}); mend what it names"
        )
