"""The names of problem.py: all there, of the right kind, and each column once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from zoneinfo import ZoneInfo

from level1_pipeline import problem
from level1_pipeline.evaluation.contract.mistake import Mistake, did_you_mean
from level1_pipeline.evaluation.contract.record_fields import RESERVED
from level1_pipeline.schema.several_classes import MULTICLASS
from level1_pipeline.schema.task import TASKS, unknown

COLUMNS = ("TARGET", "ID", "ENTITY", "EVENT_TIME", "LABEL_TIME")
TEXTS = ("NAME", "TASK", "TIMEZONE", *COLUMNS, "PRIMARY_METRIC")
FUNCTIONS = ("load", "fingerprint", "build_model", "evaluate", "choose_action")
KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(TEXTS, (str, "a text")),
    "SLICES": ((tuple, list), 'a tuple of names, as in ("region",)'),
    "GATE": (dict, "a dict"),
    "COSTS": (dict, "a dict of prices"),
    "SEARCH": (dict, "a dict of lists, which may be empty"),
    "TRUSTED_TYPES": ((tuple, list), "a tuple of names of types, which may be empty"),
}
NAME_RULE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def missing_or_of_another_kind() -> Iterator[Mistake]:
    """What nothing else can be asked without."""
    for name in (*KINDS, "Record", *FUNCTIONS):
        if not hasattr(problem, name):
            yield Mistake(name, f"is missing; {_misspelt(name)}")
        elif name in KINDS and not isinstance(getattr(problem, name), KINDS[name][0]):
            kind, is_of = KINDS[name][1], type(getattr(problem, name)).__name__
            yield Mistake(name, f"must be {kind}, and it is of the type {is_of}; write {kind}")
        elif name in FUNCTIONS and not callable(getattr(problem, name)):
            yield Mistake(name, f"must be a function, and it is of the type {type(getattr(problem, name)).__name__}")
    task = getattr(problem, "TASK", next(iter(TASKS)))
    if isinstance(task, str) and task not in TASKS:
        yield Mistake("TASK", unknown(task))
    elif task == MULTICLASS:
        yield from _classes()


def _classes() -> Iterator[Mistake]:
    """CLASSES, which a task with more than two classes needs."""
    if not hasattr(problem, "CLASSES"):
        yield Mistake("CLASSES", f"is missing; {_misspelt('CLASSES')}")
        return
    named, todo = problem.CLASSES, 'name the classes once each, as in ("low", "middle", "high")'
    if not isinstance(named, tuple) or not all(type(name) in (str, int) for name in named) or "" in named:
        yield Mistake("CLASSES", f"must be a tuple of texts or whole numbers; {todo}")
    elif len({str(name) for name in named}) < len(named):
        yield Mistake("CLASSES", f"names a class twice; {todo}")
    elif len(named) < 3:
        yield Mistake(
            "CLASSES", f"names {len(named)}; of two classes one is an event: take TASK = 'classification', and 0 and 1"
        )


def _misspelt(name: str) -> str:
    ours = {*KINDS, "Record", *FUNCTIONS}
    own = [other for other in vars(problem) if other not in ours and not other.startswith("_")]
    hint = did_you_mean(name, own)
    return hint.replace("did you mean", "is it written as") if "mean" in hint else "docs/level1.md says what it is for"


def values() -> Iterator[Mistake]:
    """NAME and TIMEZONE."""
    if not NAME_RULE.fullmatch(problem.NAME):
        rule = "letters of the English alphabet, digits, _, - and ., because it becomes a part of paths and addresses"
        yield Mistake("NAME", f"{problem.NAME!r} is no name; use 1 to 64 {rule}")
    try:
        ZoneInfo(problem.TIMEZONE)
    except (KeyError, ValueError, OSError):
        yield Mistake("TIMEZONE", f"{problem.TIMEZONE!r} is no time zone; write one as UTC or Europe/Zurich")


def columns() -> Iterator[Mistake]:
    """The five columns beside the inputs, and the slices among the inputs."""
    inputs, seen = _inputs(), dict[str, str]()
    for name in COLUMNS:
        column = getattr(problem, name)
        if not column:
            yield Mistake(name, "is empty; name the column of `load` that holds it")
        elif column in seen and name != "ENTITY":  # where nothing has to stay in one arm, each row is its own entity
            yield Mistake(name, f"names the column '{column}', as {seen[column]} does; each needs a column of its own")
        elif name == "TARGET" and column in RESERVED:
            yield Mistake(
                name, f"'{column}' is the name of a column of the prediction log; give the labels another name"
            )
        elif column in inputs:
            todo = "take it out of the Record" if name == "TARGET" else "give one of them another name"
            yield Mistake(name, f"names the column '{column}', which is an input in the Record, too; {todo}")
        seen.setdefault(column, name)
    for slice_ in problem.SLICES:
        if slice_ not in inputs:
            yield Mistake("SLICES", f"'{slice_}' is no field of the Record; {did_you_mean(slice_, inputs)}")


def _inputs() -> list[str]:
    return list(getattr(problem.Record, "model_fields", {}))


def accepts(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether a function can be called so."""
    import inspect

    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # it cannot be told
        return True
    return True


def parameters() -> Iterator[Mistake]:
    """How the functions are called."""
    calls: dict[str, tuple[str, ...]] = {
        "load": ("until", "source", "cache"),
        "fingerprint": ("source",),
        "build_model": (),
        "evaluate": ("y", "p"),
        "choose_action": ("p",),
    }
    for name, given in calls.items():
        if not accepts(getattr(problem, name), *given):
            yield Mistake(name, f"cannot be called as {name}({', '.join(given)}); give it these parameters")
