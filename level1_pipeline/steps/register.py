"""Step 7: one MLflow run with everything that is known and, if all checks passed, one registered version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import EVALUATION_MODEL, OWN_TYPES, load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.write import seal_bundle
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation.gate import Status, Verdict
from level1_pipeline.registry import Registry, mlflow_pages
from level1_pipeline.registry.mlflow_pages import CARD
from level1_pipeline.schema.task import task
from level1_pipeline.steps import model_card
from level1_pipeline.steps.evaluate import Evaluated
from level1_pipeline.steps.extract import Extracted
from level1_pipeline.steps.refit import SERVED_MODEL, Refitted
from level1_pipeline.steps.split import HOLDOUT, TRAIN, Split
from level1_pipeline.steps.step import Run, StepResult, step
from level1_pipeline.steps.train import SEARCHED, Trained, read_predictions
from level1_pipeline.steps.validate import PAGE, Validated

# What a program needs to load the model; the service has a complete lock of its own.
REQUIREMENTS_OF_THE_MODEL = ("scikit-learn", "skops", "numpy", "pandas")


@dataclass(frozen=True, kw_only=True)
class Registered(StepResult):
    """The MLflow run, the verdict of all checks, and the version, if there is one."""

    run_id: str
    status: Status
    reasons: list[str]
    version: str | None

    @property
    def message(self) -> str:
        """The version."""
        return f"version {self.version}" if self.version else "no version"


@dataclass(frozen=True)
class Training:
    """The results of all steps before this one."""

    extracted: Extracted
    validated: Validated
    parts: Split
    trained: Trained
    evaluated: Evaluated
    refitted: Refitted

    @property
    def verdict(self) -> Verdict:
        """All checks: of the evaluation model and, when it passed, of the served model."""
        return Verdict((*self.evaluated.verdict.checks, *self.refitted.checks), self.evaluated.verdict.comparison)


@step
def register(
    run: Run,
    extracted: Extracted,
    validated: Validated,
    parts: Split,
    trained: Trained,
    evaluated: Evaluated,
    refitted: Refitted,
) -> Registered:
    """Write everything down in MLflow, and register the served model with the evaluation model as its evidence."""
    import mlflow

    training = Training(extracted, validated, parts, trained, evaluated, refitted)
    registry, verdict = run.registry, training.verdict
    experiment = registry.experiment(f"{problem.NAME}/{run.experiment}" if run.experiment else problem.NAME)
    _end_interrupted_runs(run, registry, experiment)
    with mlflow.start_run(experiment_id=experiment, run_name=f"as of {run.day}: {verdict.status}") as active:
        run_id, version = active.info.run_id, None
        about = _description(run, training)
        mlflow.set_tags(_tags(run, training) | {mlflow_pages.NOTE: about})
        evaluation_model = _loaded(run)
        _log_numbers(training, evaluation_model)
        _log_files(run, training, evaluation_model)
        if verdict.status == "pass" and not run.experiment:
            about += f" · {mlflow_pages.card_link(experiment, run_id)}"
            version = _register_version(run, run_id, evaluated.metrics, about)
            mlflow.set_tag("version", version)
    return Registered(run_id=run_id, status=verdict.status, reasons=verdict.reasons, version=version)


def _loaded(run: Run) -> Any:
    """The evaluation model; None when it cannot be loaded, which is written down as the gate's reason."""
    try:
        return load_bundle(run.path(EVALUATION_MODEL)).pipeline
    except BundleRefused:
        return None


def _end_interrupted_runs(run: Run, registry: Registry, experiment: str) -> None:
    """A killed run stays RUNNING in MLflow for ever; the one that resumes it says what happened."""
    running = f"tags.run_key = '{run.key}' and attributes.status = 'RUNNING'"
    for left in registry.client.search_runs([experiment], running):
        registry.client.set_terminated(left.info.run_id, "KILLED")


def _tags(run: Run, training: Training) -> dict[str, str]:
    verdict = training.verdict
    return {
        "as_of": run.as_of,
        "verdict": verdict.status,
        "reasons": "; ".join(verdict.reasons),
        "trigger": run.trigger,
        "reason": run.reason,
        "evidence": json.dumps(run.evidence),
        "run_key": run.key,
        "previous_champion": training.evaluated.champion or "",
        "value_skew": training.validated.drift_verdict,
        "data_digest": training.extracted.data_digest,
        "mlflow.user": run.registry.settings.who,
        **run.identity,
    }


