"""The evidence site: the docs beside what a real run of this code has shown, as pages that need no network.

    .venv/bin/python .ci/evidence_site.py MKDOCS OUTPUT        (`make site`, after `make demo`)

mkdocs turns Markdown into pages. This script brings together what it reads: the docs, the files that they link to, and
the reports of the newest demo. Afterwards each link of each page must lead to a page, and nothing may come from a server.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from site_links import broken

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from level1_pipeline import problem  # noqa: E402
from level1_pipeline.orchestration import lineage  # noqa: E402
from level1_pipeline.settings import Settings  # noqa: E402
from monitoring.reporting import overview  # noqa: E402

PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # beside those in docs/
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(#[^)\s]*)?(?=\))")  # the target of a Markdown link or picture


class Refused(Exception):
    """There is nothing to show, or the site is not whole. The message says what to do."""


def main(mkdocs: str, output: Path) -> int:
    """Build the site; 0 if it is whole."""
    try:
        settings = Settings()
        run = find_run(settings)
        with tempfile.TemporaryDirectory() as folder:
            stage = Path(folder) / "pages"
            bring_pages(stage)
            bring_run(run, settings, stage / "run")
            build(mkdocs, stage, output)
        faults = list(broken(output))
        if faults:
            raise Refused(f"{len(faults)} links lead nowhere or to a server: {'; '.join(faults[:5])}")
    except Refused as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    pages = sum(1 for _ in output.rglob("*.html"))
    print(f"site | {pages} pages, of a run of this code | {output / 'index.html'}")
    return 0


# ---- the run


def find_run(settings: Settings) -> Path:
    """The reports of the newest summer. Raises Refused if there is none, or another code has made it."""
    reports = settings.summer / "reports"
    cards = sorted((reports / "level1" / problem.NAME).glob("*/model_card.md"))
    notebooks = list((settings.home / "reports" / "level0").glob("*.html"))
    if not cards or not notebooks:
        raise Refused(f"there is no demo in {settings.home}; run it first: make demo")
    made_by = re.search(r"^- source_digest: (\w+)$", cards[-1].read_text(encoding="utf-8"), re.MULTILINE)
    if made_by is None or made_by[1] != lineage.identity()["source_digest"]:
        raise Refused(f"the demo in {settings.home} was run by other code than this; run it again: make demo")
    return reports


def bring_run(reports: Path, settings: Settings, target: Path) -> None:
    """The notebooks as they were run, and the reports of the summer, with a page that leads to them."""
    shutil.copytree(settings.home / "reports" / "level0", target / "level0")
    for name in ("level1", "monitor"):
        shutil.copytree(reports / name, target / name)
    story = overview.write(Settings.model_construct(home=settings.summer, clock="replay"), overview.SUMMER)
    text = story.read_text(encoding="utf-8").replace("model_card.md", "model_card.html")
    (target / story.name).write_text(text, encoding="utf-8")
    card = sorted((target / "level1" / problem.NAME).glob("*/model_card.md"))[-1]
    report = sorted((target / "monitor" / problem.NAME).glob("*.html"))[-1]
    pages = {
        "The simulated summer as a story: what the control loop did, and why": story.name,
        "The newest monitoring report": report.relative_to(target).as_posix(),
        "The card of the newest model": card.relative_to(target).as_posix(),
    } | {
        f"Level 0, {page.stem.replace('_', ' ')}": f"level0/{page.name}"
        for page in sorted((target / "level0").glob("*.html"))
    }
    head = f"# A real run\n\nWhat this code showed when `make demo` ran it on {problem.NAME}. Nobody wrote these pages.\n\n"
    (target / "index.md").write_text(head + "".join(f"- [{name}]({page})\n" for name, page in pages.items()), "utf-8")


# ---- the pages of the repository


def bring_pages(stage: Path) -> None:
    """The docs where they lie in the repository, and each file that they link to as a page."""
    shutil.copytree(ROOT / "docs", stage / "docs")
    for name in PAGES:
        shutil.copy(ROOT / name, stage / name)
    (stage / "README.md").rename(stage / "index.md")
    for page in sorted(stage.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(LINK.sub(partial(moved, page=page, stage=stage), text), encoding="utf-8")


def moved(match: re.Match[str], page: Path, stage: Path) -> str:
    """Where a link of a page leads on the site; a file of the repository becomes a page at its first link."""
    link, anchor = match[1], match[2] or ""
    if urlsplit(link).scheme:
        return match[0]
    target = (page.parent / link).resolve().relative_to(stage.resolve()).as_posix()
    if target == "README.md":
        new = "index.md"
    elif target.endswith(".ipynb"):
        new = f"run/level0/{Path(target).stem}.html"
    elif (stage / target).is_file():
        new = target
    else:
        new = source_page(ROOT / target, stage)
    up = "../" * len(page.parent.relative_to(stage).parts)
    return up + new + anchor


def source_page(file: Path, stage: Path) -> str:
    """A file of the repository with its colours, or what a folder holds; returns where the page is."""
    name = file.relative_to(ROOT).as_posix()
    target = stage / "source" / f"{name.replace('/.', '/').lstrip('.')}.html"
    if file.is_dir():
        text = "\n".join(sorted(path.name for path in file.iterdir() if not path.name.startswith((".", "__pycache__"))))
    else:
        text = file.read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(file.name)
    except ClassNotFound:
        lexer = TextLexer()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(highlight(text, lexer, HtmlFormatter(full=True, title=name, linenos="table")), encoding="utf-8")
    return target.relative_to(stage).as_posix()


# ---- the site


def build(mkdocs: str, stage: Path, output: Path) -> None:
    """Let mkdocs make the pages. Raises Refused with what it complains about."""
    order = re.findall(r"\]\((docs/[\w-]+\.md)\)", (stage / "index.md").read_text(encoding="utf-8"))
    docs = [*dict.fromkeys(order), *(f"docs/{page.name}" for page in sorted((stage / "docs").glob("*.md")))]
    config = {
        "site_name": f"MLOps, three levels: {problem.NAME}",
        "docs_dir": str(stage),
        "site_dir": str(output),
        "use_directory_urls": False,  # so that the pages open as files, too
        "theme": {"name": "mkdocs", "highlightjs": False},
        "plugins": ["search"],
        "nav": [{"Begin": "index.md"}, {"A real run": "run/index.md"}, {"Docs": list(dict.fromkeys(docs))}],
        "not_in_nav": "*",
        "validation": {"links": {"anchors": "warn", "absolute_links": "warn", "unrecognized_links": "warn"}},
    }
    file = stage.parent / "mkdocs.yml"
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    done = subprocess.run(
        [mkdocs, "build", "--strict", "--quiet", "--clean", "--config-file", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(f"mkdocs refuses the pages: {(done.stderr + done.stdout).strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]).resolve()))
