"""The documentation is true: every target and setting is documented, every relative link resolves."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from level1_pipeline.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_is_found() -> None:
    text = "[a](nowhere.md) [b](README.md#no-such-heading) [c](Makefile#L99999) [d](README.md)"
    assert broken_links(ROOT / "README.md", text) == ["nowhere.md", "README.md#no-such-heading", "Makefile#L99999"]


def test_make_help_prints_every_target_with_a_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for name in TARGET.findall(makefile) if not name.startswith("$")}
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = dict(re.findall(r"make (\S+)\s+(\S.*)", shown))
    assert targets == set(listed)
    assert subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout == shown


def test_every_make_target_is_documented() -> None:
    words = " ".join(page.read_text() for page in PAGES)
    targets = TARGET.findall((ROOT / "Makefile").read_text())
    assert [name for name in targets if f"make {name}" not in words] == []


def test_every_target_in_the_docs_exists() -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z0-9-]+)", page.read_text())}
    assert named <= targets


def test_every_setting_is_documented_with_its_description() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    for name, field in Settings.model_fields.items():
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
