"""`make bench-drift`: how often does drift cry wolf, and how soon does it see a shift?  Ours beside Evidently's default.

A/A windows are seven days against 28 other days of the same quarter of the real year: the season is in both, so
nothing has moved. The days are random ones, or consecutive ones with the 28 before and after them, because a loop only
ever sees consecutive days. How often the loop would train for nothing, and what an interval covers, is counted on
every run of consecutive days whose scores are calibrated in the quarter. Then shifts of known size are planted in the
newest days of real weeks, to see after how many days the drift test sees them.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation.day_mean import DAY_CORRELATION, day_mean
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.evaluation.metrics import CONFIDENCE
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import split_rows
from level1_pipeline.store.days import start_of
from monitoring.detectors import concept_drift, drift
from monitoring.reporting import plots
from monitoring.thresholds import LAST_WINDOWS, PERSISTENT_WINDOWS

WINDOWS = 500
EVIDENTLY_WINDOWS = 50  # a report takes seconds
CURRENT, REFERENCE = 7, 28
LENGTHS = (3, 5, 7)  # days since the shift began
STARTS = (
    "2013-05-06",
    "2013-06-03",
    "2013-07-08",
    "2013-08-05",
    "2013-09-09",
    "2013-10-07",
    "2013-11-04",
    "2013-12-02",
)
COVERED = (7, 14, 20)  # days of the windows whose intervals are tried
HOW_TO_SET = (
    "For another problem: the thresholds stand in monitoring/thresholds.py. More false retrainings than 1 % of the windows: "
    "raise LASTING_MIN_BIAS or LASTING_CONFIDENCE.\nIntervals that cover less than 90 %: raise DAY_CORRELATION in "
    "evaluation/day_mean.py. A planted shift that you would want to see is missed: lower the confidence, and look at the "
    "false alarms again."
)
PLOT = Path(__file__).parents[2] / "docs" / "drift.svg"


@dataclass(frozen=True)
class Year:
    """The rows that a model trained as of 1 April had not seen, with its scores, and their day summaries."""

    rows: pd.DataFrame
    summaries: pd.DataFrame

    def days(self, chosen: np.ndarray) -> pd.DataFrame:
        """The rows of some days."""
        return self.rows[self.rows["day"].isin(set(chosen))]


def prepare(rows: pd.DataFrame) -> Year:
    """Score the year from April on, and summarise its days once."""
    split = split_rows(rows[rows[problem.EVENT_TIME] < start_of("2013-04-01")], start_of("2013-04-01"))
    later = rows[rows[problem.EVENT_TIME] >= start_of("2013-04-01")].reset_index(drop=True)
    later["score"] = predict(fit_model(split.pool), later)
    later["day"] = later[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    later["calibrated"] = calibrated(later)
    return Year(later, summarise(later))


def summarise(rows: pd.DataFrame, like: pd.DataFrame | None = None) -> pd.DataFrame:
    """Day summaries as a pass makes them, the predictions' included."""
    scores = rows["score"].groupby(rows["day"]).agg(["mean", "std"]).add_prefix("score|")
    return day_summaries(rows, like).join(scores)


