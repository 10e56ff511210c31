"""What people look at: plots and model card of a training run, and the page of its data checks.

Pages carry everything inside and need no network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation import decisions, gate, metrics, staleness
from level1_pipeline.evaluation.data_checks import Finding
from level1_pipeline.evaluation.drift import DriftTest
from level1_pipeline.evaluation.gate import Verdict
from level1_pipeline.schema.scores import by_part
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.store.days import local

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EVALUATED = "evaluation model"  # its column among the predictions; the others are the baselines
Predictions = Mapping[str, np.ndarray]  # what each model says about the holdout, by its name
ROWS_OF_THE_IMPORTANCE = 1000  # that are shuffled; more would only take time


def checks_page(path: Path, broken: list[Finding], checked: int, rows: int, drift: DriftTest | None) -> None:
    """Write the result of the data checks as one HTML page."""
    import jinja2

    source = Path(__file__).with_name("checks.html").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True).from_string(source)
    page = template.render(
        problem=problem.NAME,
        broken=[[f.part, f.column, f.rule, f.count, ", ".join(f.examples)] for f in broken],
        checked=checked,
        rows=rows,
        drift=drift,
        effects=[[name, f"{effect:.2f}"] for name, effect in drift.columns.items()] if drift else [],
        names=[part.name for part in fields(schema.Column)],
        columns=[["" if value is None else value for value in asdict(column).values()] for column in schema.columns()],
    )
    path.write_text(page, encoding="utf-8")


def plots(
    folder: Path,
    holdout: pd.DataFrame,
    predictions: Predictions,
    pipeline: Any,
    ageing: dict[str, dict[str, Any]] | None = None,
) -> list[Path]:
    """How good, for whom, why and for how long, each as one PNG.

    Args:
        folder: where to.
        holdout: the newest days, with labels.
        predictions: what each model says about the holdout.
        pipeline: the evaluation model.
        ageing: what `staleness.measure` gave, by what it is called in the picture; None where the past was too short.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from sklearn.metrics import PredictionErrorDisplay, RocCurveDisplay

    y, p = holdout[problem.TARGET].to_numpy(), predictions[EVALUATED]

    def roc(axes: Axes) -> None:  # of each model; of several classes, of each against all others
        curves = {name: (y, scores) for name, scores in predictions.items()}
        if classes():
            curves = {about: (labels, part) for about, labels, part in by_part(y, p)}
        for name, (labels, scores) in curves.items():
            RocCurveDisplay.from_predictions(labels, scores, name=name, ax=axes)

    def residuals(axes: Axes) -> None:
        PredictionErrorDisplay.from_predictions(y, p, kind="actual_vs_predicted", ax=axes)

    drawings = {"calibration": lambda axes: _calibration(axes, y, p)}
    drawings |= {"roc": roc} if task().has_classes else {"residuals": residuals}
    drawings["slices"] = lambda axes: _slices(axes, holdout, p)
    drawings["importance"] = lambda axes: _importance(axes, holdout, pipeline)
    figures = {name: partial(_one_picture, draw) for name, draw in drawings.items()}
    figures |= {"staleness": partial(staleness.draw, measured=ageing)} if ageing else {}
    paths = []
    for name, draw_all in figures.items():
        with mpl.rc_context({"text.parse_math": False}):  # a value with dollars is no formula
            figure = Figure(figsize=(7, 5), layout="constrained")
            draw_all(figure)
            paths.append(folder / f"{name}.png")
            figure.savefig(paths[-1], dpi=100)
    return paths


def _one_picture(draw: Callable[[Axes], None], figure: Figure) -> None:
    draw(figure.subplots())


def _calibration(axes: Axes, y: np.ndarray, p: np.ndarray) -> None:
    """Of probabilities and of a regression's values alike, which scikit-learn's display does not draw."""
    axes.axline((float(p.mean()), float(p.mean())), slope=1, color="0.6", linestyle="--", label="perfect")
    for about, labels, part in by_part(y, p):
        bins = pd.qcut(part, 10, duplicates="drop")
        means = pd.DataFrame({"p": part, "y": labels}).groupby(bins, observed=True).mean()
        label = f"{about}, a tenth of the rows each" if classes() else "a tenth of the rows each"
        axes.plot(means["p"], means["y"], marker="o", label=label)
    ylabel = f"share of each {problem.TARGET}" if classes() else f"mean {problem.TARGET}"
    axes.set(title="Do predictions mean what they say?", xlabel="mean prediction", ylabel=ylabel)
    axes.legend()


def _slices(axes: Axes, holdout: pd.DataFrame, p: np.ndarray) -> None:
    table = metrics.by_slice(holdout, p, gate.rules().slice_min_rows)
    axes.set(title=f"{problem.PRIMARY_METRIC} by slice (lower is better)", xlabel=problem.PRIMARY_METRIC)
    if not table.empty:
        table = table.sort_values(problem.PRIMARY_METRIC)
        names = table["slice"] + " " + table["value"] + " (n=" + table["rows"].astype(str) + ")"
        axes.barh(names, table[problem.PRIMARY_METRIC])


