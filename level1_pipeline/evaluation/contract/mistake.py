"""A mistake in problem.py, and how a mistyped name is recognised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Mistake:
    """One mistake, for one line."""

    where: str  # the name in problem.py
    text: str  # what is wrong, and what to do

    def __str__(self) -> str:
        """The line."""
        return f"{self.where}: {' '.join(self.text.split())}"


def did_you_mean(name: object, possible: Iterable[str]) -> str:
    """The question to ask about a name that does not exist; else those that do."""
    names = list(possible)
    close = get_close_matches(str(name), names, 1)
    return f"did you mean '{close[0]}'?" if close else f"possible are {', '.join(names) or 'none'}"
