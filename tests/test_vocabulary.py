"""Names say what a thing is, and words that the glossary replaced do not come back, neither in code nor on a page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

FOLDERS = ("level0_notebooks", "level1_pipeline", "serving", "monitoring", "level2_cicd")
SAYS_NOTHING = {"one", "found", "said", "words", "asked", "mine", "known"}
NO_MODULE = {"utils", "common", "core", "base", "manager", "helper", "helpers"}
# Words of which the glossary has the standard term; each pattern is matched in code, docstrings, messages and pages.
REPLACED = {
    r"governor": "retraining budget",
    r"shelf|rivals?": "past champions",
    r"twins?": "evaluation model",
    r"journal(?!_mode)": "history",
    r"ripe": "matured",
    r"harm bound": "non-inferiority margin",
    r"returning regime": "recurring concept",
    r"harmless shift": "covariate shift",
    r"real change": "concept drift",
    r"(?:one|each|every|newest|killed|monitoring) pass(?:es)?|pass(?:es)? of (?:the )?monitoring": "monitoring run",
    r"real clock": "wall clock",
}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES_THE_OLD_WORDS = {"CHANGELOG.md", "audit_columns.py"}  # one says what was renamed, the other reads lines of before


def sources(root: Path) -> list[Path]:
    paths = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    return [path for path in paths if "migrations" not in path.parts]  # these name what was renamed


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every variable, attribute, parameter, field and keyword argument of a module, with its line; methods that are
    called are none of these (a query of SQLAlchemy has `one()`)."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute() if id(node) in called:
                continue
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.value.lineno
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.alias(asname=str(name)):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)):
                yield name, node.lineno


def empty_names(root: Path) -> list[str]:
    wrong = []
    for path in sources(root):
        place = path.relative_to(root)
        if path.stem in NO_MODULE:
            wrong.append(f"{place}: the name of the module says nothing")
        empty = {entry for entry in names(ast.parse(path.read_text())) if entry[0] in SAYS_NOTHING}
        wrong += [f"{place}:{line} {name}" for name, line in sorted(empty, key=lambda entry: entry[1])]
    return wrong


def replaced_words(text: str) -> list[str]:
    """Words of the text that the glossary replaced, each with the term to use."""
    wrong = []
    for pattern, term in REPLACED.items():
        for match in re.finditer(rf"(?<![a-zA-Z])(?:{pattern})(?![a-zA-Z])", text, re.IGNORECASE | re.MULTILINE):
            wrong.append(f"{match[0]!r}: say {term!r}")
    return wrong


@pytest.mark.slow
def test_no_name_says_nothing() -> None:
    assert empty_names(ROOT) == []


def test_no_replaced_word_stands_in_the_source() -> None:
    wrong = {
        str(path.relative_to(ROOT)): replaced_words(path.read_text())
        for path in sources(ROOT)
        if path.name not in NAMES_THE_OLD_WORDS
    }
    assert {path: wrong_words for path, wrong_words in wrong.items() if wrong_words} == {}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in NAMES_THE_OLD_WORDS], ids=lambda p: p.name)
def test_no_replaced_word_stands_on_a_page(page: Path) -> None:
    assert replaced_words(page.read_text()) == []


def test_no_replaced_word_stands_in_a_picture_or_a_command_of_make() -> None:
    files = [*(ROOT / "docs").glob("*.svg"), ROOT / "Makefile"]
    assert {path.name: replaced_words(path.read_text()) for path in files} == {path.name: [] for path in files}


@pytest.mark.parametrize(
    "code",
    [
        "found = 1",
        "for one in rows: pass",
        "[one for one in rows]",
        "def f(asked): pass",
        "def f(*, words=''): pass",
        "lambda known: known",
        "class A:\n    said: str = ''",
        "self.mine = 1",
        "print(line.said)",
        "f(known=1)",
        "import json as words",
        "with open(path) as found: pass",
        "if (found := f()): pass",
        "match row:\n    case [*found]: pass",
    ],
)
def test_a_planted_empty_name_is_found(tmp_path: Path, code: str) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving/a.py").write_text(code)
    assert len(empty_names(tmp_path)) == 1


def test_names_that_only_contain_these_words_are_fine_and_a_planted_module_is_found(tmp_path: Path) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving/utils.py").write_text(
        "not_found = unknown = 'found and known'\nclass NotFound(Exception): ..."
    )
    assert empty_names(tmp_path) == ["serving/utils.py: the name of the module says nothing"]


def test_planted_replaced_words_are_found_and_ordinary_english_is_not() -> None:
    planted = "The governor asks. A judged twin; past_rival and `shelf`.\nOne pass of the monitoring. A real change."
    assert len(replaced_words(planted)) == 6
    assert replaced_words("The checks pass. Pass it on; it passes the gate in one passage. Twinned cities.") == []
