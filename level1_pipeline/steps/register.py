"""TODO docstring."""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.write import seal_bundle
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation import gate, metrics
from level1_pipeline.evaluation.gate import Check, Verdict
from level1_pipeline.steps import model_card
from level1_pipeline.steps.step import Facts, Run, step

# What a program needs to load the model; the service has a complete lock of its own.
NEEDED = ("scikit-learn", "skops", "numpy", "pandas")


def final_verdict(facts: dict[str, Facts]) -> Verdict:
    """All checks of the judged model and, when it passed, of its refitted twin."""
    checks = [*json.loads(facts["evaluate"]["verdict"])["checks"], *facts["refit"]["checks"]]
    return Verdict(tuple(Check(**check) for check in checks))


@step
def register(run: Run, facts: dict[str, Facts]) -> Facts:
    """One MLflow run with everything that is known; two versions (judged and refitted) if it passed."""
    import mlflow

    registry, verdict = run.registry, final_verdict(facts)
    experiment = registry.experiment(f"{problem.NAME}/{run.experiment}" if run.experiment else problem.NAME)
    _end_interrupted_runs(run, registry, experiment)
    previous = registry.route().champion
    with mlflow.start_run(experiment_id=experiment, run_name=f"as of {run.day}") as active:
        run_id = active.info.run_id
        mlflow.set_tags(_tags(run, facts, verdict, previous))
        judged = _loaded(run)
        _log_numbers(facts, judged)
        _log_files(run, facts, verdict, judged, previous)
        versions = {} if run.experiment or verdict.status != "pass" else _register_both(run, facts, run_id, judged)
    return {
        "run_id": run_id,
        "outcome": verdict.status,
        "reasons": verdict.reasons,
        "versions": versions,
        "previous": previous,
    }


def _loaded(run: Run) -> Any:
    """The judged pipeline; None when it cannot be loaded, which is written down as the gate's reason."""
    try:
        return load_bundle(run.path("judged")).pipeline
    except BundleRefused:
        return None


def _end_interrupted_runs(run: Run, registry: Any, experiment: str) -> None:
    """A killed run stays RUNNING in MLflow for ever; the one that resumes it says what happened."""
    for left in registry.client.search_runs(
        [experiment], f"tags.run_key = '{run.key}' and attributes.status = 'RUNNING'"
    ):
        registry.client.set_terminated(left.info.run_id, "KILLED")


def _tags(run: Run, facts: dict[str, Facts], verdict: Verdict, previous: str | None) -> dict[str, str]:
    return {
        "as_of": run.as_of,
        "verdict": verdict.status,
        "reasons": "; ".join(verdict.reasons),
        "trigger": run.trigger,
        "reason": run.reason,
        "evidence": json.dumps(run.evidence),
        "run_key": run.key,
        "previous_champion": previous or "",
        "value_skew": (facts["validate"]["value_skew"] or {}).get("verdict", "no champion yet"),
        "data_digest": facts["extract"]["files"]["rows.parquet"],
        "mlflow.user": run.registry.settings.who,
        **run.identity,
    }


def _log_numbers(facts: dict[str, Facts], judged: Any) -> None:
    import mlflow

    parameters = judged.get_params() if judged else facts["train"]["parameters"]
    simple = {name: value for name, value in parameters.items() if isinstance(value, int | float | str | bool)}
    mlflow.log_params(simple)
    mlflow.log_params({f"rows_{part}": facts["split"][part] for part in ("train", "holdout")})
    mlflow.log_params({name: facts["split"][name] for name in ("train_min", "train_max", "holdout_min", "holdout_max")})
    mlflow.log_metrics({name: value for name, value in facts["evaluate"]["metrics"].items() if value == value})


