"""What people look at: plots and model card of a training run, and the page of its data checks.

Pages carry everything inside and need no network.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation.data_checks import Finding
from level1_pipeline.evaluation.drift import DriftTest
from level1_pipeline.evaluation.gate import Verdict, rules
from level1_pipeline.evaluation.metrics import by_slice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}th,td{border-bottom:1px solid #ddd;padding:.35rem .8rem;text-align:left}
.pass{color:#176f2c}.fail{color:#b3261e}h1{font-size:1.6rem}code{background:#f3f3f3;padding:.1rem .3rem}"""


def checks_page(path: Path, broken: list[Finding], checked: int, rows: int, skew: DriftTest | None) -> None:
    """The result of the data checks as one HTML page."""
    state = (
        ("fail", f"{len(broken)} of {checked} expectations are broken")
        if broken
        else ("pass", f"all {checked} expectations hold")
    )
    findings = pd.DataFrame([vars(f) | {"examples": ", ".join(f.examples)} for f in broken])
    parts = [f"<h1>Data checks of {problem.NAME}</h1><p class={state[0]}><b>{state[1]}</b> on {rows:,} rows.</p>"]
    parts.append(findings.to_html(index=False, border=0) if broken else "")
    parts.append("<h2>Value skew against the data of the champion</h2>")
    if skew is None:
        parts.append("<p>There is no champion yet, so there is nothing to compare with.</p>")
    else:
        parts.append(
            f"<p><b>{skew.verdict}</b>: {html.escape(skew.reason)}. Value skew stops nothing; it is a reason to train again.</p>"
        )
        ranked = pd.DataFrame(
            list(skew.columns.items()), columns=["day summary of an input", "effect (standard deviations between days)"]
        )
        parts.append(ranked.to_html(index=False, border=0, float_format="{:.2f}".format))
    rules_table = pd.DataFrame([vars(c) for c in schema.columns()]).fillna("").astype(str)
    parts.append(
        "<h2>The Record, from which the expectations are made</h2>" + rules_table.to_html(index=False, border=0)
    )
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>Data checks</title><style>{STYLE}</style>{''.join(parts)}"
    )


def plots(folder: Path, holdout: pd.DataFrame, predictions: pd.DataFrame, pipeline: Any) -> list[Path]:
    """Calibration, ranking, slices and importance, each as one PNG. `predictions`: a column a model."""
    from matplotlib.figure import Figure

    classify = problem.TASK == "classification"
    drawings = {
        "calibration": lambda axes: _calibration(axes, holdout, predictions),
        "roc" if classify else "residuals": lambda axes: (_roc if classify else _residuals)(axes, holdout, predictions),
        "slices": lambda axes: _slices(axes, holdout, predictions),
        "importance": lambda axes: _importance(axes, holdout, pipeline),
    }
    paths = []
    for name, draw in drawings.items():
        figure = Figure(figsize=(7, 5), layout="constrained")
        draw(figure.subplots())
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=100)
    return paths


def _calibration(axes: Axes, holdout: pd.DataFrame, predictions: pd.DataFrame) -> None:
    y, p = holdout[problem.TARGET].to_numpy(), predictions["judged"].to_numpy()
    bins = pd.qcut(p, 10, duplicates="drop")
    grouped = pd.DataFrame({"p": p, "y": y}).groupby(bins, observed=True).mean()
    ends = [float(grouped.to_numpy().min()), float(grouped.to_numpy().max())]
    axes.plot(ends, ends, color="0.6", linestyle="--", label="perfect")
    axes.plot(grouped["p"], grouped["y"], marker="o", label="a tenth of the rows each")
    axes.set(
        title="Do predictions mean what they say?", xlabel="mean prediction", ylabel=f"mean {problem.TARGET} observed"
    )
    axes.legend()


def _roc(axes: Axes, holdout: pd.DataFrame, predictions: pd.DataFrame) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    for name, p in predictions.items():
        wrong, right, _ = roc_curve(holdout[problem.TARGET], p)
        axes.plot(wrong, right, label=f"{name} (AUC {roc_auc_score(holdout[problem.TARGET], p):.3f})")
    axes.set(
        title="How well are rows ranked?",
        xlabel="false alarms (share of negatives)",
        ylabel="hits (share of positives)",
    )
    axes.legend(loc="lower right")


def _residuals(axes: Axes, holdout: pd.DataFrame, predictions: pd.DataFrame) -> None:
    axes.scatter(predictions["judged"], holdout[problem.TARGET], s=4, alpha=0.4)
    axes.set(title="Predicted and observed", xlabel="predicted", ylabel=f"observed {problem.TARGET}")


def _slices(axes: Axes, holdout: pd.DataFrame, predictions: pd.DataFrame) -> None:
    table = by_slice(holdout, predictions["judged"].to_numpy(), rules().slice_min_rows)
    axes.set(title=f"{problem.PRIMARY_METRIC} by slice (lower is better)", xlabel=problem.PRIMARY_METRIC)
    if not table.empty:
        table = table.sort_values(problem.PRIMARY_METRIC)
        axes.barh(
            table["slice"] + " " + table["value"] + " (n=" + table["rows"].astype(str) + ")",
            table[problem.PRIMARY_METRIC],
        )


def _importance(axes: Axes, holdout: pd.DataFrame, pipeline: Any) -> None:
    rows = holdout.sample(min(1000, len(holdout)), random_state=0)
    y, draws, loss = rows[problem.TARGET].to_numpy(), np.random.default_rng(0), {}
    whole = problem.evaluate(y, predict(pipeline, rows))[problem.PRIMARY_METRIC]
    for name in schema.names():
        shuffled = rows.assign(**{name: draws.permutation(rows[name].to_numpy())}).astype({name: rows[name].dtype})
        loss[name] = problem.evaluate(y, predict(pipeline, shuffled))[problem.PRIMARY_METRIC] - whole
    ranked = pd.Series(loss).sort_values()
    axes.barh(ranked.index, ranked)
    axes.set(title="What the model relies on", xlabel=f"{problem.PRIMARY_METRIC} lost when the input is shuffled")


def model_card(facts: dict[str, Any], verdict: Verdict, tables: dict[str, pd.DataFrame]) -> str:
    """The model card in Markdown: what it is for, from what it was made, how good it is, for whom."""
    canvas = (problem.__doc__ or "").split("The contract\n")[0].strip()
    lines = [f"# Model card: {problem.NAME}", "", canvas, "", "## Where it comes from", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", f"## Verdict of the gate: {verdict.status.upper()}", ""]
    lines += [f"- {check.status}: {check.name} — {check.message}" for check in verdict.checks]
    for title, table in tables.items():
        lines += ["", f"## {title}", "", _markdown(table) if len(table) else "not applicable, or too few rows"]
    lines += [
        "",
        "Metrics are those of the judged model on days that it had not seen; the served one is the same recipe, fitted on all matured rows.",
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
