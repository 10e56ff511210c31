"""`make bench-gate`: how often does the gate let an ordinary retraining pass, and how often a spoiled one?

For many days of the real year a champion is fitted as of that day minus one of `AGES`, and challengers as of the day
itself: one as it should be, others on partly spoiled rows. Each is judged as in a run, on the newest 14 days and on
the trusted set. Three assumptions are measured: only the training rows are spoiled; training rows and holdout are
spoiled alike, and the champion was trained before the fault; or the champion was trained after it, too. The trusted
set is right in all of them. The tables stand in docs/level1.md.

Each model is fitted once. `--cache FOLDER` keeps what the models say, so that a run that was stopped goes on, and a
change of the gate is measured without a fit. Delete the folder after a change of recipe or data.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.labels import trusted_checks
from level1_pipeline.evaluation.labels.label_rates import label_rates
from level1_pipeline.evaluation.labels.trusted_set import trusted_span
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import SplitRows, split_rows
from level1_pipeline.steps.train import fit_baselines
from level1_pipeline.store.days import start_of

AGES = (21, 35)  # days between the champion's training and the challenger's
DATES = pd.date_range("2013-04-12", "2013-12-20", freq="14D")
LAST_WEEKS = pd.Timedelta("28D")
TRAIN, BEFORE, AFTER = "only training rows", "source, champion before", "source, champion after"  # what is spoiled

Spoil = Callable[[pd.DataFrame, pd.Timestamp], pd.DataFrame]  # of rows, and the time of the newest row to train on


def _flip(rows: pd.DataFrame, where: np.ndarray, share: float) -> pd.DataFrame:
    """Wrong labels in a share of the rows `where`, always in the same rows."""
    hit = where & (np.random.default_rng(0).random(len(rows)) < share)
    return rows.assign(**{problem.TARGET: rows[problem.TARGET].where(~hit, 1 - rows[problem.TARGET])})


def _recent(rows: pd.DataFrame, newest: pd.Timestamp) -> np.ndarray:
    return (rows[problem.EVENT_TIME] > newest - LAST_WEEKS).to_numpy()


def _stuck(rows: pd.DataFrame, newest: pd.Timestamp) -> pd.DataFrame:
    stuck = _recent(rows, newest) & (rows[problem.EVENT_TIME] <= newest).to_numpy()
    return rows.assign(recent_delay=rows["recent_delay"].where(~stuck, 0.0))


STORIES: dict[str, tuple[str, Spoil, tuple[str, ...]]] = {  # title, what is wrong, and where it is measured
    "ordinary": ("as it should be (the gate's power)", lambda rows, _: rows, (TRAIN,)),
    "flipped10": (
        "10 % of all labels flipped",
        lambda rows, _: _flip(rows, np.ones(len(rows), bool), 0.1),
        (TRAIN, BEFORE, AFTER),
    ),
    "airport40": (
        "40 % of one airport's labels flipped",
        lambda rows, _: _flip(rows, (rows["origin"] == "JFK").to_numpy(), 0.4),
        (TRAIN, BEFORE, AFTER),
    ),
    "recent30": (
        "30 % of the last four weeks' labels flipped",
        lambda rows, newest: _flip(rows, _recent(rows, newest), 0.3),
        (TRAIN, BEFORE),
    ),
    "stuck": ("recent delay stuck at 0 for four weeks", _stuck, (TRAIN,)),
}


@dataclass(frozen=True)
class Predictions:
    """What models say about the holdout and the trusted rows, by name."""

    values: dict[str, np.ndarray]

    @classmethod
    def kept(cls, path: Path | None, make: Callable[[], dict[str, np.ndarray]]) -> Predictions:
        """What is in the file, or what `make` gives."""
        if path is not None and path.exists():
            return cls(dict(np.load(path)))
        values = make()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{os.getpid()}.npz")  # several runs may share a cache
            np.savez(partial, **values)  # type: ignore[arg-type]
            partial.replace(path)
        return cls(values)


class Year:
    """The real year, as it was and as faults of its source would have it."""

    def __init__(self, cache: Path | None) -> None:
        self.rows, self.cache = problem.load(start_of("2014-01-15")), cache
        span = trusted_span()
        assert span is not None, "the problem names no TRUSTED_LABELS"
        self.trusted = span.labelled(self.rows)

    def as_known(self, story: str, date: pd.Timestamp) -> SplitRows:
        """The split that a run as of that day would make of a source with the story's fault."""
        as_of = start_of(date.date())
        newest = split_rows(self._until(self.rows, as_of), as_of).train[problem.EVENT_TIME].max()
        return split_rows(self._until(STORIES[story][1](self.rows, newest), as_of), as_of)

    @staticmethod
    def _until(rows: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
        early = rows[rows[problem.EVENT_TIME] < as_of]
        return early.assign(**{problem.TARGET: early[problem.TARGET].where(early[problem.LABEL_TIME] < as_of)})

    def challenger(self, story: str, date: pd.Timestamp, split: SplitRows) -> Predictions:
        """The evaluation model and the baselines of a run as of that day."""

        def make() -> dict[str, np.ndarray]:
            model = fit_model(split.train)
            simple = {name: predict(fitted, split.holdout) for name, fitted in fit_baselines(split.train).items()}
            return {"holdout": predict(model, split.holdout), "trusted": predict(model, self.trusted), **simple}

        return Predictions.kept(self.cache and self.cache / f"{story}-{date.date()}.npz", make)

    def champion(self, story: str, date: pd.Timestamp) -> Predictions:
        """The served model of a run as of that day, on every later row and on the trusted set."""
        later = self.rows[self.rows[problem.EVENT_TIME] >= start_of(date.date())]

        def make() -> dict[str, np.ndarray]:
            model = fit_model(self.as_known(story, date).pool)
            return {"later": predict(model, later), "trusted": predict(model, self.trusted)}

        values = Predictions.kept(self.cache and self.cache / f"champion-{story}-{date.date()}.npz", make).values
        return Predictions(values | {"index": later.index.to_numpy()})


def label_checks(split: SplitRows, trusted: pd.DataFrame, challenger: Predictions) -> set[str]:
    """What the gate asks of labels, whoever the champion is: the names of the checks that do not pass."""
    checks = [
        label_rates(split.train, split.holdout, trusted),
        trusted_checks.confirmed_labels(trusted, split.train),
        trusted_checks.agrees_with_labels(trusted, challenger.values["trusted"]),
    ]
    return {check.name for check in checks if check.status != "pass"}


def quality_checks(
    holdout: pd.DataFrame, trusted: pd.DataFrame, challenger: Predictions, champion: Predictions
) -> set[str]:
    """What the gate asks of quality: the names of the checks that do not pass."""
    p, theirs = challenger.values["holdout"], champion.values
    served = pd.Series(theirs["later"], theirs["index"])[holdout.index].to_numpy()
    baselines = {name: values for name, values in challenger.values.items() if name not in ("holdout", "trusted")}
    checks = [
        *gate.within_limits(problem.evaluate(holdout[problem.TARGET].to_numpy(), p)),
        *gate.beats(holdout, p, baselines),
        *gate.better_than_champion(holdout, served, p, "champion")[0],
        trusted_checks.agrees_as_champion_does(
            trusted, challenger.values["trusted"], theirs["trusted"], "the champion"
        ),
    ]
    return {check.name for check in checks if check.status != "pass"}


def measure(year: Year) -> dict[tuple[str, str], list[tuple[int, set[str]]]]:
    """For each assumption and story: age and failed checks, for each date and age."""
    results: dict[tuple[str, str], list[tuple[int, set[str]]]] = {}
    for date in track(DATES, "dates of the year"):
        clean = year.as_known("ordinary", date)
        for story, (_, _, assumptions) in STORIES.items():
            spoiled = year.as_known(story, date)
            challenger = year.challenger(story, date, spoiled)
            for assumption in assumptions:
                split = SplitRows(spoiled.train, clean.holdout) if assumption == TRAIN else spoiled
                wrong_labels = label_checks(split, year.trusted, challenger)
                for age in AGES:
                    trained = date - pd.Timedelta(days=age)
                    champion = year.champion(story if assumption == AFTER else "ordinary", trained)
                    against = wrong_labels | quality_checks(split.holdout, year.trusted, challenger, champion)
                    results.setdefault((assumption, story), []).append((age, against))
    return results


def promoted(outcomes: list[tuple[int, set[str]]], without: str = "") -> float:
    """The share that passes, if one check were not there."""
    return float(np.mean([not against - {without} for _, against in outcomes]))


def main() -> None:
    """Measure and print the shares, with their number of dates."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path)
    results = measure(Year(parser.parse_args().cache))
    titles = [f"{age} days younger" for age in AGES]
    table = Table("what is spoiled", "story", *titles, "without confirmed labels", "refused most often by")
    for (assumption, story), outcomes in results.items():
        parts = [[not against for age_, against in outcomes if age_ == age] for age in AGES]
        shares = [f"{np.mean(part):.0%} ({sum(part)} of {len(part)})" for part in parts]
        most = Counter(name for _, against in outcomes for name in against).most_common(4)
        reasons = ", ".join(f"{name} {count / len(outcomes):.0%}" for name, count in most)
        rest = f"{promoted(outcomes, trusted_checks.UNCHANGED):.0%}"
        table.add_row(assumption, STORIES[story][0], *shares, rest, reasons)
    Console(width=180).print(table)
    shares_of = {
        assumption: " ".join(f"{story}={promoted(out):.2f}" for (a, story), out in results.items() if a == assumption)
        for assumption in (TRAIN, BEFORE, AFTER)
    }
    print(f"bench-gate | {shares_of[TRAIN]} | source_spoiled {shares_of[BEFORE]} | champion_spoiled {shares_of[AFTER]}")


if __name__ == "__main__":
    main()
