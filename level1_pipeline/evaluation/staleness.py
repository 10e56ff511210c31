"""Staleness: what the age of a model costs, measured on the past with the problem's own recipe (a backtest).

Every four weeks of the past gets the model that could have been made then. On each later day the newest of these
models is compared with the older ones on the same rows, which none of them has seen.
(Breck et al., The ML Test Score, 2017, Model 4: "the impact of model staleness is known".)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.evaluation.day_mean import DIFFERENCE_CORRELATION, day_mean
from level1_pipeline.evaluation.metrics import cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WEEK = pd.Timedelta(weeks=1)
STEP_WEEKS = 4  # between two models of the past
MOST_MODELS = 12  # the newest ones; each costs a fit
MOST_OLDER = 3  # models that the newest of a day is compared with: older ones say little about the next weeks
FIRST_MONDAY = pd.Timestamp(
    "1970-01-05"
)  # the times of the models lie on one grid: two trainings compare the same ones
CONFIDENCE = 0.95  # one-sided, of each bound
DAY_MIN_ROWS = 50  # rows of a day that counts
MIN_DAYS = 14  # with fewer, nothing is said


Predict = Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class AgeCost:
    """What one week of age costs for one prediction, with the bounds of a 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Staleness:
    """The result of a backtest. JSON-ready with `as_dict`; it lies in the manifest of the version."""

    loss: AgeCost  # in units of the primary metric
    dollars: AgeCost | None  # of wrong decisions; None without COSTS, and for a regression
    curve: tuple[tuple[int, float], ...]  # age in weeks, and how much worse such models are in the primary metric
    days: int  # that were compared
    models: int

    def as_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def measure(rows: pd.DataFrame, as_of: pd.Timestamp, fit: Callable[[pd.Timestamp], Predict | None]) -> Staleness | None:
    """What a week of age costs, as far as it is known at `as_of`; None while the past is too short.

    Args:
        rows: with labels; those that were not yet known at `as_of` are not looked at.
        as_of: aware time.
        fit: the model that could have been made at an earlier time, as a function from rows to predictions of shape
            (n,); None where the rows of that time were too few.
    """
    rows = rows[rows[problem.LABEL_TIME] < as_of]
    models = [(time, predict) for time in _times(rows, as_of) if (predict := fit(time))]
    table = pd.DataFrame(_compared(rows, models), columns=["day", "age", "loss", "dollars"])
    count = table["day"].nunique()
    if count < MIN_DAYS:
        return None
    return Staleness(
        loss=_age_cost(table, "loss"),
        dollars=_age_cost(table, "dollars") if table["dollars"].notna().all() else None,
        curve=tuple((int(age), round(loss, 6)) for age, loss in table.groupby("age")["loss"].mean().items()),
        days=count,
        models=len(models),
    )


def _times(rows: pd.DataFrame, as_of: pd.Timestamp) -> list[pd.Timestamp]:
    """The newest Mondays of the grid before which there were rows, oldest first."""
    last = as_of.tz_convert(problem.TIMEZONE).tz_localize(None) - pd.Timedelta(days=MIN_DAYS)
    grid = pd.date_range(FIRST_MONDAY, last, freq=f"{STEP_WEEKS}W-MON").tz_localize(problem.TIMEZONE).tz_convert("UTC")
    first = rows[problem.EVENT_TIME].min() + STEP_WEEKS * WEEK
    return list(grid[grid >= first][-MOST_MODELS:])


def _compared(rows: pd.DataFrame, models: list[tuple[pd.Timestamp, Predict]]) -> Iterator[tuple[Any, ...]]:
    """For each day, and each model older than the newest of that day: the day, its greater age in weeks, and how much
    worse it is in the primary metric and in dollars a prediction."""
    ends = [*(time for time, _ in models[1:]), pd.Timestamp.max.tz_localize("UTC")]
    for place, ((time, _), end) in enumerate(zip(models, ends, strict=False)):
        part = rows[(rows[problem.EVENT_TIME] >= time) & (rows[problem.EVENT_TIME] < end)].reset_index(drop=True)
        if place == 0 or part.empty:
            continue
        shown = models[max(0, place - MOST_OLDER) : place + 1]
        scores = [predict(part) for _, predict in shown]
        y, day = part[problem.TARGET].to_numpy(), part[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
        for date, index in part.groupby(day).indices.items():
            if len(index) < DAY_MIN_ROWS:
                continue
            *older, (loss, paid) = [_figures(y[index], p[index]) for p in scores]
            for (earlier, _), (their_loss, they_paid) in zip(shown, older, strict=False):
                yield date, round((time - earlier) / WEEK), their_loss - loss, they_paid - paid


def _figures(y: np.ndarray, p: np.ndarray) -> tuple[float, float]:
    paid = cost(y, p)
    return problem.evaluate(y, p)[problem.PRIMARY_METRIC], float("nan") if paid is None else paid


def _age_cost(table: pd.DataFrame, name: str) -> AgeCost:
    """The slope over the age through 0, by least squares on each day; then the mean of the days."""
    product = (table["age"] * table[name]).groupby(table["day"]).sum()
    slopes = product / (table["age"] ** 2).groupby(table["day"]).sum()
    mean = day_mean(slopes.to_numpy(), slopes.index.to_numpy(), DIFFERENCE_CORRELATION)
    half = mean.half_width(CONFIDENCE)
    return AgeCost(round(mean.value, 6), round(mean.value - half, 6), round(mean.value + half, 6))


def draw(figure: Figure, measured: dict[str, dict[str, Any]]) -> None:
    """What the age of a model costs: in the primary metric and, where it was measured, in dollars.

    The line is the price of a week with its 90 % interval. A point is the mean over the days on which models of that age
    could be compared. Old models exist only on late days, so the points are of different days and need not lie on the line.

    Args:
        figure: to draw on; one picture, or two side by side.
        measured: backtests of the same problem (`Staleness.as_dict`), by what each is called.
    """
    in_dollars = all(backtest["dollars"] for backtest in measured.values())
    pictures = figure.subplots(1, 1 + in_dollars, squeeze=False)[0]
    for number, (name, backtest) in enumerate(measured.items()):
        ages, losses = zip(*backtest["curve"], strict=True)
        color = f"C{number}"
        pictures[0].plot(ages, losses, "o", color=color, label=f"{name}: {backtest['days']} days compared")
        _price(pictures[0], ages, backtest["loss"], 1, color)
        if in_dollars:
            _price(pictures[1], ages, backtest["dollars"], 1000, color)
    more = f"more {problem.PRIMARY_METRIC} than a new model"
    for axes, label in zip(pictures, (more, "more dollars lost for 1,000 predictions"), strict=False):
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set(xlabel="weeks older than the new model", ylabel=label, xlim=(0, None))
    pictures[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.suptitle("What the age of a model costs, with 90 % intervals")


def _price(axes: Axes, ages: tuple[int, ...], week: dict[str, float], factor: float, color: str) -> None:
    """The line from 0 on, and its interval."""
    x = np.array([0, max(ages)])
    axes.plot(x, factor * week["value"] * x, color=color)
    axes.fill_between(x, factor * week["low"] * x, factor * week["high"] * x, color=color, alpha=0.15, linewidth=0)
