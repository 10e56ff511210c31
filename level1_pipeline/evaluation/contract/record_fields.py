"""The Record: kinds of fields that all ways in understand, and a config that lets no value through by chance."""

from __future__ import annotations

import types
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from level1_pipeline import problem
from level1_pipeline.evaluation.contract.mistake import Mistake

KINDS = (str, int, float, bool, date)
TAKEN = "a field is a str, int, float, bool, date or Literal, or one of them with | None"
CONFIG = {  # what it must say, and what happens without it
    "extra": ("forbid", "a misspelt input of a request would be ignored"),
    "strict": (True, 'the text "12" would pass as a number'),
    "allow_inf_nan": (False, "NaN and infinity would pass as numbers"),
}


# Columns that monitoring and batch files have beside the inputs.
RESERVED = {
    "id",
    "arm",
    "version",
    "at",
    "score",
    "latency_ms",
    "value",
    "known_at",
    "corrected",
    "day",
    "open",
    "hash",
    "row",
}


def fields() -> Iterator[Mistake]:
    """Its config and each of its fields."""
    record: Any = problem.Record
    if not (isinstance(record, type) and issubclass(record, BaseModel)):
        yield Mistake("Record", "is no pydantic model; write class Record(BaseModel) with a field for each input")
        return
    if not record.model_fields:
        yield Mistake("Record", "has no field; write one for each input of the model")
    for name, (wanted, without) in CONFIG.items():
        if record.model_config.get(name) != wanted:
            yield Mistake("Record", f"model_config needs {name}={wanted!r}, else {without}")
    for name, field in record.model_fields.items():
        yield from (Mistake(f"Record.{name}", text) for text in _of_field(name, field))


def _of_field(name: str, field: Any) -> Iterator[str]:
    given = (field.alias, field.validation_alias, field.serialization_alias)
    if aliases := {repr(alias) for alias in given if alias not in (None, name)}:
        told = ", ".join(sorted(aliases))
        yield (
            f"has the alias {told}, and files, logs and models know one name only; take the alias out, and rename the "
            f"column in `load`"
        )
    if name in RESERVED:
        yield f"has the name of a column of the prediction log; rename it: {', '.join(sorted(RESERVED))} are taken"
    if any(mark in name for mark in "|\n") or name.startswith("_"):
        yield "has a name that columns of figures cannot hold; use letters, digits and _"
    if text := _of_kind(field.annotation):
        yield text


def _of_kind(annotation: Any) -> str:
    """What is wrong with the type of a field; empty if nothing."""
    inner = [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [kind for kind in get_args(annotation) if kind is not type(None)]
    if len(inner) != 1:
        return f"may be of several types; {TAKEN}"
    (kind,) = inner
    if get_origin(kind) is Literal:
        if {type(value) for value in get_args(kind)} in ({str}, {int}):
            return ""
        return "is a Literal of other values than texts, or of several types; write texts, or a bounded number"
    if kind is datetime:
        return "is a time; give what the model can learn from: the hour, the weekday, or the minutes since something"
    if kind in KINDS:
        return ""
    return f"is of the type {getattr(kind, '__name__', kind)}; {TAKEN}"
