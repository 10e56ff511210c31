"""The documentation is true: links lead to what they name; commands, settings and sizes are as the code has them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from level1_pipeline.policies import GROUPS
from level1_pipeline.settings import Settings
from tests.support import ROOT
from tests.support.pages import SYMBOL_LINK, missing_symbols, symbol_of, symbols

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/README.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
CELL_LINK = re.compile(r"\[\*([^\]]+)\*\]\(([^)#\s]+\.ipynb)\)")  # [*heading of a cell*](path.ipynb)
SOURCE_PATH = re.compile(r"`((?:level0_notebooks|level1_pipeline|serving|monitoring|level2_cicd|tests|docs)/[\w./-]*)`")
MODULE = re.compile(r"python -m ([\w.]+)")
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/\w")
TARGET = re.compile(r"^([a-z0-9-]+):", re.MULTILINE)
TOUR_LINES = range(450, 751)  # of the symbols that the tour links to


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links that lead nowhere: a missing file or heading, or a line number, which ages with the next edit."""
    broken = []
    for link in LINK.findall(text):
        path, _, place = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        missing = place and (target.suffix != ".md" or place not in headings(target)) if target.exists() else True
        if missing:
            broken.append(link)
    return broken


def headings(page: Path) -> set[str]:
    """The anchors that a Markdown page's headings get."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def missing_cells(page: Path, text: str) -> list[str]:
    """Links [*heading*](path.ipynb) to a notebook that does not exist or has no cell with this heading."""
    wrong = []
    for heading, path in CELL_LINK.findall(text):
        target = (page.parent / path).resolve()
        cells = json.loads(target.read_text())["cells"] if target.exists() else []
        titles = {line.strip("# \n") for cell in cells for line in cell["source"] if line.startswith("#")}
        if heading not in titles:
            wrong.append(f"{page.name}: {path} has no cell '{heading}' but: {'; '.join(sorted(titles)) or 'none'}")
    return wrong


def missing_files(page: Path, text: str) -> list[str]:
    """Source paths and modules that the text names and the tree does not have."""
    paths = [path for path in SOURCE_PATH.findall(text) if not (ROOT / path).exists()]
    modules = [
        name for name in MODULE.findall(text) if name not in ("venv", "pip") and not importlib.util.find_spec(name)
    ]
    return [f"{page.name}: {name} does not exist" for name in paths + modules]


def purpose(text: str) -> list[str]:
    """The lines between a page's title and the next empty line: what the page is for."""
    title, _, rest = text.partition("\n\n")
    return rest.partition("\n\n")[0].splitlines() if title.startswith("# ") and "\n" not in title else []


