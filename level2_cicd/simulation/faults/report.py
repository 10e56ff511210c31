"""What people see of planted faults: a table in the terminal and on the page, and each missed goal in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from level1_pipeline import problem
from level1_pipeline.command_line import LiteralConsole
from level2_cicd.simulation.faults.figures import FaultFigures

WIDTH = 150  # of the table, where the terminal is narrower or a file
COLUMNS = (
    "fault",
    "kind",
    "days",
    "to detect",
    "alarm",
    "to recover",
    "other action",
    "trainings",
    "bad",
    "loss elsewhere",
)


def cells(figures: FaultFigures) -> list[str]:
    """A row of the table of faults, as text."""
    return [
        figures.name,
        figures.kind,
        f"{figures.days}",
        "-" if figures.detected is None else f"{figures.detected}",
        figures.alarm or "-",
        "-" if figures.recovered is None else f"{figures.recovered}",
        f"{figures.other_actions:,}",
        f"{figures.caused}",
        f"{figures.bad}",
        "-" if figures.ratio is None else f"{figures.ratio:.4f}",
    ]


def show(faults: Sequence[FaultFigures], console: Console) -> None:
    """The table of faults in the terminal, and each missed goal in words."""
    table = Table(title=f"{problem.NAME}: faults planted on {faults[0].first}", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in ("fault", "kind", "alarm") else "right", no_wrap=True)
    for figures in faults:
        table.add_row(*cells(figures))
    LiteralConsole(file=console.file, width=max(console.width, WIDTH)).print(table)
    for line in missed(faults):
        console.print(f"  {line}")


def missed(faults: Sequence[FaultFigures]) -> list[str]:
    """Each missed goal in words."""
    lines = [line for figures in faults for line in figures.misses]
    return lines or ["Every goal was reached."]
