"""What a person reads when something is wrong: what it is, how we know, how to decide, and what to run."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from level1_pipeline import problem
from monitoring.results import Coverage, Interval, MonitoringRun, Performance

TREE = {
    "data fault": (
        "Is the source of the data really broken? Look at the rows of the quarantined span.",
        "Yes: have it mended. The span stays out of training and of judging; do **not** train again.",
        "No, the world became like this: lift the span (`python -m monitoring quarantine`) and run the pass again.",
    ),
    "concept drift": (
        "Do new outcomes confirm it (calibration or skill, not only inputs)?",
        "Yes: train on all matured rows. The gate decides whether the new model is better.",
        "The gate vetoes it: the ticket stays open. More outcomes, or another model, are needed.",
    ),
    "bad release": (
        "Did the trouble begin with the version named below, and is the one before fine on the same days?",
        "Yes: roll back now; that takes seconds and trains nothing.",
        "Then find out what the gate did not see, before the next release.",
    ),
    "recurring concept": (
        "Does the earlier version fit the newest outcomes clearly better than the champion?",
        "Yes: switch back to it. Training now would learn from weeks that are over.",
        "No longer: the next pass closes this ticket.",
    ),
    "inconclusive": (
        "What is missing (below): outcomes, rows, a champion, or a part of the monitoring?",
        "Outcomes: why does their source not deliver? `python -m monitoring outcomes FILE` takes them in.",
        "Until then nobody knows how good the model is. Change nothing on the strength of it.",
    ),
}


def title(found: MonitoringRun, incident: str) -> str:
    """One line for a list."""
    return f"{found.problem}: {incident}"


def commands(found: MonitoringRun) -> list[str]:
    """What to run, ready to be copied."""
    said = found.diagnosis
    back = f" --to {said.version}" if said.version else ""
    todo = {
        "retrain": [f"python -m level1_pipeline train --trigger '{said.cause}' --reason 'monitoring ticket'"],
        "roll back": [f"python -m level1_pipeline rollback{back} --reason 'monitoring: bad release'"],
        "switch back": [f"python -m level1_pipeline promote {said.version} --reason 'monitoring: recurring concept'"],
    }.get(said.action, [])
    return [*todo, "python -m level1_pipeline history", "python -m monitoring run"]


def body(found: MonitoringRun, incident: str) -> str:
    """The ticket in Markdown."""
    said = found.diagnosis
    window = f"{day(found.window.start)} to {day(found.window.end)}"
    lines = [f"# {title(found, incident)}", "", said.message, ""]
    lines += [f"- to do: **{said.action}** (confidence {said.confidence})", f"- window: {window}"]
    lines += [f"- champion: {found.champion or 'none'}", f"- coverage: {coverage(found.coverage)}"]
    parts = {
        "Evidence": said.evidence,
        "What is missing": said.missing,
        "Where": [f"{one.slice}: {one.share:.0%} of the rows, change {one.change:+.3f}" for one in said.slices],
        "Columns most responsible": [f"{one.column} ({one.size:.1f} standard deviations)" for one in said.columns],
        "Quarantined": [
            f"{one.slice or 'all rows'} from {local(one.start)} to {local(one.end)} ({problem.TIMEZONE}): {one.reason}"
            for one in said.quarantine
        ],
    }
    for name, points in parts.items():
        lines += ["", f"## {name}", "", *(f"- {point}" for point in points)] if points else []
    lines += ["", "## How to decide", "", *(f"{n}. {step}" for n, step in enumerate(TREE.get(said.cause, ()), 1))]
    return "\n".join([*lines, "", "## Commands", "", "```", *commands(found), "```", ""])


def day(time: datetime) -> str:
    """The problem's local day, by which windows are cut."""
    return f"{time.astimezone(ZoneInfo(problem.TIMEZONE)):%Y-%m-%d}"


def local(time: datetime) -> str:
    """The problem's local day and time."""
    return f"{time.astimezone(ZoneInfo(problem.TIMEZONE)):%Y-%m-%d %H:%M}"


def coverage(of: Coverage) -> str:
    """Never a metric without it."""
    left_out = f", {of.quarantined:,} quarantined" if of.quarantined else ""
    known = f"{of.matured:,} with an outcome, {of.open:,} still open, {of.never:,} never coming"
    return f"{of.predictions:,} predictions: {known}{left_out}"


def interval(one: Interval | None) -> str:
    """A value with its interval, or that there is none."""
    if one is None or one.value is None:
        return "not defined"
    around = f" [{one.low:.3f}, {one.high:.3f}]" if one.low is not None and one.high is not None else ""
    return f"{one.value:.4f}{around}"


def lines(one: Performance) -> dict[str, str]:
    """How a version did, as named lines: first how much is known, then every metric with its interval."""
    of = one.coverage
    return {
        "predictions": f"{of.predictions:,}",
        "with an outcome": f"{of.matured:,}",
        "still open": f"{of.open:,}",
        "never coming": f"{of.never:,}",
        "quarantined": f"{of.quarantined:,}",
        "without a score": f"{one.errors:,}",
        "median latency, ms": "-" if one.latency_ms is None else f"{one.latency_ms:.2f}",
        **{name: interval(value) for name, value in one.metrics.items()},
        **({"metrics rest on": f"{one.sampled:.0%} of the rows"} if one.sampled < 1 else {}),
    }


def table(performances: tuple[Performance, ...]) -> dict[str, list[str]]:
    """The lines of several versions side by side; `-` where one has no such line."""
    each = [lines(one) for one in performances]
    names = dict.fromkeys(name for one in each for name in one)
    return {name: [one.get(name, "-") for one in each] for name in names}


def verdict(found: MonitoringRun) -> str:
    """The answer in a few words."""
    said = found.diagnosis
    return said.cause if said.action == "none" else f"{said.cause}: {said.action}"


def estimated(found: MonitoringRun) -> str | None:
    """The champion's performance before outcomes come, with the sentence about its limit."""
    one = next((p.estimate for p in found.performances if p.version == found.champion and p.estimate), None)
    if one is None:
        return None
    value = interval(one.metrics.get(problem.PRIMARY_METRIC))
    return f"estimated {problem.PRIMARY_METRIC} {value} on {one.rows:,} rows. {one.message}"