def _log_files(run: Run, facts: dict[str, Facts], verdict: Verdict, judged: Any, previous: str | None) -> None:
    import mlflow

    train, holdout, predictions = (
        pd.read_parquet(run.path(f"{name}.parquet")) for name in ("train", "holdout", "predictions")
    )
    for name, rows in (("train", train), ("holdout", holdout)):
        digest = facts["split"]["files"][f"{name}.parquet"][:36]
        mlflow.log_input(mlflow.data.from_pandas(rows.head(100), name=name, digest=digest), context=name)
    for path in ("checks.html", "search.json"):
        mlflow.log_artifact(str(run.path(path)))
    comparison = json.loads(facts["evaluate"]["verdict"])["comparison"]
    mlflow.log_dict({**verdict.as_dict(), "comparison": comparison}, "verdict.json")
    if facts["evaluate"]["metrics"] and judged:
        for image in model_card.plots(run.path(""), holdout, predictions, judged):
            mlflow.log_artifact(str(image), "plots")
    run.path("model_card.md").write_text(_card(run, facts, verdict, holdout, predictions, previous))
    mlflow.log_artifact(str(run.path("model_card.md")))


def _card(
    run: Run,
    facts: dict[str, Facts],
    verdict: Verdict,
    holdout: pd.DataFrame,
    predictions: pd.DataFrame,
    previous: str | None,
) -> str:
    y, p = holdout[problem.TARGET].to_numpy(), predictions["judged"].to_numpy()
    tables = {}
    if facts["evaluate"]["metrics"]:
        intervals = metrics.with_intervals(y, p, metrics.days(holdout))
        scores = {name: problem.evaluate(y, column.to_numpy()) for name, column in predictions.items()}
        small = gate.rules().slice_min_rows
        tables = {
            "Metrics on the newest days, with 95 % intervals": intervals.reset_index(names="metric"),
            "Against simpler models": pd.DataFrame(scores).T.reset_index(names="model"),
            "By slice": metrics.by_slice(holdout, p, small),
            "Gaps between groups (reported, not blocking)": metrics.group_gaps(holdout, p, small),
        }
    dates = facts["split"]
    known = {
        "as of": f"{run.time.tz_convert(problem.TIMEZONE):%Y-%m-%d %H:%M} {problem.TIMEZONE}",
        "trained on": f"{dates['train']:,} rows from {dates['train_min'][:10]} to {dates['train_max'][:10]}",
        "judged on": f"{dates['holdout']:,} rows from {dates['holdout_min'][:10]} to {dates['holdout_max'][:10]}",
        "data digest": facts["extract"]["files"]["rows.parquet"],
        "repaired readings": facts["extract"]["repaired"] or "none",
        "previous champion": previous or "none",
        "trigger": f"{run.trigger} {run.reason}".strip(),
        **run.identity,
    }
    return model_card.model_card(known, verdict, tables)


def _register_both(run: Run, facts: dict[str, Facts], run_id: str, judged: Any) -> dict[str, str]:
    """First the judged model, then its refitted twin, which points to it. Only the twin is to be served."""
    known = {"run_id": run_id, "verdict": "pass", "metrics": facts["evaluate"]["metrics"]}
    versions: dict[str, str] = {}
    for name, pipeline in (("judged", judged), ("refitted", load_bundle(run.path("refitted")).pipeline)):
        twin = {"judged_version": versions["judged"]} if versions else {}
        folder = seal_bundle(run.path(name), run.path(f"sealed-{name}"), known | twin)
        model_uri = _log_model(run, pipeline, name)
        tags = {"kind": name, "as_of": run.as_of, "verdict": "pass", **twin}
        versions[name] = run.registry.register(run_id, model_uri, folder, tags)
    return versions


def _log_model(run: Run, pipeline: Any, name: str) -> str:
    import mlflow.sklearn

    sample = pd.read_parquet(run.path("holdout.parquet")).head(100)
    signature = mlflow.models.infer_signature(sample[schema.names()], predict(pipeline, sample))
    logged = mlflow.sklearn.log_model(
        pipeline,
        name=name,
        serialization_format="skops",
        skops_trusted_types=list(problem.TRUSTED_TYPES),
        signature=signature,
        pip_requirements=[f"{package}=={metadata.version(package)}" for package in NEEDED],
        pyfunc_predict_fn="predict_proba" if problem.TASK == "classification" else "predict",
    )
    return str(logged.model_uri)
