"""What a person reads when something is wrong: what it is, how we know, how to decide, and what to run."""

from __future__ import annotations

from datetime import datetime

from level1_pipeline import problem
from level1_pipeline.store import quarantine
from level1_pipeline.store.days import date_of, local
from level1_pipeline.store.quarantine import Quarantined
from monitoring.results import Coverage, Interval, MonitoringRun, Performance, Span

TREE = {
    "data fault": (
        "Is the source of the data really broken? Look at the rows of the quarantined span.",
        "Yes: have it mended. The span stays out of training and of judging; do **not** train again.",
        "No, the world became like this: lift the span (`python -m monitoring quarantine`) and start a monitoring run again.",
    ),
    "label fault": (
        "Are the labels really broken? Compare some of the span below with the system that they come from.",
        "Yes: have their source mended, and report them again (`python -m monitoring outcomes FILE`); then lift the span. "
        "Do **not** train on them; the inputs of these rows are fine and go on counting.",
        "No, they are right: lift the span (`python -m monitoring quarantine`) and start a monitoring run again.",
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
        "No longer: the next monitoring run closes this ticket.",
    ),
    "inconclusive": (
        "What is missing (below): outcomes, rows, a champion, or a part of the monitoring?",
        "Outcomes: why does their source not deliver? `python -m monitoring outcomes FILE` takes them in.",
        "Until then nobody knows how good the model is. Change nothing on the strength of it.",
    ),
}


def title(run: MonitoringRun, incident: str) -> str:
    """One line for a list."""
    return f"{run.problem}: {incident}"


def commands(run: MonitoringRun) -> list[str]:
    """What to run, ready to be copied."""
    diagnosis = run.diagnosis
    back = f" --to {diagnosis.version}" if diagnosis.version else ""
    todo = {
        "retrain": [f"python -m level1_pipeline train --trigger '{diagnosis.cause}' --reason 'monitoring ticket'"],
        "roll back": [f"python -m level1_pipeline rollback{back} --reason 'monitoring: bad release'"],
        "switch back": [
            f"python -m level1_pipeline promote {diagnosis.version} --reason 'monitoring: recurring concept'"
        ],
    }.get(diagnosis.action, [])
    return [*todo, "python -m level1_pipeline history", "python -m monitoring run"]


def body(run: MonitoringRun, incident: str) -> str:
    """The ticket in Markdown."""
    diagnosis = run.diagnosis
    window = f"{day(run.window.start)} to {day(run.window.end)}"
    lines = [f"# {title(run, incident)}", "", diagnosis.message, ""]
    lines += [f"- to do: **{diagnosis.action}** (confidence {diagnosis.confidence})", f"- window: {window}"]
    lines += [f"- champion: {run.champion or 'none'}", f"- coverage: {coverage(run.coverage)}"]
    lines += [f"- dollars since its promotion: {spent}"] if (spent := dollars(run)) else []
    parts = {
        "Evidence": diagnosis.evidence,
        "What is missing": diagnosis.missing,
        "Where": [
            f"{part.slice}: {part.share:.0%} of the rows, change {part.change:+.3f}" for part in diagnosis.slices
        ],
        "Columns most responsible": [
            f"{effect.column} ({effect.size:.1f} standard deviations)" for effect in diagnosis.columns
        ],
        "Quarantined": [f"{span(set_apart)}: {set_apart.reason}" for set_apart in diagnosis.quarantine],
    }
    for name, points in parts.items():
        lines += ["", f"## {name}", "", *(f"- {point}" for point in points)] if points else []
    lines += ["", "## How to decide", "", *(f"{n}. {step}" for n, step in enumerate(TREE.get(diagnosis.cause, ()), 1))]
    return "\n".join([*lines, "", "## Commands", "", "```", *commands(run), "```", ""])


def day(time: datetime) -> str:
    """The problem's local day, by which windows are cut."""
    return str(date_of(time))


def coverage(of: Coverage) -> str:
    """Never a metric without it."""
    left_out = f", {of.quarantined:,} quarantined" if of.quarantined else ""
    left_out = (
        f", {of.labels_quarantined:,} with a label in quarantine{left_out}" if of.labels_quarantined else left_out
    )
    states = f"{of.matured:,} with an outcome, {of.open:,} still open, {of.never:,} never coming"
    return f"{of.predictions:,} predictions: {states}{left_out}"


