"""The evidence site: made of a run of this code, whole, and without a network."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from level1_pipeline.orchestration import lineage
from level1_pipeline.settings import Settings
from tests.support import ROOT
from tests.support.checkout import needs_uv
from tests.support.demo import leave_demo
from tests.support.homes import environment

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.integration


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Iterator[str]]:
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    found: Callable[[Path], Iterator[str]] = importlib.import_module("site_links").broken
    return found


def make_site(home: Settings) -> subprocess.CompletedProcess[str]:
    env = environment(home.home) | {"OUTPUT": str(home.home / "site")}  # that of the checkout is of a real demo
    return subprocess.run(["make", "site"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
@needs_uv
def test_the_site_of_a_demo_is_whole_and_asks_no_server(
    home: Settings, broken: Callable[[Path], Iterator[str]]
) -> None:
    refused = make_site(home)
    assert (refused.returncode, "run it first: make demo" in refused.stderr) == (2, True)
    leave_demo(home, str(lineage.identity()["source_digest"]))
    done = make_site(home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("site | ")
    assert list(broken(home.home / "site")) == []
    story = (home.home / "site" / "run" / "overview.html").read_text()
    assert "the simulated summer" in story
    if CHROMIUM:
        _look(home.home / "site")


def _look(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.get_by_role("link", name="A real run").click()
        page.get_by_role("link", name="The newest monitoring report").click()
        assert "train again" in page.inner_text("h1")
        page.goto((site / "docs" / "year.html").as_uri())
        widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
        assert widths
        assert all(widths)
        assert [address for address in asked if not address.startswith(("file:", "data:"))] == []
        browser.close()


@pytest.mark.slow
@needs_uv
def test_a_demo_of_other_code_is_no_evidence(home: Settings) -> None:
    leave_demo(home, "0" * 64)
    done = make_site(home)
    assert (done.returncode, "was run by other code than this" in done.stderr) == (2, True)


def test_links_that_lead_nowhere_and_what_comes_from_a_server_are_named(
    tmp_path: Path, broken: Callable[[Path], Iterator[str]]
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text("<p id=here>")
    good = (
        "<a href=b#here>b</a> <a href=b/index.html>b</a> <a href=https://example.org>out</a> <a href=#top id=top>up</a>"
        "<a href=#a%20b>as a notebook's page names it</a> <p id=a%20b> <a href=#c%20d>decoded</a> <p id='c d'>"
    )
    (tmp_path / "a.html").write_text(good)
    assert list(broken(tmp_path)) == []
    bad = '<a href="gone.html"> <a href="b/#there"> <img src="gone.png"> <script src="//example.org/x.js"></script>'
    (tmp_path / "a.html").write_text(bad)
    assert list(broken(tmp_path)) == [
        "a.html fetches //example.org/x.js",
        "a.html leads to gone.html",
        "a.html leads to the place b/#there",
        "a.html leads to gone.png",
    ]