def _log_numbers(training: Training, model: Any) -> None:
    import mlflow

    parameters = model.get_params() if model else training.trained.parameters
    parts = {"train": training.parts.train, "holdout": training.parts.holdout}
    mlflow.log_params(
        {name: value for name, value in parameters.items() if isinstance(value, int | float | str | bool)}
    )
    mlflow.log_params({f"rows_{name}": part.rows for name, part in parts.items()})
    mlflow.log_params({f"{name}_min": part.first for name, part in parts.items()})
    mlflow.log_params({f"{name}_max": part.last for name, part in parts.items()})
    mlflow.log_metrics({name: value for name, value in training.evaluated.metrics.items() if value == value})
    if comparison := training.verdict.comparison:
        mlflow.log_metric(mlflow_pages.GAIN, comparison.gain)


def _log_files(run: Run, training: Training, model: Any) -> None:
    import mlflow

    holdout, predictions = pd.read_parquet(run.path(HOLDOUT)), read_predictions(run)
    for name, file in (("train", TRAIN), ("holdout", HOLDOUT)):
        sample = pd.read_parquet(run.path(file)).head(100)
        digest = training.parts.files[file][:36]
        mlflow.log_input(mlflow.data.from_pandas(sample, name=name, digest=digest), context=name)
    for file in (PAGE, SEARCHED):
        mlflow.log_artifact(str(run.path(file)))
    mlflow.log_dict(training.verdict.as_dict(), "verdict.json")
    if training.evaluated.metrics and model:
        age = training.evaluated.staleness
        ageing = {f"as of {run.day}": age} if age else None
        for image in model_card.plots(run.path(""), holdout, predictions, model, ageing):
            mlflow.log_artifact(str(image), "plots")
    tables = _tables(run, holdout, predictions, training.evaluated) if training.evaluated.metrics else {}
    card = model_card.model_card(_origin(run, training), training.verdict, tables)
    run.path(CARD).write_text(card, encoding="utf-8")
    mlflow.log_artifact(str(run.path(CARD)))


def _tables(
    run: Run, holdout: pd.DataFrame, predictions: pd.DataFrame, evaluated: Evaluated
) -> dict[str, pd.DataFrame]:
    """Those of the model card; what the champion has cost is known from the monitoring, if there was a run."""
    monitored = run.registry.store.newest_monitoring(problem.NAME, run.time.to_pydatetime())
    spent = model_card.dollars(holdout, predictions, evaluated.champion, monitored)
    return {
        **model_card.tables(holdout, predictions),
        "Dollars lost, and saved against the best constant decision": spent,
    }


def _origin(run: Run, training: Training) -> dict[str, Any]:
    train, holdout = training.parts.train, training.parts.holdout
    return {
        "as of": f"{run.time.tz_convert(problem.TIMEZONE):%Y-%m-%d %H:%M} {problem.TIMEZONE}",
        "trained on": f"{train.rows:,} rows from {train.first[:10]} to {train.last[:10]}",
        "judged on": f"{holdout.rows:,} rows from {holdout.first[:10]} to {holdout.last[:10]}",
        "data digest": training.extracted.data_digest,
        "impossible readings made missing": training.extracted.repairs or "none",
        "previous champion": training.evaluated.champion or "none",
        "one-rule baseline": training.trained.one_rule,
        "trigger": f"{run.trigger} {run.reason}".strip(),
        **run.identity,
    }


def _description(run: Run, training: Training) -> str:
    evaluated, comparison = training.evaluated, training.verdict.comparison
    loss, gain = evaluated.metrics.get(problem.PRIMARY_METRIC), comparison.gain if comparison else None
    return mlflow_pages.description(
        run.day, training.verdict.status, loss, gain, evaluated.champion or None, run.trigger
    )


def _register_version(run: Run, run_id: str, metrics: dict[str, float], about_version: str) -> str:
    """The served model as a version, whose bundle holds the evaluation model."""
    about = {"run_id": run_id, "verdict": "pass", "metrics": metrics}
    folder = seal_bundle(run.path(SERVED_MODEL), run.path("bundle"), about, run.path(EVALUATION_MODEL))
    model_uri = log_model(load_bundle(folder).pipeline, pd.read_parquet(run.path(HOLDOUT)).head(100))
    return run.registry.register(run_id, model_uri, folder, {"as_of": run.as_of, "verdict": "pass"}, about_version)


def log_model(pipeline: Any, rows: pd.DataFrame) -> str:
    """Log a fitted pipeline in the active MLflow run, with the signature of `rows`; returns its address."""
    import mlflow.sklearn

    signature = mlflow.models.infer_signature(rows[schema.names()], predict(pipeline, rows))
    logged = mlflow.sklearn.log_model(
        pipeline,
        name=SERVED_MODEL,
        serialization_format="skops",
        skops_trusted_types=[*problem.TRUSTED_TYPES, *OWN_TYPES],
        signature=signature,
        pip_requirements=[f"{package}=={metadata.version(package)}" for package in REQUIREMENTS_OF_THE_MODEL],
        pyfunc_predict_fn="predict_proba" if task().has_classes else "predict",
    )
    return str(logged.model_uri)