def _importance(axes: Axes, holdout: pd.DataFrame, pipeline: Any) -> None:
    from sklearn.inspection import permutation_importance

    def score(model: Any, rows: pd.DataFrame, y: pd.Series) -> float:
        return -problem.evaluate(y.to_numpy(), predict(model, rows))[problem.PRIMARY_METRIC]

    rows = holdout.sample(min(ROWS_OF_THE_IMPORTANCE, len(holdout)), random_state=0)
    inputs, y = rows[schema.names()], rows[problem.TARGET]
    shuffled = permutation_importance(pipeline, inputs, y, scoring=score, n_repeats=1, random_state=0)
    ranked = pd.Series(shuffled.importances_mean, schema.names()).sort_values()
    axes.barh(ranked.index, ranked)
    axes.set(title="What the model relies on", xlabel=f"{problem.PRIMARY_METRIC} lost when the input is shuffled")


def tables(holdout: pd.DataFrame, predictions: Predictions) -> dict[str, pd.DataFrame]:
    """The tables of the model card, by title."""
    y, p = holdout[problem.TARGET].to_numpy(), predictions[EVALUATED]
    intervals = metrics.with_intervals(y, p, metrics.days(holdout))
    scores = {name: _scores(y, column) for name, column in predictions.items()}
    small = gate.rules().slice_min_rows
    return {
        "Metrics on the newest days, with 95 % intervals": intervals.reset_index(names="metric"),
        "Against simpler models": pd.DataFrame(scores).T.reset_index(names="model"),
        "By slice": metrics.by_slice(holdout, p, small),
        "Gaps between groups (reported, not blocking)": metrics.group_gaps(holdout, p, small),
    }


def _scores(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """The metrics, and what a decision costs on average where the problem says so."""
    dollars = metrics.cost(y, p)
    return problem.evaluate(y, p) | ({} if dollars is None else {"cost of a decision": dollars})


def dollars(
    holdout: pd.DataFrame, predictions: Predictions, champion: str | None, monitored: dict[str, Any] | None
) -> pd.DataFrame:
    """What the candidate's decisions cost on the holdout, and those of the champion since its promotion.

    Args:
        holdout: the newest days, with labels.
        predictions: see `plots`.
        champion: that serves now.
        monitored: what the newest monitoring run before this training recorded.

    Returns:
        A line for each of the two; none for the champion before it was monitored, and no line without COSTS.
    """
    own = decisions.count(holdout[problem.TARGET].to_numpy(), predictions[EVALUATED])
    lines = [_spent("this model, on the holdout", own, len(np.unique(metrics.days(holdout))))] if own else []
    recorded = (
        monitored["dollars"] if monitored and monitored["champion"] == champion and "dollars" in monitored else None
    )
    if own and recorded:
        served = TypeAdapter(decisions.SincePromotion).validate_python(recorded)
        whose = f"champion {champion}, from its promotion at {local(served.since)} to {local(served.until)}"
        lines += [_spent(whose, served.total, served.days)] if served.total.rows else []
    return pd.DataFrame(lines)


def _spent(whose: str, of: decisions.Decisions, days: float) -> dict[str, str]:
    line = {"decisions": whose, "rows": f"{of.rows:,}", "the best constant decision": of.best_constant}
    for kind, value in (("lost", of.lost), ("saved", of.saved)):
        parts = {"": value, " per 1,000 rows": 1000 * value / of.rows, " a day": value / days}
        line |= {f"{kind}{per}, $": f"{amount:,.0f}" for per, amount in parts.items()}
    return line


def model_card(origin: dict[str, Any], verdict: Verdict, tables: dict[str, pd.DataFrame]) -> str:
    """The model card in Markdown: what it is for, from what it was made, how good it is, for whom."""
    lines = [f"# Model card: {problem.NAME}", "", (problem.__doc__ or "").strip(), "", "## Where it comes from", ""]
    lines += [f"- {name}: {value}" for name, value in origin.items()]
    lines += ["", f"## Verdict of the gate: {verdict.status.upper()}", ""]
    lines += [f"- {check.status}: {check.name} — {check.message}" for check in verdict.checks]
    for title, table in tables.items():
        lines += ["", f"## {title}", "", _markdown(table) if len(table) else "not applicable, or too few rows"]
    lines += [
        "",
        "The metrics are those of the evaluation model, on days that it had not seen. The served model is the same recipe, "
        "fitted on all matured rows.",
        "",
    ]
    return "\n".join(lines)


def _markdown(table: pd.DataFrame) -> str:
    cells = [
        [f"{value:.4f}" if isinstance(value, float) else str(value) for value in row]
        for row in table.itertuples(index=False)
    ]
    rows = [list(map(str, table.columns)), ["---"] * len(table.columns), *cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
