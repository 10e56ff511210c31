"""The world that every policy of the simulated year lives in: the same rows, in the same weeks, with the same outcomes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.inputs import source
from level1_pipeline.schema.scores import shape
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model, shared_fits
from level1_pipeline.steps.split import split_rows
from level1_pipeline.store.days import start_of

LAG_DAYS = 7  # after the last day, in which its outcomes become known


@dataclass(frozen=True)
class World:
    """The days from `first` to `last`, and the models that could have been made on their Mondays."""

    settings: Settings  # of the home of the year
    first: str
    last: str
    change: Callable[[pd.DataFrame], pd.DataFrame] | None = None  # of the real rows, in another world than ours

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Every request of these days, by EVENT_TIME, with what really happened (NaN: nobody will ever know)."""
        begin, end = start_of(self.first), start_of(str(pd.Timestamp(self.last).date() + pd.Timedelta(days=1)))
        rows = source.load(self.settings, end + pd.Timedelta(days=LAG_DAYS))
        rows = self.change(rows) if self.change else rows
        inside = (rows[problem.EVENT_TIME] >= begin) & (rows[problem.EVENT_TIME] < end)
        return rows[inside].sort_values(problem.EVENT_TIME, kind="stable").reset_index(drop=True)

    @cached_property
    def labels(self) -> np.ndarray:
        """What really happened; shape (n,)."""
        return self.rows[problem.TARGET].to_numpy("float64")

    @cached_property
    def day(self) -> np.ndarray:
        """The local day of each row, as a number of days since `first`; shape (n,)."""
        local = self.rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.tz_localize(None)
        return (local.dt.normalize() - pd.Timestamp(self.first)).dt.days.to_numpy()

    @property
    def week(self) -> np.ndarray:
        """The same in weeks."""
        return self.day // 7

    @property
    def mondays(self) -> list[str]:
        """The first day of each week: the days on which a calendar trains."""
        return [str(day.date()) for day in pd.date_range(self.first, self.last, freq="7D")]

    def since(self, day: str) -> np.ndarray:
        """Which rows lie on this local day or later."""
        return self.day >= (pd.Timestamp(day) - pd.Timestamp(self.first)).days

    def scores(self, monday: str) -> np.ndarray:
        """What the model of a Monday says about all later rows (NaN: earlier ones), from all that was known then."""
        return self._kept(monday)["scores"]

    def compute(self, monday: str) -> int:
        """Rows x iterations of its fit."""
        return int(self._kept(monday)["compute"])

    def _kept(self, monday: str) -> Any:
        file = self.settings.home / "scores" / f"{monday}.npz"
        if not file.exists():
            time, later = start_of(monday), self.since(monday)
            with shared_fits(self.settings.home / "fits") as fits:
                model = fit_model(split_rows(source.load(self.settings, time), time).pool)
            scores = np.full(shape(len(self.rows)), np.nan)
            scores[later] = predict(model, self.rows[later])
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            with partial.open("wb") as output:
                np.savez(output, scores=scores, compute=fits.rows_times_iterations)
            partial.replace(file)
        return np.load(file)