def unmoved(year: Year, count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of current and reference days of one quarter, drawn without replacement."""
    draw = np.random.default_rng(seed)
    every = pd.Series(year.summaries.index)
    quarter = _quarter(every)
    for _ in range(count):
        days = every[quarter == draw.choice(quarter.unique())].sample(CURRENT + REFERENCE, random_state=draw)
        yield days.to_numpy()[:CURRENT], days.to_numpy()[CURRENT:]


def consecutive(year: Year, length: int) -> list[np.ndarray]:
    """Every run of so many consecutive days within one quarter."""
    every = year.summaries.index.to_numpy()
    quarter = _quarter(pd.Series(every)).to_numpy()
    starts = range(len(every) - length + 1)
    return [every[start : start + length] for start in starts if quarter[start] == quarter[start + length - 1]]


def unmoved_weeks(year: Year, count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of seven consecutive days and the 28 days around them."""
    draw = np.random.default_rng(seed)
    runs = consecutive(year, CURRENT + REFERENCE)
    for _ in range(count):
        run, first = runs[draw.integers(len(runs))], draw.integers(REFERENCE + 1)
        yield run[first : first + CURRENT], np.delete(run, np.s_[first : first + CURRENT])


def alarms(year: Year, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The share of A/A windows in which the drift test says `moved`."""
    tests = [drift.decide(year.summaries.loc[reference], year.summaries.loc[now], []) for now, reference in pairs]
    return float(np.mean([test.verdict == "moved" for test in tests]))


def _check(year: Year, days: np.ndarray, lasting: bool = False) -> concept_drift.ConceptDrift:
    rows = year.days(days)
    rows = rows[rows[problem.TARGET].notna()].reset_index(drop=True)
    return concept_drift.check(rows, rows["calibrated"].to_numpy(), lasting=lasting)


def signals(year: Year) -> float:
    """The share of consecutive weeks in which the relation of calibrated scores and outcomes is called changed."""
    return float(np.mean([bool(_check(year, week).changed) for week in consecutive(year, CURRENT)]))


def false_retrainings(year: Year) -> tuple[int, int]:
    """On how many runs of consecutive weeks the loop would train although the scores are calibrated; and of how many.

    The rule is that of `measured.Measured.lasting`.
    """
    runs = consecutive(year, CURRENT * LAST_WINDOWS)
    return sum(_acted(year, run) for run in runs), len(runs)


def _acted(year: Year, run: np.ndarray) -> bool:
    over = _check(year, run, lasting=True)
    if not (over.changed and over.everywhere):
        return False
    weeks = [concept_drift.same_direction(_check(year, week), over) for week in np.split(run, LAST_WINDOWS)]
    return sum(weeks) >= PERSISTENT_WINDOWS and weeks[-1]


def coverage(year: Year, length: int, correlation: float = DAY_CORRELATION) -> dict[str, float]:
    """The share of runs of consecutive days whose nominal 95 % interval covers the mean of the quarter.

    Of the daily difference between observed and expected outcome (`bias`) and loss (`excess`).
    """
    rows = year.rows[year.rows[problem.TARGET].notna()]
    daily = concept_drift.daily_figures(rows, rows["calibrated"].to_numpy())
    daily = daily - daily.groupby(_quarter(pd.Series(daily.index)).to_numpy()).transform("mean")
    covered: dict[str, list[bool]] = {name: [] for name in daily}
    for run in consecutive(year, length):
        for name in daily:
            mean = day_mean(daily.loc[run, name].to_numpy(), run, correlation)
            covered[name].append(abs(mean.value) <= mean.half_width((1 + CONFIDENCE) / 2))
    return {name: float(np.mean(hits)) for name, hits in covered.items()}


def calibrated(rows: pd.DataFrame) -> np.ndarray:
    """The scores, calibrated in each quarter: the model really is off in some, and in an A/A test nothing may be."""
    from sklearn.linear_model import LogisticRegression

    logit = np.log(rows["score"] / (1 - rows["score"])).to_numpy()[:, None]
    scores, quarter, labelled = np.empty(len(rows)), _quarter(rows["day"]), rows[problem.TARGET].notna().to_numpy()
    for number in quarter.unique():
        within = (quarter == number).to_numpy()
        fitted = LogisticRegression().fit(logit[within & labelled], rows[problem.TARGET][within & labelled])
        scores[within] = fitted.predict_proba(logit[within])[:, 1]
    return scores


def _quarter(days: pd.Series) -> pd.Series:
    return pd.to_datetime(days).dt.quarter


def theirs(year: Year, count: int = EVIDENTLY_WINDOWS) -> tuple[int, float]:
    """In how many A/A windows Evidently's default preset calls the data set drifted, and the mean share of columns."""
    alarms, shares = 0, []
    for current, reference in unmoved(year, count):
        share = share_of_drifted(year.days(reference), year.days(current))
        alarms += share >= 0.5
        shares.append(share)
    return alarms, float(np.mean(shares))


def share_of_drifted(reference: pd.DataFrame, current: pd.DataFrame) -> float:
    """What `DataDriftPreset()` says: the share of drifted columns, inputs and predictions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from evidently import Report
        from evidently.presets import DataDriftPreset

        names = [*schema.names(), "score"]
        run = Report([DataDriftPreset()]).run(reference_data=reference[names], current_data=current[names])
        values = [metric["value"] for metric in run.dict()["metrics"]]
    return float(next(value["share"] for value in values if isinstance(value, dict) and "share" in value))


Shift = Callable[[pd.DataFrame], pd.DataFrame]


def _moved(name: str, size: float) -> Shift:
    def shift(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{name: rows[name] + size * rows[name].std()})

    return shift


SHIFTS: dict[str, Shift] = {
    "recent delay + 0.5 SD": _moved("recent_delay", 0.5),
    "recent delay + 1 SD": _moved("recent_delay", 1.0),
    "temperature + 2 SD": _moved("temp", 2.0),
    "°C for °F": lambda rows: rows.assign(temp=(rows["temp"] - 32) / 1.8),
    "stuck temperature": lambda rows: rows.assign(temp=50.0),
    "clock + 1 h": lambda rows: rows.assign(departure_minute=(rows["departure_minute"] + 60) % 1440),
    "nulls at JFK": lambda rows: rows.assign(recent_delay=rows["recent_delay"].mask(rows["origin"] == "JFK")),
}


def delays(year: Year) -> dict[str, dict[int, float]]:
    """For each shift the share of real weeks in which the drift test sees it when it is that many days old.

    The window is the last seven days; only its newest days are shifted, so the first figures are hard.
    """
    result: dict[str, dict[int, float]] = {}
    for name, shift in SHIFTS.items():
        for length in LENGTHS:
            seen = [_sees(year, start, length, shift) for start in STARTS]
            result.setdefault(name, {})[length] = float(np.mean(seen))
    return result


def _sees(year: Year, start: str, length: int, shift: Shift) -> bool:
    first = pd.Timestamp(start).date()
    days = np.array([item for item in year.summaries.index if item >= first][:CURRENT])
    before = np.array([item for item in year.summaries.index if item < first][-REFERENCE:])
    shifted = summarise(shift(year.days(days[-length:])), like=year.summaries)
    current = pd.concat([year.summaries.loc[days[:-length]], shifted])
    return drift.decide(year.summaries.loc[before], current, []).verdict == "moved"


def main() -> None:
    """Measure, print, and draw."""
    year = prepare(problem.load(start_of("2014-01-15"), None, Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    random, in_a_row = alarms(year, unmoved(year, WINDOWS)), alarms(year, unmoved_weeks(year, WINDOWS))
    wrong, runs = false_retrainings(year)
    evidently, share = theirs(year)
    table = Table("with nothing moved", "drift test", "Evidently's default preset")
    table.add_row("alarms, random days", f"{random:.1%} of {WINDOWS}", f"{evidently} of {EVIDENTLY_WINDOWS}")
    table.add_row("alarms, consecutive days", f"{in_a_row:.1%} of {WINDOWS}", "-")
    table.add_row("columns called drifted", "never by themselves", f"{share:.0%}")
    table.add_row("weeks whose relation is called changed", f"{signals(year):.1%}", "-")
    table.add_row("false retrainings", f"{wrong} of {runs}", "-")
    intervals = Table("consecutive days", "as independent days", "bias covered", "loss covered", title="95 % intervals")
    covered = {length: coverage(year, length) for length in COVERED}
    for length, shares in covered.items():
        naive = " / ".join(f"{value:.0%}" for value in coverage(year, length, 0.0).values())
        intervals.add_row(str(length), naive, f"{shares['bias']:.0%}", f"{shares['excess']:.0%}")
    seen = delays(year)
    power = Table("planted shift", *[f"seen after {length} days" for length in LENGTHS])
    for name, shares_seen in seen.items():
        power.add_row(name, *[f"{shares_seen[length]:.0%}" for length in LENGTHS])
    Console().print(table, intervals, power)
    draw(random, evidently / EVIDENTLY_WINDOWS, share, seen)
    print(HOW_TO_SET)
    ours = f"aa_random={random:.3f} aa_consecutive={in_a_row:.3f} false_retrainings={wrong / runs:.3f}"
    least = " ".join(f"coverage{length}={min(shares.values()):.3f}" for length, shares in covered.items())
    print(f"bench-drift | {ours} | {least} | evidently={evidently / EVIDENTLY_WINDOWS:.2f} columns={share:.2f}")


def draw(gate: float, evidently: float, share: float, seen: dict[str, dict[int, float]]) -> None:
    """The plot of the docs."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(plots.STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        names = ["drift test:\nalarms", "Evidently:\nalarms", "Evidently:\ncolumns flagged"]
        left.bar(names, [gate, evidently, share], color=[plots.BLUE, plots.GREY, plots.GREY])
        left.axhline(0.01, color=plots.RED, lw=1)
        left.set(title="Nothing moved: share of A/A windows", ylim=(0, 1))
        for name, shares in seen.items():
            right.plot(list(shares), list(shares.values()), marker="o", label=name)
        right.set(title="Planted shift: share of weeks seen by the drift test", xlabel="days since the shift began")
        right.set(ylim=(-0.03, 1.05), xticks=list(LENGTHS))
        right.legend(fontsize=7)
        figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    main()