def span(of: Span | Quarantined) -> str:
    """What is set apart: the labels of a slice, or all rows, of which days."""
    labels = "the labels of " if of.what == quarantine.LABELS else ""
    return f"{labels}{of.slice or 'all rows'} from {local(of.start)} to {local(of.end)}"


def interval(value: Interval | None) -> str:
    """A value with its interval, or that there is none."""
    if value is None or value.value is None:
        return "not defined"
    around = f" [{value.low:.3f}, {value.high:.3f}]" if value.low is not None and value.high is not None else ""
    return f"{value.value:.4f}{around}"


def lines(performance: Performance) -> dict[str, str]:
    """How a version did, as named lines: first how much is known, then every metric with its interval."""
    coverage_ = performance.coverage
    return {
        "predictions": f"{coverage_.predictions:,}",
        "with an outcome": f"{coverage_.matured:,}",
        "still open": f"{coverage_.open:,}",
        "never coming": f"{coverage_.never:,}",
        "quarantined": f"{coverage_.quarantined:,}",
        "label quarantined": f"{coverage_.labels_quarantined:,}",
        "without a score": f"{performance.errors:,}",
        "median latency, ms": "-" if performance.latency_ms is None else f"{performance.latency_ms:.2f}",
        **{name: interval(value) for name, value in performance.metrics.items()},
        **({"metrics rest on": f"{performance.sampled:.0%} of the rows"} if performance.sampled < 1 else {}),
    }


def table(performances: tuple[Performance, ...]) -> dict[str, list[str]]:
    """The lines of several versions side by side; `-` where one has no such line."""
    columns = [lines(performance) for performance in performances]
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: [column.get(name, "-") for column in columns] for name in names}


def verdict(run: MonitoringRun) -> str:
    """The answer in a few words."""
    diagnosis = run.diagnosis
    return diagnosis.cause if diagnosis.action == "none" else f"{diagnosis.cause}: {diagnosis.action}"


def summary(run: MonitoringRun) -> str:
    """The answer for the last line of a command; what could not be judged says why."""
    reason = f" ({run.diagnosis.message})" if run.diagnosis.cause == "inconclusive" else ""
    return verdict(run) + reason


def estimated(run: MonitoringRun) -> str | None:
    """The champion's performance before outcomes come, with the sentence about its limit."""
    estimate = next((p.estimate for p in run.performances if p.version == run.champion and p.estimate), None)
    if estimate is None:
        return None
    value = interval(estimate.metrics.get(problem.PRIMARY_METRIC))
    return f"estimated {problem.PRIMARY_METRIC} {value} on {estimate.rows:,} rows. {estimate.message}"


def dollars(run: MonitoringRun) -> str | None:
    """What the champion's decisions have cost and saved since its promotion; None where the problem has no COSTS."""
    if run.dollars is None:
        return None
    total, days = run.dollars.total, run.dollars.days
    if not total.rows:
        return f"no matured decision since the promotion of version {run.champion} at {local(run.dollars.since)}"
    lost, saved = (f"{value:,.0f} dollars ({value / days:,.0f} a day)" for value in (total.lost, total.saved))
    span = f"{total.rows:,} matured decisions from {local(run.dollars.since)} to {local(run.dollars.until)}"
    return f"lost {lost}; saved {saved} against the best constant decision ({total.best_constant}); {span}"


def findings(run: MonitoringRun) -> list[str]:
    """What the terminal shows below the table of versions."""
    lines = [f"drift: {run.drift.verdict}, {run.drift.message}", f"skew: {run.skew.verdict}, {run.skew.message}"]
    lines += [f"before outcomes come: {estimate}"] if (estimate := estimated(run)) else []
    lines += [f"dollars since the promotion: {spent}"] if (spent := dollars(run)) else []
    lines += [f"evidence: {evidence}" for evidence in run.diagnosis.evidence]
    return lines + [f"missing: {need}" for need in run.diagnosis.missing]
