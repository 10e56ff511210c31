"""What `load` gives: the columns, their types, their times, and nothing that was not known yet."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.contract.mistake import Mistake, did_you_mean
from level1_pipeline.evaluation.labels.label_times import wrong_times
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task

ENTITY_MAX_SHARE = 0.1  # of the rows; the first step of a canary is 5 %
STRANGE = re.compile("[^!-~]")
PRINTABLE = re.compile("[!-~]{1,128}")  # what the service takes as an id


def columns(rows: pd.DataFrame) -> Iterator[Mistake]:
    """All there, and no other."""
    wanted = [*_keys(), *schema.names()]
    extra = [str(name) for name in rows.columns if name not in wanted]
    missing = [name for name in wanted if name not in rows]
    for name in missing:
        hint = did_you_mean(name, extra) if extra else f"it gives {', '.join(map(str, rows.columns))}"
        yield Mistake("load", f"gives no column '{name}', which {_who(name)} names; {hint}")
    if extra and not missing:  # else one of them may be the other, misspelt
        names, field = ", ".join(f"'{name}'" for name in extra), "a field" if len(extra) == 1 else "fields"
        yield Mistake(
            "load", f"gives {names} beside the columns that are named; drop it, or make it {field} of the Record"
        )


def _keys() -> list[str]:
    return [problem.ID, problem.ENTITY, problem.EVENT_TIME, problem.LABEL_TIME, problem.TARGET]


def _who(name: str) -> str:
    named = {getattr(problem, key): key for key in ("ID", "ENTITY", "EVENT_TIME", "LABEL_TIME", "TARGET")}
    return named.get(name, "the Record")


def times(rows: pd.DataFrame) -> Iterator[Mistake]:
    """Aware times, without which rows of two zones cannot be ordered."""
    for key in ("EVENT_TIME", "LABEL_TIME"):
        name = getattr(problem, key)
        if name not in rows:
            continue
        values = rows[name]
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            held = values.dtype if values.dtype != object else f"objects of {_types(values)}"
            todo = "make it one in `load`: pd.to_datetime(…, utc=True)"
            yield Mistake(key, f"the column '{name}' holds {held}, and is no column of times; {todo}")
        elif not isinstance(values.dtype, pd.DatetimeTZDtype):
            yield Mistake(
                key,
                f"the times in '{name}' have no zone; give them theirs in `load`: .dt.tz_localize('{problem.TIMEZONE}')",
            )


def _types(values: pd.Series) -> str:
    """The types of the objects in a column."""
    return " and ".join(sorted({type(value).__name__ for value in values.dropna()})) or "no type"


def decisions(rows: pd.DataFrame) -> Iterator[Mistake]:
    """Each row has a decision time."""
    if gone := int(rows[problem.EVENT_TIME].isna().sum()):
        yield Mistake(
            "EVENT_TIME", f"is missing in {gone:,} rows; give them a decision time in `load`, or leave them out"
        )


def until(rows: pd.DataFrame, time: pd.Timestamp) -> Iterator[Mistake]:
    """Only what was known before `time`. The rows must have aware times."""
    late = int((rows[problem.EVENT_TIME] >= time).sum())
    if late:
        yield Mistake(
            "load",
            f"gives {late:,} rows whose {problem.EVENT_TIME} is not before `until`; keep rows[EVENT_TIME < until] only",
        )
    label_time, labelled = rows[problem.LABEL_TIME], rows[problem.TARGET].notna()
    if early := int((labelled & (label_time >= time)).sum()):
        yield Mistake(
            "load",
            f"gives {early:,} labels that become known only at or after `until`, so a training would learn from the future; "
            f"make {problem.TARGET} missing where {problem.LABEL_TIME} >= until",
        )


def label_times(rows: pd.DataFrame) -> Iterator[Mistake]:
    """Each label has a time, which is not before the decision. The rows must have aware times."""
    for wrong in wrong_times(rows):
        yield Mistake(
            "LABEL_TIME", f"{wrong.rule}: {len(wrong.ids):,} rows, for example '{wrong.ids[0]}'; {wrong.todo}"
        )


def label_times_everywhere(rows: pd.DataFrame) -> Iterator[Mistake]:
    """The same, where no row is right: a source that delivers some bad rows does not do that."""
    if any(wrong.everywhere for wrong in wrong_times(rows)):
        yield from label_times(rows)


def labels(rows: pd.DataFrame) -> Iterator[Mistake]:
    """0, 1 or missing; numbers, for a regression; or one of CLASSES."""
    values = rows[problem.TARGET]
    if values.dtype != "float64":
        odd = [value for value in values.dropna().unique().tolist() if value not in classes()]
        what = ", ".join(sorted({repr(value) for value in odd[:3]}))
        kinds = _types(values) if values.dtype == object else values.dtype
        todo = task().labels_wanted
        yield Mistake("TARGET", f"'{problem.TARGET}' holds {what}, as {kinds}; make them {todo} in `load`")
        return
    different = sorted(values.dropna().unique().tolist())
    if not different:
        yield Mistake("TARGET", f"'{problem.TARGET}' is missing in every row; there is nothing to learn from")
    elif gone := [name for place, name in enumerate(classes()) if place not in different]:
        yield Mistake("CLASSES", f"names {', '.join(map(repr, gone))}, which no row has; leave it out, or mend `load`")
    elif wrong := [value for value in different if task().labels and task().wrong_label(value)]:
        told = ", ".join(f"{value:g}" for value in wrong[:3])
        yield Mistake("TARGET", f"'{problem.TARGET}' holds {told}; a classification needs 0 and 1: map them in `load`")
    elif len(different) == 1:
        yield Mistake("TARGET", f"'{problem.TARGET}' is {different[0]:g} in every row; there is nothing to learn")


def ids(rows: pd.DataFrame) -> Iterator[Mistake]:
    """Texts that the service, the log and the files of outcomes take; an ID only once."""
    for key in ("ID", "ENTITY"):
        values = rows[getattr(problem, key)]
        if gone := int(values.isna().sum()):
            yield Mistake(key, f"is missing in {gone:,} rows; give each row one in `load`")
        present = values.dropna()
        if values.dtype != "str" and not present.map(lambda value: isinstance(value, str)).all():
            yield Mistake(
                key, f"'{values.name}' holds {values.dtype}; make the values texts or whole numbers in `load`"
            )
            continue
        if odd := _not_printable(present.unique().tolist()):
            yield Mistake(
                key,
                f"'{odd[0]}' and {len(odd) - 1:,} others cannot be sent to the service, which takes 1 to 128 characters of "
                "ASCII without spaces; replace the others in `load`",
            )
    doubled = int(rows[problem.ID].duplicated().sum())
    if doubled:
        example = rows[problem.ID][rows[problem.ID].duplicated()].iloc[0]
        yield Mistake(
            "ID",
            f"{doubled:,} rows have an id that another row has, as '{example}'; name a column that tells them apart",
        )


def _not_printable(values: list[str]) -> list[str]:
    """The values that the service would refuse. One look at all of them together is many times faster than one at each."""
    if (
        not STRANGE.search("".join(values))
        and min(map(len, values), default=1) > 0
        and max(map(len, values), default=1) <= 128
    ):
        return []
    return [value for value in values if not PRINTABLE.fullmatch(value)]


def inputs(rows: pd.DataFrame) -> Iterator[Mistake]:
    """Values within the Record, and no column without any."""
    for column in schema.columns():
        values = rows[column.name]
        if values.isna().all():
            yield Mistake(
                f"Record.{column.name}", "is missing in every row; fill it in `load`, or take it out of the Record"
            )
            continue
        for broken in schema.column_violations(column.name, values)[:1]:
            example = values.iloc[broken.rows[0]]
            told = "missing" if pd.isna(example) else repr(getattr(example, "item", lambda value=example: value)())
            yield Mistake(
                f"Record.{column.name}",
                f"{broken.rule}, and it is {told} in {len(broken.rows):,} of {len(rows):,} rows; mend `load`, or the field",
            )


def entities(rows: pd.DataFrame) -> Iterator[Mistake]:
    """More than one of them: a constant one voids the canary."""
    values = rows[problem.ENTITY]
    if len(rows) > 1 and len(values.unique()) == 1:
        yield Mistake(
            "ENTITY",
            f"'{values.name}' is '{values.iloc[0]}' in every row, so a canary would be all or nothing; name a finer one "
            "(that of ID, if nothing has to stay in one arm)",
        )


def entity_warning(rows: pd.DataFrame) -> str:
    """What a person should know of ENTITY before a rollout; empty if all is well.

    An entity keeps its arm in a canary, so one that has many of the rows leaves an arm without a sample.
    """
    shares = rows[problem.ENTITY].value_counts(normalize=True)
    if not len(shares) or shares.iloc[0] <= ENTITY_MAX_SHARE:
        return ""
    return (
        f"{problem.ENTITY} '{shares.index[0]}' has {shares.iloc[0]:.0%} of the rows, so a canary cannot get a small share "
        "of them; give the rows a finer ENTITY in problem.py (their ID, if nothing has to stay in one arm)"
    )
