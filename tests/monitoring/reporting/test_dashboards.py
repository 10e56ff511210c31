"""Report and dashboards in a real browser: they show what the monitoring found, and ask nobody else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from level1_pipeline import problem, schema
from level1_pipeline.registry import Registry
from level1_pipeline.registry.mlflow_pages import GAIN, card_link, description
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from monitoring import history
from monitoring.alerting import tickets
from monitoring.reporting import evidently_snapshot, html_report
from monitoring.results import MonitoringRun
from tests.support import ROOT
from tests.support.monitoring_runs import END, FAULT, RELEASE, WEEK, a_run
from tests.support.prediction_log import log_predictions

CHROMIUM = shutil.which("chromium")
# Without these chromium itself looks for its makers' machines.
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium: install Debian's package `chromium`"),
]


class Visit:
    """A page in the browser, and every address other than this machine's that it asked for."""

    def __init__(self, page: Any):
        self.page, self.elsewhere, self.errors = page, list[str](), list[str]()
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _asked(self, request: Any) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1":
            self.elsewhere.append(request.url)


@pytest.fixture
def visit(tmp_path: Path) -> Iterator[Callable[[str], Visit]]:
    """Opens addresses in Debian's chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())

        def one(address: str) -> Visit:
            result = Visit(browser.new_page(viewport={"width": 1200, "height": 900}))
            result.page.goto(address)
            return result

        yield one
        browser.close()


@pytest.mark.parametrize("width", [1200, 400])
def test_the_report_can_be_read_on_a_large_and_on_a_small_screen(
    home: Settings, store: Store, visit: Callable[[str], Visit], width: int
) -> None:
    run = a_run(FAULT)
    tickets.follow(store, run)
    seen = visit(html_report.write(home, store, run, tickets.open_tickets(store)).as_uri())
    page = seen.page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.locator("h1").inner_text() == html_report.HEADLINE["data fault"]
    assert page.locator(".verdict").bounding_box()["y"] < 400  # to be seen without scrolling
    assert page.locator("img").count() == 5
    drawn = page.evaluate("Array.from(document.images).every(one => one.complete && one.naturalWidth > 300)")
    assert drawn
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll inside
    assert page.get_by_text("data fault: origin=JFK").count() >= 1
    assert (seen.elsewhere, seen.errors) == ([], [])


def test_every_plot_has_ink_and_words_for_who_cannot_see_it(
    home: Settings, store: Store, visit: Callable[[str], Visit], tmp_path: Path
) -> None:
    from matplotlib.image import imread

    seen = visit(html_report.write(home, store, a_run(RELEASE), []).as_uri())
    for number, image in enumerate(seen.page.locator("img").all()):
        assert image.get_attribute("alt")
        image.screenshot(path=tmp_path / f"{number}.png")
        assert 0.01 < (imread(tmp_path / f"{number}.png")[..., :3].min(axis=-1) < 0.8).mean() < 0.9


def served(home: Settings, store: Store, rows: Any) -> list[MonitoringRun]:
    """Three weeks of a log with a snapshot for each of the last two."""
    some = rows[rows[problem.TARGET].notna()].iloc[15000:15200]
    for week in range(-2, 1):
        at = END + week * WEEK - timedelta(days=1)
        named = zip(some[problem.ID], schema.records(some), strict=True)
        log_predictions(store, [{"id": f"{name} {week}", "at": at, "record": record} for name, record in named])
    result = [a_run(weeks=week) for week in (-1, 0)]
    for each in result:
        assert evidently_snapshot.write(home, store, each)
    return result


@pytest.fixture
def running(home: Settings, store: Store, rows: Any) -> Iterator[dict[str, str]]:
    """The three dashboards by `python -m monitoring ui`, and their addresses."""
    for each in served(home, store, rows):
        history.record(store, each)
        html_report.write(home, store, each, [])
    registry = Registry(home)
    about = {"verdict": "fail", "trigger": "staleness", "reasons": "harm is bounded"}
    made = registry.client.create_run(registry.experiment(problem.NAME), run_name="as of 2013-07-01: fail", tags=about)
    registry.client.log_metric(made.info.run_id, GAIN, -0.0123)
    (home.home / "sealed").mkdir()
    (home.home / "sealed" / "bundle.json").write_text("{}")
    line = description("2013-07-01", "pass", 0.4321, 0.0123, "1", "staleness")
    line += f" · {card_link(made.info.experiment_id, made.info.run_id)}"
    registry.register(made.info.run_id, f"runs:/{made.info.run_id}/model", home.home / "sealed", {}, line)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_", "DO_NOT_TRACK"))}
    errors = home.home / "ui.err"
    with errors.open("w") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "monitoring", "ui"],
            cwd=ROOT,
            env={**clean, "MLOPS_HOME": str(home.home)},
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    assert child.stdout
    try:
        line = next((line for line in child.stdout if line.startswith("ui | ")), "")
        assert line, f"it ended with {child.wait(60)}: {errors.read_text().strip()[-160:]}"
        yield dict(item.split(" ") for item in line.split(" | ")[1].strip().split(", "))
    finally:
        child.terminate()
        child.wait(60)
        child.stdout.close()


# Our commands, which run in the process of other tests, switch Prefect's log off for themselves and their children.
OTHERS = ("MLOPS_", "PREFECT_")
# At its end a process gives Prefect 5 seconds for the lines of its log; on a busy machine they are lost then.
SCORE_FILES = """
import sys
from prefect.logging.handlers import APILogWorker
from level1_pipeline.orchestration.flow import score_folder
score_folder(*sys.argv[1:])
APILogWorker.drain_all()
"""


def score_an_empty_inbox(home: Settings, prefect: str) -> str:
    """A real run of Prefect on the server of the dashboards, and the name that we give it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
    environment = {**clean, "MLOPS_HOME": str(home.home), "PREFECT_API_URL": f"{prefect}/api"}
    inbox = [str(home.home / name) for name in ("inbox", "scores")]
    subprocess.run([sys.executable, "-c", SCORE_FILES, *inbox], cwd=ROOT, env=environment, check=True, timeout=300)
    return f"score files on {date_of(datetime.now(UTC))}"


