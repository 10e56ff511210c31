"""Claims rest on tests that exist and passed: the pages name them, and a claim falls with its test."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.evidence import __main__ as command
from tests.evidence import judge, results
from tests.evidence.marks import MarkedTest, marked_tests
from tests.evidence.pages import FAILURES, LEVELS, PAGES, SCORECARD, Row, fill, rows
from tests.evidence.results import ABOUT_FLIGHTS, Results, content_digest
from tests.support import ROOT
from tests.support.checkout import git

GOAL = 6  # of the 7 questions of each section
MARKED = marked_tests()
A = MarkedTest("tests/test_a.py", "test_a", ("Data 1",))
B = MarkedTest("tests/test_a.py", "test_b", ("Data 1",))


def claims(page: str) -> list[Row]:
    return rows((ROOT / page).read_text())


def row(by_hand: str = "", tests: str = "", code: str = "") -> Row:
    return Row({"row": "Data 1", "by hand": by_hand, "score": "1", "code": code, "tests": tests})


def find(page_row: Row, *tests: MarkedTest, **ends: str) -> judge.Finding:
    return judge.find(page_row, tests, Results("now", {f"tests/test_a.py::{key}": end for key, end in ends.items()}))


def test_every_marker_names_a_row_and_every_row_has_one_name() -> None:
    names = Counter(claim.name for page in PAGES for claim in claims(page))
    assert set(names.values()) == {1}
    assert {name for test in MARKED for name in test.rows} <= set(names)


def test_every_failure_and_every_claim_of_a_level_has_a_test() -> None:
    shown = {name for test in MARKED for name in test.rows}
    assert {claim.name for page in (FAILURES, LEVELS) for claim in claims(page)} - shown == set()
    assert {claim.name for claim in claims(SCORECARD) if not claim.cells["by hand"]} - shown == set()


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_the_tests_that_bear_the_marker(page: str) -> None:
    for claim in claims(page):
        marked = {test.id for test in MARKED if claim.name in test.rows}
        assert claim.tests == marked, f"{claim.name}: run make scorecard"


def test_the_scorecard_has_the_28_questions_and_its_result_is_that_of_its_rows() -> None:
    scores = {claim.name: claim.score for claim in claims(SCORECARD)}
    assert Counter(name.split()[0] for name in scores) == dict.fromkeys(judge.SECTIONS, 7) | {"Checklist": 20}
    assert command._result(scores) in (ROOT / SCORECARD).read_text()
    assert min(judge.sections(scores).values()) >= GOAL


def test_a_row_scores_when_all_its_tests_passed() -> None:
    assert find(row(), A, B, test_a="passed", test_b="passed").score == 1
    for end in ("failed", "skipped: no tool"):
        fallen = find(row(), A, B, test_a="passed", test_b=end)
        assert (fallen.score, fallen.missing, fallen.unknown) == (0, (f"{B.id} {end}",), False)
    not_run = find(row(), A, B, test_a="passed")
    assert (not_run.score, not_run.unknown) == (0, True)
    assert find(row()).missing == ("no test has its marker",)
    assert find(row(tests=B.link), A, test_a="passed").missing == (f"{B.id} is gone",)
    assert find(row(by_hand="[how](how.md)"), A, test_a="failed").score == 0.5


def test_a_test_over_many_parameters_counts_as_its_worst_one() -> None:
    assert find(row(), A, **{"test_a[1]": "passed", "test_a[2]": "passed"}).score == 1
    assert find(row(), A, **{"test_a[1]": "passed", "test_a[2]": "skipped: no tool"}).score == 0
    assert find(row(), A, **{"test_a[1]": "skipped: no tool", "test_a[2]": "failed"}).missing == (f"{A.id} failed",)


def test_with_another_problem_tests_about_flights_count_only_where_no_other_shows_the_row() -> None:
    about_flights = f"skipped: {ABOUT_FLIGHTS}friedman"
    assert find(row(), A, B, test_a="passed", test_b=about_flights).score == 1
    assert find(row(), A, test_a=about_flights).score == 0


def test_a_claim_whose_code_is_gone_falls() -> None:
    there, gone = (
        "[`Store`](../level1_pipeline/store/database.py)",
        "[`Stores`](../level1_pipeline/store/database.py)",
    )
    assert find(row(code=there), A, test_a="passed").missing == ()
    assert "does not define Stores" in find(row(code=gone), A, test_a="passed").missing[0]


@pytest.mark.parametrize(
    ("falls", "expected"),
    [([], 2), (["Level 2: c"], 1), (["Level 1: b"], 0), (["Level 0: a"], 2), (["Level 0: a", "Level 1: b"], None)],
)
def test_a_level_falls_with_each_of_its_claims(falls: list[str], expected: int | None) -> None:
    names = ("Level 0: a", "Level 1: b", "Level 1: d", "Level 2: c")
    assert judge.level({name: name not in falls for name in names}) == expected


def test_filling_a_page_changes_its_cells_and_nothing_else() -> None:
    page = "# A\n\n| other | b |\n|---|---|\n| 1 | 2 |\n\n| row | score | tests |\n|---|---|---|\n| Data 1 | 0 | x |\n\nend\n"
    assert fill(page, lambda _: {"score": "1", "tests": "y", "more": "z"}) == page.replace("| 0 | x |", "| 1 | y |")


def test_the_check_fails_and_names_the_row_and_the_test_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passed = Results("now", {test.id: "passed" for test in MARKED})
    monkeypatch.setattr(Results, "read", lambda *_: passed)
    assert command.scorecard(check=True) == 0
    gone = next(test for test in MARKED if "an artifact is damaged" in test.rows)
    monkeypatch.setattr(command, "marked_tests", lambda: [test for test in MARKED if test != gone])
    assert command.scorecard(check=True) == command.FELL
    shown = capsys.readouterr().out
    assert f"an artifact is damaged fell from 1 to 0: {gone.id} is gone" in shown


def test_where_nobody_can_say_which_files_were_tested_nothing_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "content_digest", lambda: "")
    assert command.scorecard(check=True) == 0
    assert "not checked: this is no git checkout" in capsys.readouterr().out.replace("\n", " ")


def test_ci_compares_with_the_scorecard_after_the_last_tests() -> None:
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make scorecard CHECK=1"
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step][-3:] == [
        "make test",
        "make test-slow",
        "make scorecard CHECK=1",
    ]
    assert steps[-1]["if"] == steps[-2]["if"]


def test_no_evidence_needs_what_some_machines_lack() -> None:
    """There it would be skipped, and the score would fall. In `ci.yml` the containers are another job, too."""
    assert [test.id for test in MARKED if test.file.startswith("tests/containers/")] == []
    for test in MARKED:
        nodes = ast.walk(ast.parse((ROOT / test.file).read_text()))
        function = next(node for node in nodes if getattr(node, "name", "") == test.name)
        assert "pytest.skip(" not in ast.unparse(function), test.id


CONFTEST = """
from pathlib import Path
from tests.evidence.results import Recorder

