"""The problem's rows and their fingerprint. Whatever is wrong with the raw data is one sentence."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from level1_pipeline import problem, schema
from level1_pipeline.errors import DataCheckFailed, NotFound, ProblemRefused
from level1_pipeline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

Change = Callable[["pd.DataFrame", "pd.Timestamp"], "pd.DataFrame"]  # the rows until a time, as they are to be read
_change: ContextVar[Change | None] = ContextVar("a change of the source", default=None)
NO_TABLE = "problem.py: load: gives no table"
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or what this user may have of it


def load(settings: Settings, until: pd.Timestamp | None = None) -> pd.DataFrame:
    """`problem.load` with the raw data of the settings; without `until` all rows that there are.

    Raises:
        DataCheckFailed: a file is missing, cut, or not what it should be. `load` is the cloner's own code, and damaged
            data may fail in it anywhere, so every error of it counts.
        ProblemRefused: `load` gives no table.
        MemoryError, OSError: memory or disk is full, or the cache cannot be used: no fault of the data.
    """
    import pandas as pd

    if until is None:
        until = pd.Timestamp.max.tz_localize("UTC").as_unit("us")
    cache = settings.home / "cache"
    try:
        loaded = problem.load(until, settings.source, cache)
        if not isinstance(loaded, pd.DataFrame):
            raise ProblemRefused(f"{NO_TABLE} (it is of the type {type(loaded).__name__}); end it with `return rows`")
        rows = schema.typed(loaded)
    except ProblemRefused:
        raise
    except Exception as error:
        if _is_ours(error, cache):
            raise
        raise DataCheckFailed(f"the rows of {problem.NAME} cannot be loaded: {_told(error)}") from error
    change = _change.get()
    return change(rows, until) if change else rows


@contextmanager
def changed(change: Change) -> Iterator[None]:
    """Everybody who loads rows in this block gets them as changed: a simulation plants faults in the source."""
    before = _change.set(change)
    try:
        yield
    finally:
        _change.reset(before)


def fingerprint(settings: Settings) -> str:
    """`problem.fingerprint`; where the files cannot be read it says so, and `load` will tell why.

    Raises:
        NotFound: the folder of the setting `source` is not there.
    """
    try:
        return problem.fingerprint(settings.source)
    except Exception as error:
        if settings.source and not settings.source.is_dir():
            raise NotFound(f"the raw data of {problem.NAME} cannot be read: {_told(error)}") from error
        return f"unreadable: {_told(error)}"


def _is_ours(error: Exception, cache: Path) -> bool:
    """Whether it is memory, the disk or the cache that failed, and not the data."""
    if isinstance(error, OSError):
        return error.errno in FULL or Path(str(error.filename or "")).is_relative_to(cache)
    return isinstance(error, MemoryError)


def _told(error: Exception) -> str:
    """One line. The messages of these two say enough; those of others, as `'abc'`, need the name of their kind."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {text}"