def tour_lines(text: str) -> int:
    """Lines of code of all symbols that the tour links to, each line counted once."""
    lines: set[tuple[str, int]] = set()
    for name, path in SYMBOL_LINK.findall(text):
        if not name.endswith((".py", "/")):
            node = symbols((ROOT / "docs" / path).resolve())[symbol_of(name, path)]
            lines |= {(path, line) for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return len(lines)


@pytest.mark.flights  # the pages speak of this repository's problem.py
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_and_a_line_number_are_found() -> None:
    text = "[a](nowhere.md) [b](README.md#no-such-heading) [c](Makefile#L3) [d](README.md) [e](README.md#the-data)"
    assert broken_links(ROOT / "README.md", text) == ["nowhere.md", "README.md#no-such-heading", "Makefile#L3"]


@pytest.mark.flights  # the pages speak of this repository's problem.py
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_symbol_or_a_cell_leads_to_it_and_every_path_exists(page: Path) -> None:
    text = page.read_text()
    assert missing_symbols(page, text) + missing_cells(page, text) + missing_files(page, text) == []


def test_a_wrong_symbol_a_wrong_path_and_a_wrong_module_are_found() -> None:
    page, errors = ROOT / "README.md", "level1_pipeline/errors.py"
    right = (
        f"[`NotFound`]({errors}) [`errors.NotFound`]({errors}) [`errors.py`]({errors}) [`level1_pipeline/`]({errors})"
    )
    assert missing_symbols(page, right) == []
    for name in ("NotFounds", "Errors.NotFound", "NotFound.no_such_method", "other.py", "--no-such-option"):
        assert missing_symbols(page, f"[`{name}`]({errors})") == [f"README.md: {errors} does not define {name}"]
    assert missing_symbols(page, "[`main`](level1_pipeline/nowhere.py)") != []
    text = "`level1_pipeline/errors.py` `serving/nowhere.py` python -m serving run; python -m monitoring.nowhere"
    assert missing_files(page, text) == [
        "README.md: serving/nowhere.py does not exist",
        "README.md: monitoring.nowhere does not exist",
    ]


def test_a_link_to_a_missing_cell_or_notebook_is_found() -> None:
    text = "[*{}*](level0_notebooks/{}.ipynb)"
    assert missing_cells(ROOT / "README.md", text.format("Fetch the file", "01_explore")) == []
    for heading, notebook in (("No such cell", "01_explore"), ("Fetch the file", "09_nowhere")):
        assert len(missing_cells(ROOT / "README.md", text.format(heading, notebook))) == 1


def test_the_page_of_levels_shows_every_notebook() -> None:
    text = (ROOT / "docs/levels.md").read_text()
    linked = {path.rsplit("/", 1)[-1] for _, path in CELL_LINK.findall(text)}
    assert linked == {path.name for path in (ROOT / "level0_notebooks").glob("*.ipynb")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_page_begins_with_what_it_is_for_in_two_lines(page: Path) -> None:
    lines = purpose(page.read_text())
    assert 1 <= len(lines) <= 2
    assert lines[0].startswith("This ")
    assert all(len(line) <= 160 for line in lines)


def test_the_tour_has_twelve_stops_with_a_question_each_and_is_as_long_as_it_says() -> None:
    text = (ROOT / "docs/tour.md").read_text()
    stops = re.findall(r"^## (\d+)\. (.+)$", text, re.MULTILINE)
    assert [int(number) for number, _ in stops] == list(range(1, 13))
    assert all(question.endswith("?") for _, question in stops)
    lines = tour_lines(text)
    assert lines in TOUR_LINES, f"the symbols of the tour have {lines} lines"
    assert int(re.search(r"about (\d+) lines of code", text)[1]) == pytest.approx(lines, abs=50)  # type: ignore[index]


def test_the_numbers_of_packages_in_the_docs_are_those_of_the_locks() -> None:
    text = (ROOT / "docs/levels.md").read_text()
    for phrase, lock in ((r"(\d+) locked packages in all", ""), (r"service alone needs (\d+)", "-serving")):
        locked = re.findall(r"^[a-z0-9].*==", (ROOT / f"requirements{lock}.lock").read_text(), re.MULTILINE)
        assert [int(number) for number in re.findall(phrase, text)] == [len(locked)]


def test_make_help_prints_every_target_with_a_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for name in TARGET.findall(makefile) if not name.startswith("$")}
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"make (\S+)\s+(\S.*)", shown))
    assert targets == set(listed)
    assert subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout == shown


def test_every_make_target_is_documented() -> None:
    text = " ".join(page.read_text() for page in PAGES)
    targets = TARGET.findall((ROOT / "Makefile").read_text())
    assert [name for name in targets if f"make {name}`" not in text and f"make {name} " not in text] == []


def test_every_target_in_the_docs_exists() -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z0-9-]+)", page.read_text())}
    assert named <= targets


def test_every_setting_is_documented_with_its_description() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    kinds: list[type[BaseModel]] = [Settings, *GROUPS.values()]
    fields = {name: field for kind in kinds for name, field in kind.model_fields.items()}
    for name, field in fields.items():
        if name in GROUPS:
            continue
        assert f"`MLOPS_{name.upper()}`" in page, name
        assert field.description is not None, name
        assert field.description in page, name


@pytest.mark.flights  # another project has a README of its own
def test_the_readme_starts_with_what_it_is_the_two_commands_and_the_table_of_levels() -> None:
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:45])
    positions = [screen.index(part) for part in ("git clone", "make demo", "| Level 0", "Level 1", "Level 2")]
    assert positions == sorted(positions)


def test_no_file_names_an_address_in_a_lock_or_a_path_of_a_machine() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".lock", ".txt"):
            assert "://" not in path.read_text(), name
        if path.suffix not in (".lock", ".png"):
            assert not MACHINE.search(path.read_text()), name
