"""`make pictures`: three pages of the newest summer, as a person sees them, and of which sources they are pictures."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from level1_pipeline.command_line import open_settings
from level1_pipeline.errors import NotFound
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.simulation import replay
from monitoring.reporting import dashboards, html_report, overview
from tests.support import ROOT

PICTURES = ROOT / "docs" / "pictures"
DIGESTS = PICTURES / "digests.json"
SECONDS_TO_DRAW = 60
COLOURS = 64  # enough for pages of text, and a third of the size
PAGES = ROOT / "monitoring" / "reporting"
API = ROOT / "serving"


class Shot(NamedTuple):
    """A picture: what it is made of, its size on the screen, and what stands on the page once it is drawn."""

    sources: tuple[Path, ...]
    width: int
    height: int
    drawn: str  # a CSS selector


SHOTS = {
    "summer": Shot((PAGES / "overview.html", PAGES / "overview.py", PAGES / "plots.py"), 1000, 1000, "img"),
    "report": Shot((PAGES / "report.html", PAGES / "html_report.py", PAGES / "plots.py"), 1000, 1250, "img"),
    "api": Shot((API / "api" / "app.py", API / "api" / "routes.py", API / "schemas.py"), 1000, 800, ".opblock"),
}


def digest(shot: Shot) -> str:
    """Of all that a picture shows: of Python without its comments, of anything else every byte."""
    parts = [path.read_text(encoding="utf-8") for path in shot.sources]
    read = [
        _without_comments(text) if path.suffix == ".py" else text
        for path, text in zip(shot.sources, parts, strict=True)
    ]
    return hashlib.sha256("\0".join(read).encode()).hexdigest()


def _without_comments(text: str) -> str:
    """The lines of a Python file without comments and empty lines: the same in every version of Python."""
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return "\n".join(filter(None, map(str.rstrip, lines)))


@contextmanager
def addresses(summer: Settings) -> Iterator[dict[str, str]]:
    """The page of each picture, while the service runs."""
    store = Store(summer.operations)
    try:
        drifted = [run for run in overview.monitored(store) if run.diagnosis.cause == "concept drift"]
        run = drifted[0] if drifted else overview.monitored(store)[0]
    finally:
        store.close()
    with replay.service(summer) as url:
        pages = {"summer": overview.write(summer, overview.SUMMER), "report": html_report.path(summer, run)}
        yield {name: page.as_uri() for name, page in pages.items()} | {"api": f"{url}/docs"}


def smaller(png: bytes) -> bytes:
    """The same picture with fewer colours."""
    from PIL import Image

    output = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(output, "PNG", optimize=True)
    return output.getvalue()


def main() -> int:
    """Take the pictures. Raises NotFound where there is no summer or no browser."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if not chromium:
        raise NotFound("there is no chromium to open the pages; install Debian's package `chromium`")
    summer = dashboards.home_shown(open_settings(), "summer").changed({"serving_port": 0}).prepare()
    PICTURES.mkdir(exist_ok=True)
    with addresses(summer) as pages, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, shot in SHOTS.items():
            page = browser.new_page(viewport={"width": shot.width, "height": shot.height})
            page.goto(pages[name])
            page.locator(shot.drawn).first.wait_for(timeout=SECONDS_TO_DRAW * 1000)
            (PICTURES / f"{name}.png").write_bytes(smaller(page.screenshot()))
        browser.close()
    recorded = {name: digest(shot) for name, shot in SHOTS.items()}
    DIGESTS.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")
    sizes = ", ".join(f"{name}.png {(PICTURES / f'{name}.png').stat().st_size // 1000} kB" for name in SHOTS)
    print(f"pictures | {sizes} | {PICTURES.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NotFound as missing:
        sys.exit(f"pictures: {missing}")