def pytest_configure(config):
    config.addinivalue_line("markers", "evidence(rows)")
    if not hasattr(config, "workerinput"):
        here = Path(__file__).parent
        config.pluginmanager.register(Recorder(here, here / ".evidence.json"))
"""
TESTS = """
import pytest

@pytest.fixture
def untidy():
    yield
    raise RuntimeError("the clean-up fails")

@pytest.mark.evidence("a")
@pytest.mark.parametrize("n", [1, 2])
def test_many(n): assert n == 1

@pytest.mark.evidence("a")
def test_good(): pass

@pytest.mark.evidence("a")
def test_left_out(): pytest.skip("no tool")

@pytest.mark.evidence("a")
@pytest.mark.xfail(reason="known")
def test_expected_to_fail(): assert False

@pytest.mark.evidence("a")
def test_untidy(untidy): pass

def test_without_a_marker(): pass
"""


@pytest.mark.integration
def test_pytest_notes_how_marked_tests_ended_also_in_several_processes(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / ".gitignore").write_text(".*\n__pycache__\n")
    git(tmp_path, "init", "--quiet")
    whole = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xdist", "-n", "2"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "evidence | 6 marked tests are noted" in done.stdout, done.stdout + done.stderr
    read = Results.read(content_digest(tmp_path), tmp_path / ".evidence.json")
    assert read.tests == {
        "test_it.py::test_many[1]": "passed",
        "test_it.py::test_many[2]": "failed",
        "test_it.py::test_good": "passed",
        "test_it.py::test_left_out": "skipped: no tool",
        "test_it.py::test_expected_to_fail": "skipped: known",
        "test_it.py::test_untidy": "failed",
    }
    (tmp_path / "another.py").write_text("")
    assert Results.read(content_digest(tmp_path), tmp_path / ".evidence.json").tests == {}


def test_results_count_for_the_same_files_only_and_the_written_pages_do_not_matter(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "docs").mkdir()
    before = content_digest(tmp_path)
    for page in PAGES:
        (tmp_path / page).write_text("written")
    assert content_digest(tmp_path) == before != ""
    (tmp_path / "code.py").write_text("")
    assert content_digest(tmp_path) != before
    assert content_digest(tmp_path.parent) == ""
    file = tmp_path / "results.json"
    Results("then", {A.id: "passed"}).write(file)
    assert Results.read("then", file).of(A.id) == "passed"
    assert Results.read("now", file).of(A.id) == results.NOT_RUN
