"""The pictures in the README show the pages as they are now, and are small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.pictures import DIGESTS, PICTURES, SHOTS, Shot, digest
from tests.support import ROOT


@pytest.mark.flights  # they show flights, and another project leaves them out
@pytest.mark.parametrize("name", SHOTS)
def test_a_picture_is_small_stands_in_the_readme_and_shows_the_page_as_it_is_now(name: str) -> None:
    picture = PICTURES / f"{name}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < picture.stat().st_size < 150_000  # an empty page has 2 kB
    assert f"({picture.relative_to(ROOT).as_posix()})" in (ROOT / "README.md").read_text()
    recorded = json.loads(DIGESTS.read_text())[name]
    sources = ", ".join(path.name for path in SHOTS[name].sources)
    assert digest(SHOTS[name]) == recorded, f"{sources} changed: run `make level2`, `make pictures`, and look at it"


def test_another_page_is_noticed_and_another_comment_is_not(tmp_path: Path) -> None:
    code, page = tmp_path / "page.py", tmp_path / "page.html"
    code.write_text("TITLE = 'a'\n")
    page.write_text("<h1>")
    shot = Shot((code, page), 1, 1, "img")
    before = digest(shot)
    code.write_text("TITLE = 'a'  # a comment\n")
    assert digest(shot) == before
    page.write_text("<h2>")
    assert digest(shot) != before
    page.write_text("<h1>")
    code.write_text("TITLE = 'b'\n")
    assert digest(shot) != before