def test_the_dashboards_open_in_a_browser_and_ask_nobody_else(
    home: Settings, running: dict[str, str], visit: Callable[[str], Visit]
) -> None:
    assert list(running) == ["Overview", "Evidently", "MLflow", "Prefect"]
    begin = visit(running["Overview"])
    assert begin.page.locator("img").evaluate("image => image.naturalWidth") > 300
    assert begin.page.get_by_text(html_report.HEADLINE["nothing"]).count() == 2
    cards = {card.inner_text(): card.get_attribute("href") for card in begin.page.locator(".card a").all()}
    report = begin.page.locator(".look a").first
    report.click()
    assert begin.page.locator("h1").inner_text() == html_report.HEADLINE["nothing"]
    seen = visit(cards["Evidently"] or "")
    seen.page.get_by_text("Distance of each column").first.wait_for(timeout=180_000)
    for end in (END - WEEK, END):  # a point for each run
        seen.page.get_by_text(f"{end:%Y-%m-%d}").first.wait_for(timeout=180_000)
    for name in schema.names():
        assert seen.page.get_by_text(name, exact=True).count() >= 1, name
    mlflow = visit(cards["MLflow: trainings"] or "")
    for text in ("as of 2013-07-01: fail", "-0.0123", "gain", "verdict"):
        mlflow.page.get_by_text(text).first.wait_for(timeout=180_000)
    versions = visit(cards["MLflow: versions"] or "")
    versions.page.get_by_text("2013-07-01 · gate PASS").first.wait_for(timeout=180_000)
    versions.page.get_by_role("link", name=re.compile("^Version ")).first.click()
    for text in ("0.0123 better than champion 1", "trigger: staleness", "model card"):
        versions.page.get_by_text(text).first.wait_for(timeout=180_000)
    name = score_an_empty_inbox(home, running["Prefect"])
    prefect = visit(cards["Prefect"] or "")
    prefect.page.get_by_text("Work Pools").first.wait_for(timeout=180_000)
    prefect.page.get_by_role("link", name=name).first.click()
    prefect.page.wait_for_url("**/flow-run/**")
    log = f"Beginning flow run '{name}' for flow 'score {problem.NAME}'", "Finished in state Completed"
    for text in ("Job Variables", *log):  # only the page of a run has job variables
        prefect.page.get_by_text(text).first.wait_for(timeout=180_000)
    assert {name for item in (begin, seen, mlflow, versions, prefect) for name in item.elsewhere} == set()
