"""The commands `make scorecard` and `make assess`."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer
from rich.table import Table

from level1_pipeline.command_line import console, new_app, print_result, run
from tests.evidence import judge
from tests.evidence.judge import Finding
from tests.evidence.marks import marked_tests
from tests.evidence.pages import FAILURES, LEVELS, PAGES, SCORECARD, Row, fill, rows
from tests.evidence.results import Results, content_digest
from tests.support import ROOT

app = new_app("What the repository claims, and what the tests that passed show of it.")
RESULT = re.compile(r"^\*\*Result.*$", re.MULTILINE)
FELL = 1


def _findings(page: str) -> list[Finding]:
    return judge.find_all(rows((ROOT / page).read_text()), marked_tests(), Results.read(content_digest()))


def _kept(finding: Finding, was: float) -> float:
    """Tests that did not run say nothing: the score of the page stays until they do."""
    return was if finding.unknown else finding.score


def _result(scores: dict[str, float]) -> str:
    sums = judge.sections(scores)
    checklist = [score for name, score in scores.items() if name.startswith("Checklist")]
    each = ", ".join(f"{name} {total:g}" for name, total in sums.items())
    return f"Result: {min(sums.values()):g}, the least of {each}. Checklist: {sum(checklist):g} of {len(checklist)}."


def _write() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text()
        findings = {finding.row.name: finding for finding in _findings(page)}

        def cells(row: Row, findings: dict[str, Finding] = findings) -> dict[str, str]:
            links = " ".join(test.link for test in findings[row.name].tests)
            return {"score": f"{_kept(findings[row.name], row.score):g}", "tests": links}

        filled = fill(text, cells)
        if page == SCORECARD:
            filled = RESULT.sub(f"**{_result({row.name: row.score for row in rows(filled)})}**", filled)
        (ROOT / page).write_text(filled)


def _print_table(lines: list[tuple[Finding, str]]) -> None:
    table = Table("row", "now", "because")
    for finding, now in lines:
        because = finding.missing or [f"{test.name.removeprefix('test_')} passed" for test in finding.tests]
        table.add_row(finding.row.name, now, "\n".join(because))
    console.print(table)


@app.command()
def scorecard(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; end with 1 if a score fell.")] = False,
) -> int:
    """Write the scores and the tests of each row into docs/, from the tests that passed on these files."""
    if not content_digest():
        print_result("scorecard", "not checked: this is no git checkout, so nobody can say which files were tested")
        return 0
    findings = [finding for page in (SCORECARD, FAILURES) for finding in _findings(page)]
    _print_table([(each, f"{each.score:g}") for each in findings])
    fallen = [each for each in findings if each.score < each.row.score]
    now = _result({each.row.name: each.score for each in findings})
    if check:
        for each in fallen:
            console.print(f"{each.row.name} fell from {each.row.score:g} to {each.score:g}: {'; '.join(each.missing)}")
        print_result("scorecard", f"{len(fallen)} rows fell below the pages in docs/ | {now}")
        return FELL if fallen else 0
    _write()
    unknown = sum(each.unknown for each in findings)
    print_result(
        "scorecard", f"{SCORECARD} is written | {unknown} rows keep their score: their tests did not run | {now}"
    )
    return 0


@app.command()
def assess() -> int:
    """Print which level this clone holds, claim by claim. The claims are a table of docs/levels.md."""
    findings = _findings(LEVELS)
    _print_table([(each, "falls" if each.missing else "holds") for each in findings])
    held = judge.level({each.row.name: not each.missing for each in findings})
    fallen = sum(bool(each.missing) for each in findings)
    holds = "no level holds" if held is None else f"Level {held} holds"
    print_result("assess", f"{holds} | {len(findings) - fallen} of {len(findings)} claims, {LEVELS}")
    return 0 if held is not None else FELL


if __name__ == "__main__":
    sys.exit(run(app, "python -m tests.evidence"))
