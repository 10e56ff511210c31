"""The plots of the report, each a picture of one question. Every function draws on given axes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from level1_pipeline import problem
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from monitoring.results import Bin, DayFigures, Effect, Performance, Release

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY, RED = "#2b6cb0", "#c05621", "#a0aec0", "#b3261e"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a value with dollars is no formula
}
BARS_SHOWN = 14  # that people can read


class Picture(NamedTuple):
    """A drawing for an HTML image that needs no file."""

    alt: str  # what it shows, to who cannot see it
    src: str  # holds the SVG


def picture(draw: Callable[[Any], None], alt: str, height: float = 3.6, rows: int = 1) -> Picture:
    """Draw on axes of our style; `height` in inches."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE | {"svg.hashsalt": alt}):  # type: ignore[arg-type]
        figure = Figure(figsize=(9, height), layout="constrained")
        draw(figure.subplots(rows, sharex=rows > 1))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Picture(alt, f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}")


def over_time(axes: Any, days: list[DayFigures], releases: tuple[Release, ...], promised: float | None) -> None:
    """Above the primary metric by day, below observed against expected; a line where another version took over."""
    x = [date.fromisoformat(day.day) for day in days]
    metric = problem.PRIMARY_METRIC
    axes[0].plot(x, _numbers(day.metrics.get(metric) for day in days), marker="o", ms=3, color=BLUE)
    axes[0].set(ylabel=f"{metric}\n(lower is better)")
    if promised is not None:
        axes[0].axhline(promised, color=GREY, ls="--", lw=1)
        axes[0].annotate(
            "at promotion", (1, promised), xycoords=("axes fraction", "data"), fontsize=8, ha="right", va="bottom"
        )
    axes[1].plot(x, _numbers(day.observed for day in days), marker="o", ms=3, color=ORANGE, label="observed")
    axes[1].plot(x, _numbers(day.expected for day in days), color=BLUE, label="expected by the model")
    share = "share of rows whose\nlikeliest class is right" if classes() else f"share of\n{problem.TARGET}"
    axes[1].set(ylabel=share if task().has_classes else f"mean {problem.TARGET}")
    axes[1].legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    _mark(axes, [release for release in releases if x and x[0] <= local_day(release) <= x[-1]])
    axes[1].tick_params(axis="x", rotation=30)


def shares(axes: Any, days: list[DayFigures]) -> None:
    """How often each class was observed, and how often the model expected it, by day."""
    x = [date.fromisoformat(day.day) for day in days]
    for number, about in enumerate(dict.fromkeys(about for day in days for about in day.shares)):
        observed, expected = zip(*(day.shares.get(about, (None, None)) for day in days), strict=True)
        axes.plot(x, _numbers(observed), marker="o", ms=3, color=f"C{number}", label=about)
        axes.plot(x, _numbers(expected), color=f"C{number}", ls="--", lw=1)
    axes.set(ylabel="share of rows\n(line: observed, dashes: expected)")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
    axes.tick_params(axis="x", rotation=30)


def local_day(release: Release) -> date:
    """The local day on which a version took over."""
    return release.at.astimezone(ZoneInfo(problem.TIMEZONE)).date()


def _mark(axes: Any, releases: list[Release]) -> None:
    for release in releases:
        for panel in axes:
            panel.axvline(local_day(release), color=RED, lw=1, ls=":")
        message = f" version {release.version}\n {release.action}"
        axes[0].annotate(
            message, (local_day(release), 1), xycoords=("data", "axes fraction"), fontsize=8, color=RED, va="top"
        )


def calibration(axes: Axes, bins: tuple[Bin, ...]) -> None:
    """Whether predictions mean what they say."""
    every = [end for part in bins for end in (part.expected, part.observed)]
    axes.plot(
        [min(every), max(every)], [min(every), max(every)], color=GREY, ls="--", label="a prediction means what it says"
    )
    most = max(part.rows for part in bins)
    for number, about in enumerate(dict.fromkeys(part.about for part in bins)):
        own = [part for part in bins if part.about == about]
        expected, observed = [part.expected for part in own], [part.observed for part in own]
        color = f"C{number}" if about else BLUE
        axes.scatter(expected, observed, s=[20 + 80 * part.rows / most for part in own], color=color, zorder=3)
        axes.plot(expected, observed, color=color, lw=1, label=about or None)
    axes.set(xlabel="what the model predicted (mean of similar scores)", ylabel=f"what happened\n({_mean()})")
    axes.legend(frameon=False, fontsize=8)


def _mean() -> str:
    return f"share of each {problem.TARGET}" if classes() else f"mean {problem.TARGET}"


def drift(axes: Axes, effects: tuple[Effect, ...]) -> None:
    """The day summaries that moved most."""
    shown = effects[:BARS_SHOWN][::-1]
    axes.barh([readable(effect.column) for effect in shown], [effect.size for effect in shown], color=BLUE)
    axes.set(xlabel="standard deviations between days (largest first; no alarm by itself)")


def readable(column: str) -> str:
    """`temp|mean` as `temp: mean`, and a share `UA|carrier` as `carrier UA: share`."""
    name, _, kind = column.rpartition("|")
    if kind in ("mean", "std", "missing"):
        return f"{name}: {kind}"
    return f"{kind} {name}: share" if name else column


def slices(axes: Axes, performance: Performance) -> None:
    """The primary metric by slice with its interval, and a line for all rows together."""
    all_ = [(part, part.metrics.get(problem.PRIMARY_METRIC)) for part in performance.slices]
    shown = [(part, value) for part, value in all_ if value and value.value is not None]
    shown = sorted(shown, key=lambda pair: -(pair[1].value or 0))[:BARS_SHOWN][::-1]
    names = [f"{part.slice.replace('=', ' ')}  (n={part.coverage.matured:,})" for part, _ in shown]
    values = [value.value or 0.0 for _, value in shown]
    below = [v - (value.low if value.low is not None else v) for v, (_, value) in zip(values, shown, strict=True)]
    above = [(value.high if value.high is not None else v) - v for v, (_, value) in zip(values, shown, strict=True)]
    axes.errorbar(values, names, xerr=[below, above], fmt="o", color=BLUE, ecolor=GREY, capsize=2)
    whole = performance.metrics.get(problem.PRIMARY_METRIC)
    if whole and whole.value is not None:
        axes.axvline(whole.value, color=ORANGE, lw=1, label="all rows")
        axes.legend(frameon=False, fontsize=8)
    axes.set(xlabel=f"{problem.PRIMARY_METRIC}, with 95 % interval (lower is better)")


def coverage(axes: Any, days: list[DayFigures]) -> None:
    """How many predictions of each day have an outcome."""
    x = [date.fromisoformat(day.day) for day in days]
    matured, rest = [day.matured for day in days], [day.predictions - day.matured for day in days]
    axes.bar(x, matured, color=BLUE, label="with an outcome")
    axes.bar(x, rest, bottom=matured, color=GREY, label="still open, or never coming")
    axes.set(ylabel="predictions a day")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    axes.tick_params(axis="x", rotation=30)


def _numbers(values: Any) -> list[float]:
    return [float("nan") if value is None else value for value in values]
