"""The page that leads to all others: what it tells, which home it is about, and what its server gives away."""

from __future__ import annotations

import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest

from level1_pipeline import problem
from level1_pipeline.errors import NotFound
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Change, DataQuarantined, OldRowsDeleted, TrainingJudged
from level1_pipeline.store.database import Store
from monitoring import history
from monitoring.reporting import dashboards, html_report, overview, page_server
from tests.support.monitoring_runs import END, FAULT, a_run

pytestmark = pytest.mark.integration


def test_it_tells_the_audit_log_with_links_to_the_pages_that_exist(home: Settings, store: Store) -> None:
    history.record(store, run := a_run(FAULT))
    report = html_report.write(home, store, run, [])
    card = home.home / "reports" / "level1" / problem.NAME / "2013-07-01" / "model_card.md"
    card.parent.mkdir(parents=True)
    card.write_text("# card")
    for action, why, days in (
        (TrainingJudged(END.isoformat(), status="fail"), "harm <b>is</b> bounded", 7),
        (DataQuarantined(), "temp is stuck", 0),
        (OldRowsDeleted(), "too old to tell", 0),
    ):
        store.record(problem.NAME, Change("t", action, why, END - timedelta(days=days)))
    page = overview.write(home, overview.OWN)
    text = page.read_text()
    for target in (report, card):
        address = overview.relative(home, target)
        assert f'href="{address}"' in text
        assert (page.parent / address).samefile(target)
    assert "harm &lt;b&gt;is&lt;/b&gt; bounded" in text
    assert "<b>1</b>data faults in quarantine" in text
    assert html_report.HEADLINE["data fault"] in text
    assert "too old to tell" not in text


def test_an_empty_home_says_what_to_run_first(home: Settings, store: Store) -> None:
    text = overview.write(home, overview.OWN).read_text()
    assert "make level1" in text
    assert "make monitor" in text


def test_the_summer_opens_until_there_is_a_monitoring_run_of_ones_own(home: Settings, store: Store) -> None:
    assert dashboards.home_shown(home).home == home.home
    with pytest.raises(NotFound, match="make level2"):
        dashboards.home_shown(home, "summer")
    home.summer.mkdir(parents=True)
    (home.summer / "operations.db").touch()
    assert dashboards.home_shown(home).home == home.summer
    assert dashboards.home_shown(home, "own").home == home.home
    history.record(store, a_run())
    assert dashboards.home_shown(home).home == home.home
    assert dashboards.home_shown(home, "summer").home == home.summer


def test_the_server_gives_pages_and_no_database(tmp_path: Path) -> None:
    for name in ("a.html", "card.md", "operations.db"):
        (tmp_path / name).write_text(f"this is {name}")
    with page_server.serve(tmp_path, 0, tmp_path / "a.html") as port:
        root = f"http://127.0.0.1:{port}"
        for path, expected in (("", "a.html"), ("/card.md", "card.md")):
            with urllib.request.urlopen(root + path) as answer:
                assert answer.read().decode() == f"this is {expected}"
        for path in ("/operations.db", "/x/", "/%2e%2e/operations.db", "/operations.db?x=.html"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(root + path)


def test_two_pages_that_want_the_same_port_open_on_two(tmp_path: Path) -> None:
    pages = [tmp_path / "summer.html", tmp_path / "own.html"]
    for page in pages:
        page.write_text(page.stem)
    with page_server.serve(tmp_path, 0, pages[0]) as wanted, page_server.serve(tmp_path, wanted, pages[1]) as other:
        for port, page in zip((wanted, other), pages, strict=True):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                assert answer.read().decode() == page.stem
