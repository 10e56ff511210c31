"""What each input is worth: the loss that its absence adds on newer days, with an interval over the days.

Run `make bench-inputs`. The recipe is trained on a part of the rows, so that all takes a minute or two.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from rich.table import Table

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.command_line import console, print_result
from level1_pipeline.steps.fit import fit_model

CUT = pd.Timestamp("2013-10-01", tz="UTC")
GAP = pd.Timedelta(hours=problem.GATE["maturity_hours"])
PARAMETERS = {"model__max_iter": 60}
TRAINED, JUDGED, DRAWS = 8, 3, 2000  # every so-manieth row; bootstrap samples of days


def without(rows: pd.DataFrame, name: str, like: pd.DataFrame) -> pd.DataFrame:
    """The rows with one input that says the same everywhere."""
    texts = {column.name for column in schema.columns() if column.text}
    return rows.assign(**{name: like[name].iloc[0] if name in texts else 0.0}) if name else rows


def daily_losses(older: pd.DataFrame, newer: pd.DataFrame, name: str) -> pd.Series:
    """The mean log loss of each day of a model that does not see an input."""
    p = predict(fit_model(without(older, name, older), PARAMETERS), without(newer, name, older))
    y, day = newer[problem.TARGET].to_numpy(), newer[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date
    return pd.Series(-np.log(np.where(y == 1, p, 1 - p))).groupby(day.to_numpy()).mean()


def main() -> None:
    """Print the table, the most valuable input first, and how many are shown to be worth something."""
    rows = problem.load(pd.Timestamp("2100-01-01", tz="UTC"))
    rows = rows[rows[problem.TARGET].notna()]
    older = rows[rows[problem.EVENT_TIME] < CUT - GAP].iloc[::TRAINED]
    newer = rows[rows[problem.EVENT_TIME] >= CUT].iloc[::JUDGED]
    complete, draw = daily_losses(older, newer, ""), np.random.default_rng(0)
    worth = []
    for name in schema.names():
        days = (daily_losses(older, newer, name) - complete).to_numpy()
        low, high = np.quantile(draw.choice(days, (DRAWS, len(days))).mean(axis=1), [0.025, 0.975])
        worth.append((name, days.mean(), low, high))
    table = Table("input", "worth", "95 % interval")
    for name, mean, low, high in sorted(worth, key=lambda line: -line[1]):
        table.add_row(name, f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}")
    console.print(table)
    helps, harms = sum(low > 0 for *_, low, _ in worth), sum(high < 0 for *_, high in worth)
    print_result("bench-inputs", f"{helps} of {len(worth)} inputs are shown to be worth something, {harms} to do harm")


if __name__ == "__main__":
    main()
