"""Another problem in the place of problem.py, within a test and without another process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from level1_pipeline import problem, schema
from level1_pipeline.schema import checks
from level1_pipeline.schema import values as schema_values
from level1_pipeline.schema.several_classes import classes

# Where a test plants scores or labels itself, each is one number.
NO_NUMBER = f"a score of {problem.NAME} is a probability for each class; test_several_classes.py is about that"
ONE_NUMBER = pytest.mark.skipif(bool(classes()), reason=NO_NUMBER)

SLICED = pytest.mark.skipif(not problem.SLICES, reason=f"{problem.NAME} has no SLICES")


@contextmanager
def in_place(other: ModuleType, patch: pytest.MonkeyPatch | None = None) -> Iterator[None]:
    """Every name of problem.py is the other's until the end, and what was read from either Record is read again.

    A test that changes names itself gives its own patch, so that all changes are undone in their order.
    """
    patch = patch or pytest.MonkeyPatch()
    _put(patch, other)
    yield
    patch.undo()
    forget_the_record()


def _put(monkeypatch: pytest.MonkeyPatch, other: ModuleType) -> None:
    for name in [name for name in vars(problem) if name.isupper() and not hasattr(other, name)]:
        monkeypatch.delattr(problem, name)
    for name, value in vars(other).items():
        if name.isupper() or getattr(value, "__module__", "") == other.__name__:
            monkeypatch.setattr(problem, name, value, raising=False)
    forget_the_record()


def forget_the_record() -> None:
    """What was read from an earlier Record is read again."""
    for cached in (schema.columns, checks._alone, checks._column, schema_values._dates):
        cached.cache_clear()
