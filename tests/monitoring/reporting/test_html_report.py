"""The report of a run: the answer on top, everything inside, nothing from elsewhere, nobody's rows."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.decisions import Decisions
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from monitoring import history
from monitoring.data.prediction_window import whole_days
from monitoring.reporting import evidently_snapshot, html_report, plots, text
from monitoring.results import Coverage, Drift, Effect, Interval, MonitoringRun, Release
from tests.support.monitoring_runs import (
    CHANGE,
    DOLLARS,
    END,
    FAULT,
    METRIC,
    NOTHING,
    RELEASE,
    RETURN,
    SHIFT,
    UNSURE,
    a_run,
    days,
    performance,
)

EMPTY = Coverage(0, 0, 0, 0)
FIRST = a_run(
    UNSURE,
    champion=None,
    coverage=EMPTY,
    performances=(),
    releases=(),
    drift=Drift("inconclusive", None, (), 0, 0, "no rows"),
)


class Tags(HTMLParser):
    """Checks that every tag is closed, and collects what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.stack.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def written(settings: Settings, store: Store, run: MonitoringRun, **more: Any) -> str:
    return html_report.write(settings, store, run, [], **more).read_text()


def pictures(page: str) -> dict[str, str]:
    """The drawings by their description."""
    result = re.findall(r'<img alt="([^"]+)" src="data:image/svg\+xml;base64,([^"]+)"', page)
    return {message: base64.b64decode(code).decode() for message, code in result}


@pytest.mark.parametrize(
    "answer", [NOTHING, SHIFT, FAULT, CHANGE, RELEASE, RETURN, UNSURE], ids=lambda item: item.cause
)
@pytest.mark.slow
def test_the_answer_stands_on_top_in_words(home: Settings, store: Store, answer: Any) -> None:
    page = written(home, store, a_run(answer))
    top = page.split("<h2>")[0]
    assert html_report.HEADLINE[answer.cause] in re.sub("&#39;", "'", top.split("</h1>")[0])
    assert all(
        message in top
        for message in (answer.message, answer.action, f"confidence {answer.confidence}", *answer.evidence)
    )
    assert ("What to run" in top) == (answer.cause not in ("nothing", "covariate shift"))


def test_the_page_is_complete_in_itself_and_well_formed(home: Settings, store: Store) -> None:
    page = written(home, store, a_run(FAULT), evidently={"temp": (0.4, "Wasserstein distance (normed)")})
    tags = Tags()
    tags.feed(page)
    assert tags.stack == []
    assert tags.loads
    assert all(load.startswith("data:image/svg+xml;base64,") for load in tags.loads)
    assert "<script" not in page
    for drawing in pictures(page).values():
        assert set(re.findall(r'(?:xlink:href|src)="([^#"][^"]*)"', drawing)) == set()


def test_every_metric_stands_beside_its_interval_its_promise_and_the_coverage(home: Settings, store: Store) -> None:
    page = written(home, store, a_run())
    top = page.split("<h2>")[0]
    assert "0.4800 [0.440, 0.520]; at promotion 0.4700" in top
    assert "6,000 predictions: 5,400 with an outcome, 400 still open, 200 never coming" in top
    assert "It cannot see concept drift." in top
    assert "roc_auc</td><td>not defined" in top


@pytest.mark.flights
def test_the_page_and_the_ticket_state_the_dollars_since_the_promotion(home: Settings, store: Store) -> None:
    run = a_run(CHANGE, dollars=DOLLARS)
    spent = (
        "lost 10,000 dollars (1,000 a day); saved 8,000 dollars (800 a day) against the best constant decision "
        "(never act); 2,000 matured decisions from 2013-06-24 00:00 EDT to 2013-07-04 00:00 EDT"
    )
    assert spent in written(home, store, run).split("<h2>")[0]
    assert f"- dollars since its promotion: {spent}" in text.body(run, "concept drift")
    assert f"dollars since the promotion: {spent}" in text.findings(run)  # in the terminal
    young = a_run(dollars=replace(DOLLARS, until=DOLLARS.since, total=Decisions()))
    assert "no matured decision since the promotion of version 2" in written(home, store, young)
    without = a_run(CHANGE, dollars=None)  # a problem without COSTS
    assert "dollars" not in (written(home, store, without) + text.body(without, "concept drift")).lower()


def test_there_are_plots_of_performance_calibration_slices_drift_and_coverage(home: Settings, store: Store) -> None:
    drawn = pictures(written(home, store, a_run()))
    named = ["performance by day", "calibration", "metric by slice", "columns by effect", "coverage by day"]
    assert list(drawn) == named
    assert METRIC in drawn["performance by day"]
    assert "origin EWR" in drawn["metric by slice"]
    assert "temp: mean" in drawn["columns by effect"]
    assert "carrier UA: share" in drawn["columns by effect"]


def test_a_release_is_marked_at_its_day_and_only_if_it_is_in_the_plot(home: Settings, store: Store) -> None:
    long_ago = Release("1", END - timedelta(days=99), "promote", None)
    now = Release("2", END - timedelta(days=3), "rollback", "3")
    drawn = pictures(written(home, store, a_run(releases=(long_ago, now))))["performance by day"]
    assert "version 2" in drawn
    assert "rollback" in drawn
    assert "version 1" not in drawn


