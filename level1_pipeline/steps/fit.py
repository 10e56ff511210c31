"""The one fit of the recipe, for every model that a training makes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema


@dataclass
class SharedFits:
    """A folder in which each recipe is fitted on the same rows only once, and what all fits would have cost."""

    folder: Path
    rows_times_iterations: int = 0  # of every fit that was asked for, shared or not

    def fit(self, model: Any, rows: pd.DataFrame) -> Any:
        """The fitted model: made now, or when it was first asked for."""
        file = self.folder / f"{_digest(rows, model)}.pkl"
        if not file.exists():
            model.fit(rows[schema.names()], rows[problem.TARGET])
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_bytes(pickle.dumps(model))
            partial.replace(file)
        fitted = pickle.loads(file.read_bytes())  # noqa: S301  (written above, in the home of a simulation)
        # A linear model has one count for each class, and not a number.
        self.rows_times_iterations += len(rows) * int(np.max(getattr(fitted[-1], "n_iter_", 1)))
        return fitted


_shared: ContextVar[SharedFits | None] = ContextVar("shared fits", default=None)


def fit_model(rows: pd.DataFrame, parameters: dict[str, Any] | None = None) -> Any:
    """Fit the problem's recipe, with changed parameters where given. Deterministic."""
    model, shared = problem.build_model().set_params(**(parameters or {})), _shared.get()
    return shared.fit(model, rows) if shared else model.fit(rows[schema.names()], rows[problem.TARGET])


@contextmanager
def shared_fits(folder: Path) -> Iterator[SharedFits]:
    """Share the fits of a block with whoever names the same folder: a simulation trains the same for several policies."""
    folder.mkdir(parents=True, exist_ok=True)
    before = _shared.set(fits := SharedFits(folder))
    try:
        yield fits
    finally:
        _shared.reset(before)


def _digest(rows: pd.DataFrame, model: Any) -> str:
    """Of the recipe and of the rows in their order."""
    values = pd.util.hash_pandas_object(rows[[*schema.names(), problem.TARGET]], index=False).to_numpy()
    return sha256(repr(model).encode() + values.tobytes()).hexdigest()[:32]
