"""What a run of the loop did, in Markdown for the page of its job."""

from __future__ import annotations

from level1_pipeline import problem
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of
from level2_cicd.simulation.week import Week
from monitoring import history
from monitoring.alerting import tickets
from monitoring.reporting.overview import is_told
from monitoring.reporting.text import interval


def page(week: Week, store: Store) -> str:
    """The events of the days, the newest monitoring run, and what a person has to do."""
    lines = [f"## {problem.NAME}: {week.first} to {week.last}", "", f"Champion: version {week.champion}.", ""]
    if week.waiting:
        version, step = week.waiting
        lines += [f'**A person is needed**: `make approve VERSION={version} STEP="{step}"`, or `make reject`.', ""]
    return "\n".join([*lines, *_monitoring(store), *_tickets(store), *_events(week)])


def _monitoring(store: Store) -> list[str]:
    run = history.newest(store, store.replay_time())
    if run is None:
        return []
    rows = [
        f"| {each.version} | {each.arm} | {interval(each.metrics.get(problem.PRIMARY_METRIC))} |"
        for each in run.performances
    ]
    head = ["| version | arm | " + problem.PRIMARY_METRIC + " |", "|---|---|---|"] if rows else []
    return [f"Monitoring: **{run.diagnosis.cause}**. {_cell(run.diagnosis.message)}", "", *head, *rows, ""]


def _tickets(store: Store) -> list[str]:
    named = [f"- ticket {ticket['number']}: {_cell(ticket['incident'])}" for ticket in tickets.open_tickets(store)]
    return ["Open tickets:", "", *named, ""] if named else []


def _events(week: Week) -> list[str]:
    rows = [
        f"| {date_of(line.at)} | {_cell(line.text)} | {line.to_version or ''} | {_cell(line.reason)} |"
        for line in filter(is_told, week.log)
    ]
    head = ["| day | what | version | why |", "|---|---|---|---|"]
    return [*head, *rows, ""] if rows else ["Nothing has changed.", ""]


def _cell(text: str) -> str:
    """What people and data say is no Markdown and no HTML."""
    for sign in "\\`*_<>[]|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