def test_performance_over_time_goes_back_over_earlier_runs(store: Store) -> None:
    for week in (-3, -2, -1):
        history.record(store, a_run(weeks=week))
    shown = html_report.days_so_far(store, a_run())
    assert [day.day for day in shown] == sorted({day.day for day in shown})
    assert (len(shown), shown[-1].day) == (28, days()[-1].day)


def test_of_a_day_that_two_passes_saw_the_newer_figures_count(store: Store) -> None:
    before = a_run()
    history.record(store, replace(before, window=replace(before.window, end=END - timedelta(days=1))))
    amended = tuple(replace(day, observed=0.9) for day in days())
    shown = html_report.days_so_far(store, a_run(performances=(performance(days=amended),)))
    assert {day.observed for day in shown} == {0.9}


def test_the_first_run_of_an_empty_home_has_a_page_too(home: Settings, store: Store) -> None:
    page = written(home, store, FIRST)
    assert "No predictions in this window." in page
    assert "none yet" in page
    assert pictures(page) == {}


def test_figures_that_cannot_be_had_do_not_stop_the_page(home: Settings, store: Store) -> None:
    nothing = {METRIC: Interval(None), "skill": Interval(0.1)}
    blank = tuple(replace(day, metrics={METRIC: None}, observed=None, expected=None) for day in days(1))
    item = performance(metrics=nothing, promised={}, days=blank, calibration=(), estimate=None, latency_ms=None)
    page = written(home, store, a_run(performances=(item,)))
    assert "no estimate" in page
    assert "0.1000" in page


def test_words_from_outside_cannot_become_markup(home: Settings, store: Store) -> None:
    evil = "<script>alert(1)</script>"
    run = a_run(
        replace(FAULT, message=evil, evidence=(evil,)),
        performances=(performance(version=evil, slices=performance().slices),),
        champion=evil,
        drift=Drift("moved", 0.1, (Effect(f"{evil}|carrier", 1.0),), 1, 3, evil),
        releases=(Release(evil, END - timedelta(days=2), evil, None),),
    )
    page = html_report.page(
        run, list(days()), [{"number": 1, "title": evil, "opened_at": END, "seen": 1}], {evil: (1.0, evil)}
    )
    assert "<script" not in page
    assert "alert(1)" in page
    assert all("<script" not in drawing for drawing in pictures(page).values())


def test_the_same_pass_again_replaces_its_page_and_gives_the_same_bytes(home: Settings, store: Store) -> None:
    first = html_report.write(home, store, a_run(), [])
    before = first.read_bytes()
    assert html_report.write(home, store, a_run(), []) == first
    assert first.read_bytes() == before
    assert [path.name for path in first.parent.iterdir()] == ["2013-07-08.html"]
    assert first.parent == home.home / "reports" / "monitor" / problem.NAME


def test_coverage_is_said_for_every_version_arm_and_slice(home: Settings, store: Store) -> None:
    page = written(home, store, a_run(performances=(performance(sampled=0.25), performance("3", "shadow"))))
    assert page.count("5,400 with an outcome") == 1 + len(performance().slices)
    assert "<th>version 2, champion</th><th>version 3, shadow</th>" in page
    assert "<td>with an outcome</td><td>5,400</td><td>5,400</td>" in page
    assert "<td>metrics rest on</td><td>25% of the rows</td><td>-</td>" in page


def test_the_report_lies_under_the_local_day_at_which_the_window_ends(home: Settings) -> None:
    assert html_report.path(home, a_run()) == Path(home.home, "reports", "monitor", problem.NAME, "2013-07-08.html")


def test_windows_are_named_by_the_days_of_the_problem_and_not_by_those_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """East of Greenwich a local midnight lies on the day before."""
    monkeypatch.setattr(problem, "TIMEZONE", "Asia/Tokyo")
    run = a_run(CHANGE, window=whole_days(date(2013, 7, 8), 7))
    assert "- window: 2013-07-01 to 2013-07-08\n" in text.body(run, "an incident")


def test_a_log_that_is_too_young_to_compare_with_is_compared_with_the_rows_before(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has a reference then, made by the training code, and the log has no row in it."""
    made = pd.DataFrame({name: [1.0] * evidently_snapshot.COMPARABLE_MIN_ROWS for name in schema.names()}).astype(
        schema.dtypes()
    )
    monkeypatch.setattr(problem, "load", lambda *_: made)
    run = a_run()
    assert run.reference
    assert (
        len(evidently_snapshot._reference(home, store, run, evidently_snapshot.SAMPLE_ROWS))
        == evidently_snapshot.COMPARABLE_MIN_ROWS
    )


def test_values_with_dollars_are_no_formulas() -> None:
    effects = (Effect("$\\frac$ 5 & $6|carrier", 2.0), Effect("a_$x^$|mean", 1.0))
    drawn = plots.picture(lambda axes: plots.drift(axes, effects), "drift")
    svg = base64.b64decode(drawn.src.partition(",")[2]).decode()
    assert "$\\frac$ 5 &amp; $6" in svg
