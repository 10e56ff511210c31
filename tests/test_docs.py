"""The documentation is true: every target and setting is documented, every relative link resolves."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from level1_pipeline.settings import GROUPS, Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
LINE_LINK = re.compile(r"\[`([^`]+)`\]\(([^)#\s]+\.py)#L(\d+)(?:-L\d+)?\)")  # [`name`](path.py#L12)
CELL_LINK = re.compile(r"\[\*([^\]]+)\*\]\(([^)#\s]+\.ipynb)\)")  # [*heading of a cell*](path.ipynb)
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home|Users)/\w")
TARGET = re.compile(r"^([a-z0-9-]+):", re.MULTILINE)


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links that lead nowhere: a file that is missing, or a line or heading that it does not have."""
    broken = []
    for link in LINK.findall(text):
        path, _, place = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            broken.append(link)
        elif re.fullmatch(r"L\d+(-L\d+)?", place):
            if int(re.findall(r"\d+", place)[-1]) > len(target.read_text().splitlines()):
                broken.append(link)
        elif place and place not in headings(target):
            broken.append(link)
    return broken


def headings(page: Path) -> set[str]:
    """The anchors that a Markdown page's headings get."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def misplaced_names(page: Path, text: str) -> list[str]:
    """Links [`name`](path.py#L12) whose line does not hold the last dotted part of the name, and which line does."""
    wrong = []
    for name, path, place in LINE_LINK.findall(text):
        target = (page.parent / path).resolve()
        lines = target.read_text().splitlines() if target.exists() else []
        word = re.escape(name.split("(")[0].split(".")[-1])
        uses = [n for n, line in enumerate(lines, 1) if re.search(rf"(?<!\w){word}(?!\w)", line)]
        made = [n for n in uses if re.search(rf"(def|class) {word}\b|^\s*{word}\b.*=|\"{word}\"", lines[n - 1])]
        if int(place) not in uses:
            now = ", ".join(f"L{n}" for n in (made or uses)[:5])
            wrong.append(f"{page.name}: {name} is not on {path}#L{place} but on {now or 'no line'}")
    return wrong


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


@pytest.mark.flights  # the pages speak of this repository's problem.py
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](nowhere.md) [b](README.md#no-such-heading) [c](Makefile#L99999) [d](README.md)"
    assert broken_links(ROOT / "README.md", text) == ["nowhere.md", "README.md#no-such-heading", "Makefile#L99999"]


@pytest.mark.flights  # the pages speak of this repository's problem.py
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_name_or_a_cell_leads_to_it(page: Path) -> None:
    text = page.read_text()
    assert misplaced_names(page, text) + missing_cells(page, text) == []


def test_a_misplaced_name_is_found_and_the_message_says_where_it_stands() -> None:
    lines = (ROOT / "level1_pipeline/bundle.py").read_text().splitlines()
    here = next(n for n, line in enumerate(lines, 1) if line.startswith("def verify("))
    link = "[`bundle.{}`](level1_pipeline/bundle.py#L{})"
    right = link.format("verify", here)
    assert misplaced_names(ROOT / "README.md", right) == []
    planted = " ".join((link.format("verify", here - 1), link.format("verif", here), right))
    found = misplaced_names(ROOT / "README.md", planted + link.format("no_such_name", 1))
    assert found[0].endswith(f"but on L{here}")
    assert "bundle.verif is not on" in found[1]
    assert found[2].endswith("but on no line")
    assert len(found) == 3


def test_a_link_to_a_missing_cell_or_notebook_is_found() -> None:
    text = "[*{}*](level0_notebooks/{}.ipynb)"
    assert missing_cells(ROOT / "README.md", text.format("Fetch the file", "01_explore")) == []
    for heading, notebook in (("No such cell", "01_explore"), ("Fetch the file", "09_nowhere")):
        assert len(missing_cells(ROOT / "README.md", text.format(heading, notebook))) == 1


def test_the_page_of_levels_shows_every_notebook_and_checkable_lines_only() -> None:
    text = (ROOT / "docs/levels.md").read_text()
    linked = {path.rsplit("/", 1)[-1] for _, path in CELL_LINK.findall(text)}
    assert linked == {path.name for path in (ROOT / "level0_notebooks").glob("*.ipynb")}
    assert len(LINE_LINK.findall(text)) == len(re.findall(r"\.py#L\d", text)), "a link to a line without its `name`"


def test_make_help_prints_every_target_with_a_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for name in TARGET.findall(makefile) if not name.startswith("$")}
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"make (\S+)\s+(\S.*)", shown))
    assert targets == set(listed)
    assert subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout == shown


def test_every_make_target_is_documented() -> None:
    message = " ".join(page.read_text() for page in PAGES)
    targets = TARGET.findall((ROOT / "Makefile").read_text())
    assert [name for name in targets if f"make {name}" not in message] == []


def test_every_target_in_the_docs_exists() -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z0-9-]+)", page.read_text())}
    assert named <= targets


def test_every_setting_is_documented_with_its_description() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    fields = {name: field for kind in (Settings, *GROUPS.values()) for name, field in kind.model_fields.items()}
    for name, field in fields.items():
        if name in GROUPS:
            continue
        assert f"`MLOPS_{name.upper()}`" in page, name
        assert field.description is not None, name
        assert field.description in page, name


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
