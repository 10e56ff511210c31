"""The tables of claims in docs/. A person writes their rows; `make scorecard` fills the columns `score` and `tests`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

FAILURES, LEVELS, SCORECARD = PAGES = ("docs/failures.md", "docs/levels.md", "docs/scorecard.md")
RULE = re.compile(r"\|(?:-+\|)+")


@dataclass(frozen=True)
class Row:
    """One claim: the first cell names it, and that is what a marker says."""

    cells: dict[str, str]  # by the heading of the column

    @property
    def name(self) -> str:
        """What a marker says."""
        return next(iter(self.cells.values()))

    @property
    def score(self) -> float:
        """What stands on the page. In a table without scores, each row with tests holds."""
        return float(self.cells.get("score", bool(self.cells["tests"])) or 0)

    @property
    def tests(self) -> set[str]:
        """As pytest names them."""
        links = re.findall(r"\[`(\w+)`\]\(\.\./([^)]+)\)", self.cells["tests"])
        return {f"{file}::{name}" for name, file in links}

    @property
    def code(self) -> str:
        """Links to the code that does it, where the table has them."""
        return self.cells.get("code", "")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


def _parse(text: str) -> list[tuple[int, Row]]:
    """The rows of each table that has a column `tests`, with the numbers of their lines."""
    lines, parsed, header = text.splitlines(), list[tuple[int, Row]](), list[str]()
    for number, line in enumerate(lines):
        if not line.startswith("|"):
            header = []
        elif number + 1 < len(lines) and RULE.fullmatch(lines[number + 1].replace(" ", "")):
            header = _cells(line)
        elif "tests" in header and not RULE.fullmatch(line.replace(" ", "")):
            parsed.append((number, Row(dict(zip(header, _cells(line), strict=True)))))
    return parsed


def rows(text: str) -> list[Row]:
    """All claims of a page."""
    return [row for _, row in _parse(text)]


def fill(text: str, cells: Callable[[Row], dict[str, str]]) -> str:
    """The page with new cells in the columns that its tables have; everything else stays as it is."""
    lines = text.splitlines()
    for number, row in _parse(text):
        new = {name: value for name, value in cells(row).items() if name in row.cells}
        lines[number] = "| " + " | ".join((row.cells | new).values()) + " |"
    return "\n".join(lines) + "\n"
