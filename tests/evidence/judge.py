"""What holds: a row of a page is shown when all its tests passed on this content and its code is there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tests.evidence.marks import MarkedTest
from tests.evidence.pages import Row
from tests.evidence.results import ABOUT_FLIGHTS, NOT_RUN, Results
from tests.support import ROOT
from tests.support.pages import missing_symbols

SECTIONS = ("Data", "Model", "Infra", "Monitor")  # of the ML Test Score


@dataclass(frozen=True)
class Finding:
    """How a row stands now."""

    row: Row
    tests: tuple[MarkedTest, ...]
    missing: tuple[str, ...]  # why it is not shown; empty when it is
    unknown: bool  # nothing speaks against it, but some test has not run on this content

    @property
    def score(self) -> float:
        """1 if tests show it, 0.5 if a person does it by a documented procedure."""
        return 1 if not self.missing else 0.5 if self.row.cells.get("by hand") else 0


def find(row: Row, tests: tuple[MarkedTest, ...], results: Results) -> Finding:
    """How a row stands, from its marked tests and how they ended.

    With another problem.py, tests about flights say nothing: they count only where no other test shows the row.
    """
    ends = {test.id: results.of(test.id) for test in tests}
    for_all = {test: end for test, end in ends.items() if ABOUT_FLIGHTS not in end}
    wrong = {test: end for test, end in (for_all or ends).items() if end != "passed"}
    missing = [f"{test} {end}" for test, end in wrong.items()]
    missing += [f"{test} is gone" for test in sorted(row.tests - ends.keys())]
    missing += missing_symbols(ROOT / "docs/levels.md", row.code)
    if not tests:
        missing.append("no test has its marker")
    return Finding(row, tests, tuple(missing), len(missing) == len(wrong) and set(wrong.values()) == {NOT_RUN})


def find_all(rows: list[Row], marked: list[MarkedTest], results: Results) -> list[Finding]:
    """How each row stands."""
    tests = defaultdict(list)
    for test in marked:
        for name in test.rows:
            tests[name].append(test)
    return [find(row, tuple(tests[row.name]), results) for row in rows]


def sections(scores: dict[str, float]) -> dict[str, float]:
    """The sums of the four sections of the ML Test Score; its result is the least of them."""
    return {name: sum(score for row, score in scores.items() if row.split()[0] == name) for name in SECTIONS}


def level(holds: dict[str, bool]) -> int | None:
    """The highest level of which all claims hold, by the claims' first words (`Level 1: …`). None: not even Level 0.

    Level 1 and 2 build on each other. Level 0 stands alone: nothing of ours uses the notebooks.
    """
    full = [all(held for claim, held in holds.items() if claim.startswith(f"Level {number}")) for number in range(3)]
    if full[1]:
        return 2 if full[2] else 1
    return 0 if full[0] else None
