"""`make bench-gate`: how often does the gate let an ordinary retraining pass, and how often a spoiled one?

For many days of the real year a champion is fitted as of that day minus `AGE` days, and challengers
as of the day itself: one as it should be, others on partly spoiled training data. Each is judged
exactly as in a run, on the newest 14 days. The table and the plot stand in docs/level1.md.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation import gate
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import SplitRows, split_rows
from level1_pipeline.steps.train import fit_baselines
from level1_pipeline.store.days import start_of

AGES = (21, 35)  # days between the champion's training and the challenger's
EVERY = "14D"
LAST_WEEKS = pd.Timedelta("28D")


def _flip(rows: pd.DataFrame, where: np.ndarray, share: float) -> pd.DataFrame:
    """Wrong labels in a share of the rows `where`."""
    hit = where & (np.random.default_rng(0).random(len(rows)) < share)
    return rows.assign(**{problem.TARGET: rows[problem.TARGET].where(~hit, 1 - rows[problem.TARGET])})


def _recent(rows: pd.DataFrame) -> np.ndarray:
    return (rows[problem.EVENT_TIME] > rows[problem.EVENT_TIME].max() - LAST_WEEKS).to_numpy()


CHALLENGERS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "ordinary": lambda rows: rows,
    "10 % of all labels flipped": lambda rows: _flip(rows, np.ones(len(rows), bool), 0.1),
    "30 % of the last 4 weeks' labels flipped": lambda rows: _flip(rows, _recent(rows), 0.3),
    "40 % of JFK's labels flipped": lambda rows: _flip(rows, (rows["origin"] == "JFK").to_numpy(), 0.4),
    "recent delay stuck at 0 for 4 weeks": lambda rows: rows.assign(
        recent_delay=rows["recent_delay"].where(~_recent(rows), 0.0)
    ),
}


def as_known(year: pd.DataFrame, as_of: pd.Timestamp) -> SplitRows:
    """The split that a run as of that day would make."""
    known = year[year[problem.EVENT_TIME] < as_of]
    return split_rows(
        known.assign(**{problem.TARGET: known[problem.TARGET].where(known[problem.LABEL_TIME] < as_of)}), as_of
    )


def passes(
    holdout: pd.DataFrame, champion: np.ndarray, challenger: np.ndarray, baselines: dict[str, np.ndarray]
) -> bool:
    """Would the gate promote the challenger?"""
    checks = [
        *gate.within_limits(problem.evaluate(holdout[problem.TARGET].to_numpy(), challenger)),
        *gate.beats(holdout, challenger, baselines),
        *gate.better_than_champion(holdout, champion, challenger, "champion")[0],
    ]
    return gate.Verdict(tuple(checks)).status == "pass"


def judged(rows: pd.DataFrame, holdout: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """What a challenger trained on `rows` says of the holdout, and what the baselines say."""
    simple = {name: predict(model, holdout) for name, model in fit_baselines(rows).items()}
    return predict(fit_model(rows), holdout), simple


def main() -> None:
    """Measure and print the shares, with their number of dates."""
    year = problem.load(start_of("2014-01-15"))
    results: dict[tuple[int, str], list[bool]] = {}
    for date in track(pd.date_range("2013-04-12", "2013-12-20", freq=EVERY), "dates of the year"):
        split = as_known(year, start_of(str(date.date())))
        challengers = {name: judged(spoil(split.train), split.holdout) for name, spoil in CHALLENGERS.items()}
        for age in AGES:
            champion = fit_model(as_known(year, start_of(str((date - pd.Timedelta(days=age)).date()))).pool)
            served = predict(champion, split.holdout)
            for name, (predicted, baselines) in challengers.items():
                passed = passes(split.holdout, served, predicted, baselines)
                results.setdefault((age, name), []).append(passed)
    table = Table("training data of the challenger", *[f"promoted, {age} days younger" for age in AGES])
    for name in CHALLENGERS:
        shares = [
            f"{np.mean(results[age, name]):.0%} ({sum(results[age, name])} of {len(results[age, name])})"
            for age in AGES
        ]
        table.add_row(name, *shares)
    Console().print(table)
    false = np.mean([passed for (age, name), all_ in results.items() if name != "ordinary" for passed in all_])
    power = " ".join(f"power_{age}_days={np.mean(results[age, 'ordinary']):.2f}" for age in AGES)
    print(f"bench-gate | {power} | spoiled ones promoted: {false:.2f}")


if __name__ == "__main__":
    main()
