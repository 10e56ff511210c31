"""What people see of a scoreboard: a table in the terminal, what it says in words, and a page whose prices they change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.command_line import LiteralConsole
from level2_cicd.simulation.faults import report
from level2_cicd.simulation.faults.figures import FaultFigures
from level2_cicd.simulation.scoreboard import COMPUTE_DOLLARS, HOUR_DOLLARS, Row, Scoreboard
from monitoring.reporting.plots import BLUE, GREY, ORANGE, RED, Picture, picture

COLOURS = {
    "never": GREY,
    "level 0": "#718096",
    "level 1": ORANGE,
    "weekly": RED,
    "evidently": "#6b46c1",
    "level 2": BLUE,
}
ORACLE = "oracle"
WIDTH = 150  # of the table, where the terminal is narrower or a file
COLUMNS = (
    "policy",
    problem.PRIMARY_METRIC,
    "/ oracle",
    "trainings",
    "promotions",
    "bad",
    "rollbacks",
    "by hand",
    "wrong, $",
    "versions, $",
    "people, $",
    "all, $",
)


def cells(row: Row) -> list[str]:
    """A row of the table, as text."""
    played = row.played
    return [
        played.name,
        f"{row.loss:.4f}",
        f"{row.over_oracle:.4f}",
        f"{played.trainings}",
        f"{len(played.promotions)}",
        f"{row.bad}",
        f"{played.rollbacks}",
        f"{played.manual_steps}",
        "-" if row.wrong is None else f"{row.wrong:,.0f}",
        f"{row.new_versions_dollars:,.0f}",
        f"{row.people_hours * HOUR_DOLLARS:,.0f}",
        f"{row.total:,.0f}",
    ]


def show(board: Scoreboard, console: Console) -> None:
    """The table in the terminal."""
    table = Table(title=f"{problem.NAME}: {board.world.first} to {board.world.last}", title_justify="left")
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if place else "left", no_wrap=True)
    for row in board.rows:
        table.add_row(*cells(row))
    table.add_row(ORACLE, f"{board.oracle:.4f}", "1.0000")
    LiteralConsole(file=console.file, width=max(console.width, WIDTH)).print(table)


def lessons(board: Scoreboard) -> list[str]:
    """What one sees, in words."""
    never, level1, level2, best = board.row("never"), board.row("level 1"), board.row("level 2"), board.cheapest
    told = [f"The fewest dollars has the policy '{best.played.name}': {best.total:,.0f}."]
    if never and level2:
        loss = f"{problem.PRIMARY_METRIC} {level2.loss:.4f} against {never.loss:.4f}"
        told.append(f"Level 2 against never training: {loss}, {_saved(never, level2)}.")
    if level1 and level2:
        told.append(f"Level 2 against Level 1's calendar: {_saved(level1, level2)}.")
    for row in board.rows:
        told += [
            f"Bad promotion of '{row.played.name}' on {each.day}: version {each.version} was {each.worse_by:+.4f} a day "
            f"worse than {each.predecessor} ({each.low:+.4f} to {each.high:+.4f})."
            for each in row.played.promotions
            if each.bad
        ]
    if never and level2:
        told.append(_break_even(never, level2))
    return told


def _saved(other: Row, level2: Row) -> str:
    gain = other.total - level2.total
    return f"{abs(gain):,.0f} dollars {'saved' if gain >= 0 else 'lost'}"


def _break_even(never: Row, level2: Row) -> str:
    """The share of the traffic at which training as Level 2 did pays just what it costs, in words."""
    saved, paid = (never.wrong or 0.0) - (level2.wrong or 0.0), level2.total - (level2.wrong or 0.0)
    if saved <= paid:
        return "Here the trainings of Level 2 cost more than they saved: with this traffic nobody should train."
    return f"With less than {paid / saved:.1%} of this traffic, they would cost more than they save, and nobody should train."


def write(board: Scoreboard, path: Path, faults: Sequence[FaultFigures] = ()) -> Path:
    """The page, whole or not at all."""
    source = Path(__file__).with_name("scoreboard.html").read_text(encoding="utf-8")
    page = (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        .from_string(source)
        .render(
            problem=problem.NAME,
            world=board.world,
            head=COLUMNS,
            rows=[cells(row) for row in board.rows],
            oracle=f"{board.oracle:.4f}",
            lessons=lessons(board),
            pictures=[_weekly(board), _totals(board)],
            figures=[_figures(row) for row in board.rows],
            prices={
                "hour": HOUR_DOLLARS,
                "training": board.training_dollars,
                "compute": COMPUTE_DOLLARS,
            },
            notes=[(row.played.name, row.played.notes) for row in board.rows if row.played.notes],
            fault_head=report.COLUMNS,
            faults=[(report.cells(figures), figures) for figures in faults],
            missed=report.missed(faults),
            promotions=[(row.played.name, each) for row in board.rows for each in row.played.promotions],
        )
    )
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
    return path


def _figures(row: Row) -> dict[str, Any]:
    """What the page computes with when a price is changed."""
    return {
        "name": row.played.name,
        "wrong": row.wrong or 0.0,
        "trainings": row.played.trainings,
        "hours": row.people_hours,
        "compute": row.played.compute / 1e9,
    }


def _weekly(board: Scoreboard) -> Picture:
    def draw(axes: Any) -> None:
        days = pd.to_datetime(board.world.mondays)
        for row in board.rows:
            excess = np.array(row.weekly) / np.array(board.oracle_weekly) - 1
            axes.plot(days, 100 * excess, label=row.played.name, color=COLOURS.get(row.played.name), lw=1.5)
        axes.axhline(0, color=GREY, lw=1)
        axes.set(ylabel=f"{problem.PRIMARY_METRIC} above the oracle's, %")
        axes.legend(ncols=3, fontsize=8)

    return picture(draw, f"{problem.PRIMARY_METRIC} of each week above the oracle's, for each policy")


def _totals(board: Scoreboard) -> Picture:
    def draw(axes: Any) -> None:
        ranked = sorted(board.rows, key=lambda row: row.total, reverse=True)
        names = [row.played.name for row in ranked]
        axes.barh(names, [row.total / 1000 for row in ranked], color=[COLOURS.get(name, GREY) for name in names])
        low = min(row.total for row in ranked)
        axes.set(xlabel="thousand dollars: wrong decisions, new versions and people", xlim=(0.95 * low / 1000, None))

    return picture(draw, "All dollars of each policy", height=2.6)
