"""One page about a home: what happened in it, in order, and where its reports, cards and dashboards are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from level1_pipeline.store.tables import monitoring_runs
from monitoring.data.versions import releases
from monitoring.reporting import html_report, plots
from monitoring.results import MonitoringRun

RUNS_LISTED = 60
ROLLED_BACK = "rolled back"  # the last step of a rollout that failed
LONG = 220  # characters of a reason; the rest opens when it is clicked
SUMMER, OWN = "the simulated summer", "your own home"


class Link(NamedTuple):
    """A page, and what one sees there."""

    name: str
    address: str
    shows: str


class Event(NamedTuple):
    """A line of the audit log, with the page that tells more; empty where there is none."""

    day: str
    what: str
    version: str
    why: str
    page: str


def is_told(line: audit.Line) -> bool:
    """Whether a line is part of the story: not a step of which the next line says the same, and no deletion by age."""
    match line.action:
        case (
            audit.RolloutStarted()
            | audit.RolloutMoved(step="blessed")
            | audit.Promoted(alias="challenger")
            | audit.OldRowsDeleted()
        ):
            return False
    return True


def path(home: Settings) -> Path:
    """Where the page of a home lies."""
    return home.home / "reports" / "overview.html"


def write(home: Settings, title: str, dashboards: Sequence[Link] = (), others: Sequence[Link] = ()) -> Path:
    """Write the page, whole or not at all; returns where it is.

    Args:
        home: the settings of the home that it is about.
        title: what people call that home.
        dashboards: that are running now.
        others: pages of other homes, of the service, or of the year.
    """
    target, store = path(home), Store(home.operations)
    try:
        log, runs = store.audit_log(problem.NAME), monitored(store)
        picture = _picture(store, runs) if runs else None
        champion, champions = store.route(problem.NAME).champion, len(releases(store))
    finally:
        store.close()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("overview.html").render(
        problem=problem.NAME,
        title=title,
        champion=champion,
        counts=_counts(log, champions),
        dashboards=dashboards,
        picture=picture,
        events=list(_events(home, log)),
        runs=[_report(home, run) for run in reversed(runs)],
        others=others,
        long=LONG,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_suffix(f".{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(target)
    return target


def monitored(store: Store) -> list[MonitoringRun]:
    """The newest monitoring runs, the newest first."""
    own = monitoring_runs.c.problem == problem.NAME
    newest_first = sa.select(monitoring_runs.c.figures).where(own).order_by(monitoring_runs.c.window_end.desc())
    with store.engine.connect().execution_options(reads_only=True) as connection:
        return [MonitoringRun.from_dict(row) for row in connection.scalars(newest_first.limit(RUNS_LISTED))]


def _picture(store: Store, runs: Sequence[MonitoringRun]) -> plots.Picture:
    """The days of all runs, whoever was the champion then."""
    by_day = {
        day.day: day
        for run in reversed(runs)
        for performance in run.performances
        if performance.arm == "champion"
        for day in performance.days
        if day.metrics.get(problem.PRIMARY_METRIC) is not None  # else its labels came after the run
    }
    draw = partial(
        plots.over_time, days=[by_day[day] for day in sorted(by_day)], releases=releases(store), promised=None
    )
    return plots.picture(draw, f"{problem.PRIMARY_METRIC} by day, with a line where another version took over", 5, 2)


def _counts(log: Sequence[audit.Line], champions: int) -> dict[str, int]:
    """How often what happened."""

    def count(*kinds: type[audit.Action]) -> int:
        return sum(isinstance(line.action, kinds) for line in log)

    rejected = sum(isinstance(line.action, audit.RolloutMoved) and line.action.step == ROLLED_BACK for line in log)
    return {
        "data faults in quarantine": count(audit.DataQuarantined),
        "trainings": count(audit.TrainingJudged, audit.TrainingStopped, audit.TrainingCrashed),
        "champions": champions,
        "rollbacks": count(audit.RolledBack) + rejected,
    }


def _events(home: Settings, log: Sequence[audit.Line]) -> Iterator[Event]:
    for line in filter(is_told, log):
        day = str(date_of(line.at))
        version = getattr(line.action, "candidate", None) or line.to_version or ""
        yield Event(day, line.text, version, line.reason, _page_of(home, line, day))


def _page_of(home: Settings, line: audit.Line, day: str) -> str:
    """The model card of a training, or the report of the monitoring run of that day; relative to this page."""
    reports = home.home / "reports"
    match line.action:
        case audit.TrainingJudged() | audit.TrainingStopped():
            places = [reports / "level1" / problem.NAME / day / name for name in ("model_card.md", "checks.html")]
        case _:
            places = [reports / "monitor" / problem.NAME / f"{day}.html"]
    return next((relative(home, place) for place in places if place.exists()), "")


def relative(home: Settings, page: Path) -> str:
    """The address of another page, as this one links to it: in a file and on a server alike."""
    return Path(os.path.relpath(page, path(home).parent)).as_posix()


def _report(home: Settings, run: MonitoringRun) -> dict[str, Any]:
    page = html_report.path(home, run)
    return {
        "day": str(date_of(run.window.end)),
        "champion": run.champion or "none",
        "headline": html_report.HEADLINE[run.diagnosis.cause],
        "look": html_report.LOOK.get(run.diagnosis.cause, "act"),
        "page": relative(home, page) if page.exists() else "",
    }
